"""One route of an API with everything its requests need: checks, integration, event builder and result parser."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.authorizers import Check
from warmfront.emulator.gateway.dialects import INTEGRATION_LIMIT_S, Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.gateway.stage_throttle import TokenBucket
from warmfront.emulator.template import Api, Route, Template

Step = Callable[[Call], Awaitable[Call]]
"""Something that happens to a request before its integration. Raises RefusedError."""
Integrate = Callable[[Call], Awaitable[Response]]
"""An integration that is no Lambda function. Raises RefusedError."""


@dataclass(slots=True)
class Endpoint:
    """A route with what its requests need, looked up once."""

    route: Route
    steps: tuple[Step, ...]
    integrate: Integrate | None
    """None: the function is invoked."""
    build: Callable[[Call], dict[str, object]]
    parse: Callable[[bytes, Call], Response]
    limit_s: float | None
    """The integration's limit, or None where the function's own timeout comes first."""
    target: str
    """What is invoked: the function, by the alias that SAM publishes it under where it has one."""
    direct: bool = field(init=False)
    """A request is an invocation and nothing else."""

    def __post_init__(self) -> None:
        self.direct = not self.steps and self.integrate is None and self.route.mapping is None


def create_endpoint(
    api: Api, route: Route, template: Template, *, steps: tuple[Step, ...], integrate: Integrate | None
) -> Endpoint:
    """Look up what requests of a route need."""
    return Endpoint(
        route,
        steps,
        integrate,
        event_builder(api, route),
        _parser(api, route),
        _limit_s(api, route, template),
        _target(route, template),
    )


def authorizing(check: Check) -> Step:
    """The step that runs an authorizer's check."""

    async def authorize(call: Call) -> Call:
        return call._replace(authorizer=await check(call))

    return authorize


def throttling(bucket: TokenBucket) -> Step:
    """The step that holds a route to its rate."""

    async def throttle(call: Call) -> Call:
        if not bucket.take():
            raise RefusedError(Failure.RATE_LIMITED, "ThrottlingRateLimit and ThrottlingBurstLimit")
        return call

    return throttle


def _target(route: Route, template: Template) -> str:
    config = template.functions.get(route.function)
    if config is None or config.auto_publish_alias is None:
        return route.function
    return f"{route.function}:{config.auto_publish_alias}"


def _limit_s(api: Api, route: Route, template: Template) -> float | None:
    limit_s = min(INTEGRATION_LIMIT_S[api.kind], route.timeout_ms / 1000)
    config = template.functions.get(route.function)
    if config is None:
        return limit_s
    # An init can outlast the function's timeout: it has ten seconds of its own.
    return limit_s if limit_s < config.timeout_s + 10 else None


def event_builder(api: Api, route: Route) -> Callable[[Call], dict[str, object]]:
    """The function that builds the events of a route."""
    if api.kind == "rest":
        return functools.partial(payload_v1.build_rest_event, binary_media_types=api.binary_media_types)
    if route.payload_format == "1.0":
        return payload_v1.build_http_event
    return payload.build_url_event if api.kind == "url" else payload.build_event


def _parser(api: Api, route: Route) -> Callable[[bytes, Call], Response]:
    if api.kind == "rest":
        return functools.partial(_parse_rest, binary_media_types=api.binary_media_types)
    if route.payload_format == "1.0":
        return lambda result, _call: payload_v1.parse_http_result(result)
    default = payload.JSON_TYPE if api.kind == "url" else payload.TEXT_TYPE
    return lambda result, _call: payload.parse_result(result, default_type=default)


def _parse_rest(result: bytes, call: Call, *, binary_media_types: tuple[str, ...]) -> Response:
    accept = call.request.head.fields.get("accept", "")
    return payload_v1.parse_rest_result(result, accept=accept, binary_media_types=binary_media_types)
