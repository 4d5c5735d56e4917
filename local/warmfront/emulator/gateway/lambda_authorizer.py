"""Runs Lambda authorizers of HTTP and REST APIs: builds their events, judges their answers and caches them.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
"""

import asyncio
import fnmatch
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from warmfront.emulator.gateway.api_keys import USAGE_KEY
from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call, encode_json
from warmfront.emulator.gateway.variables import identity_value
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError
from warmfront.emulator.template import LambdaAuthorizer

LIMIT_S: Final = 10.0
CACHE_MAX: Final = 10_000
_decode: Final = msgspec.json.Decoder().decode


class LambdaCheck:
    """One Lambda authorizer of one API, with its cache."""

    def __init__(
        self,
        config: LambdaAuthorizer,
        invoke: Callable[[str, bytes, str], Awaitable[InvocationResult]],
        event: Callable[[Call], dict[str, object]],
        *,
        clock: Callable[[], float],
        region: str,
        rest: bool,
    ) -> None:
        self._config = config
        self._invoke = invoke
        self._event = event
        self._clock = clock
        self._region = region
        self._rest = rest
        self._pattern = re.compile(config.validation_expression) if config.validation_expression else None
        self._cache: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}

    async def __call__(self, call: Call) -> dict[str, object]:
        """`requestContext.authorizer` for the event. Raises RefusedError."""
        values = self._identity(call)
        answer = self._remembered(values)
        if answer is None:
            answer = await self._ask(call, values)
            if self._config.ttl_s > 0 and values:
                self._remember(values, answer)
        return self._judge(answer, call)

    def _identity(self, call: Call) -> tuple[str, ...]:
        """All identity sources' values; one that is missing ends the request without a call of the authorizer."""
        values = []
        for source in self._config.identity_sources:
            value = identity_value(call, source)
            if value is None:
                raise RefusedError(Failure.UNAUTHORIZED, f"{source} is missing")
            values.append(value)
        if self._pattern is not None and not self._pattern.fullmatch(values[0]):
            raise RefusedError(Failure.UNAUTHORIZED, "the token does not match ValidationExpression")
        return tuple(values)

    def _remembered(self, values: tuple[str, ...]) -> dict[str, Any] | None:
        found = self._cache.get(values)
        if found is None:
            return None
        expires_s, answer = found
        if self._clock() >= expires_s:
            del self._cache[values]
            return None
        return answer

    def _remember(self, values: tuple[str, ...], answer: dict[str, Any]) -> None:
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()
        self._cache[values] = (self._clock() + self._config.ttl_s, answer)

    async def _ask(self, call: Call, values: tuple[str, ...]) -> dict[str, Any]:
        config = self._config
        if config.function is None:
            raise RefusedError(
                Failure.AUTHORIZER_FAILED, f"authorizer {config.name} names no function of this template"
            )
        event = encode_json(self.event(call, values))
        try:
            async with asyncio.timeout(LIMIT_S):
                result = await self._invoke(config.function, event, call.trace_id)
        except (TimeoutError, ServiceError) as error:
            raise RefusedError(Failure.AUTHORIZER_FAILED, f"authorizer {config.name}: {error!r}") from None
        if result.function_error is not None:
            raise self._error(result.payload)
        try:
            answer: Any = _decode(result.payload)
        except msgspec.DecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise RefusedError(Failure.AUTHORIZER_MISCONFIGURED, f"authorizer {config.name} did not return an object")
        return answer

    def _error(self, payload: bytes) -> RefusedError:
        """A REST authorizer says "Unauthorized" by raising exactly that; any other error is a failure."""
        try:
            message = _decode(payload).get("errorMessage")
        except (msgspec.DecodeError, AttributeError):
            message = None
        if message == "Unauthorized" and self._rest:
            return RefusedError(Failure.UNAUTHORIZED, "the authorizer raised Unauthorized")
        return RefusedError(Failure.AUTHORIZER_FAILED, f"authorizer {self._config.name} failed: {message}")

    def event(self, call: Call, values: tuple[str, ...]) -> dict[str, object]:
        """What the authorizer's function gets."""
        arn = self._arn(call)
        if self._config.kind == "token":
            return {"type": "TOKEN", "authorizationToken": values[0], "methodArn": arn}
        event = self._event(call)
        event.pop("body", None)
        event.pop("isBase64Encoded", None)
        if self._config.payload_format == "2.0":
            event["type"], event["routeArn"], event["identitySource"] = "REQUEST", arn, list(values) or None
            return event
        event["type"], event["methodArn"] = "REQUEST", arn
        if not self._rest:
            event["identitySource"] = event["authorizationToken"] = ",".join(values)
        return event

    def _arn(self, call: Call) -> str:
        context = call.context
        head = f"arn:aws:execute-api:{self._region}:{context.account_id}:{context.api_id}"
        return f"{head}/{context.stage}/{call.request.method}{call.path}"

    def _judge(self, answer: Mapping[str, Any], call: Call) -> dict[str, object]:
        extra = answer.get("context") or {}
        if not isinstance(extra, dict):
            raise RefusedError(
                Failure.AUTHORIZER_MISCONFIGURED, f"authorizer {self._config.name}: context is not an object"
            )
        if self._config.simple_responses:
            if answer.get("isAuthorized") is not True:
                raise RefusedError(
                    Failure.FORBIDDEN, f"authorizer {self._config.name} did not return isAuthorized: true"
                )
        else:
            self._judge_policy(answer, call)
        if self._rest or call.route.payload_format == "1.0":
            values = {key: self._context_text(key, value) for key, value in extra.items()} if self._rest else extra
            if self._rest and (key := answer.get(USAGE_KEY)) is not None:
                values[USAGE_KEY] = str(key)
            return {**values, "principalId": answer.get("principalId", ""), "integrationLatency": 0}
        return {"lambda": extra or None}

    def _judge_policy(self, answer: Mapping[str, Any], call: Call) -> None:
        document = answer.get("policyDocument")
        statements = document.get("Statement") if isinstance(document, dict) else None
        if isinstance(statements, dict):
            statements = [statements]
        if not isinstance(statements, list) or (self._rest and not answer.get("principalId")):
            raise RefusedError(
                Failure.AUTHORIZER_MISCONFIGURED,
                f"authorizer {self._config.name} returned no principalId and policyDocument",
            )
        arn = self._arn(call)
        effects = {
            statement.get("Effect")
            for statement in statements
            if isinstance(statement, dict) and _covers(statement, arn)
        }
        if "Deny" in effects:
            raise RefusedError(Failure.FORBIDDEN, f"authorizer {self._config.name}'s policy denies {arn}")
        if "Allow" not in effects:
            raise RefusedError(Failure.IMPLICIT_DENY, f"authorizer {self._config.name}'s policy does not allow {arn}")

    def _context_text(self, key: str, value: object) -> str:
        """REST APIs pass an authorizer's context on as strings, and refuse values that are no scalar.

        docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html; the status is from
        a comparison with AWS in dherault/serverless-offline pull request 1376.
        """
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return encode_json(value).decode()
        raise RefusedError(
            Failure.AUTHORIZER_MISCONFIGURED,
            f"authorizer {self._config.name}: context {key} is {type(value).__name__}; a REST API takes strings, numbers"
            " and booleans only",
        )


def _covers(statement: Mapping[str, Any], arn: str) -> bool:
    return _any_matches(statement.get("Action"), "execute-api:Invoke") and _any_matches(statement.get("Resource"), arn)


def _any_matches(patterns: Any, value: str) -> bool:
    patterns = patterns if isinstance(patterns, list) else [patterns]
    # IAM knows * and ? only; [ is an ordinary character there.
    return any(
        isinstance(pattern, str) and fnmatch.fnmatchcase(value.lower(), pattern.lower().replace("[", "[[]"))
        for pattern in patterns
    )
