"""Puts together the endpoints of one API from its template: checks before each route, and its integration."""

from collections.abc import Awaitable, Callable, Iterator

from warmfront.emulator.gateway.api_keys import ApiKeyCheck
from warmfront.emulator.gateway.authorizers import Checks
from warmfront.emulator.gateway.cors import Cors
from warmfront.emulator.gateway.dialects import INTEGRATION_LIMIT_S, RefusedError
from warmfront.emulator.gateway.endpoints import Endpoint, Integrate, Step, authorizing, create_endpoint, throttling
from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.gateway.options import GatewayOptions
from warmfront.emulator.gateway.parameter_mapping import mapping_request
from warmfront.emulator.gateway.stage_throttle import buckets
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Api, HttpIntegration, MockIntegration, Route, Template


class EndpointFactory:
    """Makes the endpoints of one API."""

    def __init__(
        self,
        api: Api,
        template: Template,
        options: GatewayOptions,
        invoke: Callable[[str, bytes, str], Awaitable[InvocationResult]],
    ) -> None:
        self._api = api
        self._template = template
        self._debugged = options.debugged
        self._checks = Checks(
            api,
            enforce=options.enforce_auth,
            jwks=options.jwks,
            trust_tokens=options.trust_tokens,
            clock=options.stamps.clock,
            monotonic=options.monotonic,
            region=options.region,
            invoke=invoke,
        )
        self._key_check = ApiKeyCheck(
            api, enforce_plans=options.enforce_throttles, clock=options.stamps.clock, monotonic=options.monotonic
        )
        self._throttles = buckets(api, options.monotonic) if options.enforce_throttles else {}

    def endpoints(self) -> Iterator[tuple[str, str, Endpoint]]:
        """Method, path and endpoint of each route, and of the OPTIONS methods that SAM adds for a REST API's Cors."""
        for route in self._api.routes:
            yield route.method, route.path, self._endpoint(route)
        if self._api.kind == "rest" and self._api.cors is not None:
            yield from self._preflights(Cors(self._api.cors, "rest"))

    def _endpoint(self, route: Route) -> Endpoint:
        steps: list[Step] = []
        check = self._checks.check(route.authorizer)
        if check is not None:
            steps.append(authorizing(check))
        if route.api_key_required:
            steps.append(self._key_check)
        bucket = self._throttles.get(route.key)
        if bucket is not None:
            steps.append(throttling(bucket))
        if route.validation is not None:
            from warmfront.emulator.gateway.request_validation import RequestValidator  # few templates validate

            steps.append(RequestValidator(route.validation, f"{self._api.logical_id}: {route.key}"))
        if route.mapping is not None and route.integration is None:
            steps.append(mapping_request(route.mapping))
        integrate = self._integrate(route)
        endpoint = create_endpoint(self._api, route, self._template, steps=tuple(steps), integrate=integrate)
        if route.function in self._debugged:
            endpoint.limit_s = None
        return endpoint

    def _integrate(self, route: Route) -> Integrate | None:
        """Few templates have such integrations: their modules are imported only then."""
        if isinstance(route.integration, MockIntegration):
            from warmfront.emulator.gateway.mock_integration import Mock

            return Mock(route.integration)
        if isinstance(route.integration, HttpIntegration):
            from warmfront.emulator.gateway.http_backend import HttpBackend

            rest = self._api.kind == "rest"
            limit_s = min(INTEGRATION_LIMIT_S[self._api.kind], route.timeout_ms / 1000)
            return HttpBackend(route.integration, route.mapping, encoded_paths=rest, limit_s=limit_s)
        return None

    def _preflights(self, cors: Cors) -> Iterator[tuple[str, str, Endpoint]]:
        methods: dict[str, set[str]] = {}
        for route in self._api.routes:
            methods.setdefault(route.path, set()).add(route.method)
        check = self._checks.check(self._api.preflight_authorizer)
        steps = () if check is None else (authorizing(_explained(check)),)
        for path, found in methods.items():
            if "OPTIONS" not in found:
                route = Route(method="OPTIONS", path=path, function="", payload_format="1.0")
                answer = _answering(cors.rest_options(found))
                yield (
                    "OPTIONS",
                    path,
                    create_endpoint(self._api, route, self._template, steps=steps, integrate=answer),
                )


def _answering(response: Response) -> Integrate:
    async def answer(call: Call) -> Response:  # noqa: ARG001 - an integration takes the call
        return response

    return answer


def _explained(
    check: Callable[[Call], Awaitable[dict[str, object] | None]],
) -> Callable[[Call], Awaitable[dict[str, object] | None]]:
    """The check of a preflight, with the reason why it meets an authorizer at all."""

    async def explained(call: Call) -> dict[str, object] | None:
        try:
            return await check(call)
        except RefusedError as error:
            reason = (
                f"{error}; SAM puts the DefaultAuthorizer in front of preflights too, which carry no credentials: set"
                " AddDefaultAuthorizerToCorsPreflight: false under Auth"
            )
            raise RefusedError(error.failure, reason, error.challenge, message=error.message) from None

    return explained
