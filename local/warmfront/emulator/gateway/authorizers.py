"""Makes the check that an authorizer runs before a route's integration."""

import importlib.util
from collections.abc import Awaitable, Callable

from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call
from warmfront.emulator.gateway.jwt_authorizer import JwtCheck, KeySource, unverified_context
from warmfront.emulator.gateway.lambda_authorizer import LambdaCheck
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Api, Authorizer, JwtAuthorizer, LambdaAuthorizer, TemplateError

Check = Callable[[Call], Awaitable[dict[str, object] | None]]
"""Returns `requestContext.authorizer`. Raises RefusedError."""


def needs_enforcing(authorizer: Authorizer | None) -> bool:
    """Whether an authorizer is checked only with --enforce-auth.

    Lambda authorizers are functions of the template, so they always run; tokens and signatures need keys from elsewhere.
    """
    return not isinstance(authorizer, LambdaAuthorizer) or authorizer.function is None


def has_keys(authorizer: JwtAuthorizer, jwks: str | None) -> bool:
    """Whether there are keys to verify an authorizer's tokens with: those of --jwks, or of an issuer on this machine."""
    return KeySource.of(jwks, authorizer.issuer) is not None


class Checks:
    """Makes the checks of one API, one for each authorizer, so that its routes share a cache of answers."""

    def __init__(
        self,
        api: Api,
        *,
        enforce: bool,
        jwks: str | None,
        trust_tokens: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        region: str,
        invoke: Callable[[str, bytes, str], Awaitable[InvocationResult]],
    ) -> None:
        """`jwks` is the file or URL of the keys for every issuer; None: each issuer's own, if it is on this machine."""
        self._api = api
        self._enforce = enforce
        self._jwks = jwks
        self._trust_tokens = trust_tokens
        self._clock = clock
        self._monotonic = monotonic
        self._region = region
        self._invoke = invoke
        self._made: dict[str, Check | None] = {}

    def check(self, name: str | None) -> Check | None:
        """The check of a route's authorizer; None where the route is open."""
        if name is None:
            return None
        if name not in self._made:
            authorizer = self._api.authorizers.get(name)
            enforced = self._enforce or not needs_enforcing(authorizer)
            self._made[name] = self._make(name, authorizer) if enforced else self._pass_on(authorizer)
        return self._made[name]

    def _make(self, name: str, authorizer: Authorizer | None) -> Check:
        rest = self._api.kind == "rest"
        if isinstance(authorizer, JwtAuthorizer):
            if not self._trust_tokens and importlib.util.find_spec("jwt") is None:
                raise TemplateError(f"authorizer {name} verifies tokens with PyJWT: pip install 'pyjwt[crypto]'")
            keys = KeySource.of(self._jwks, authorizer.issuer)
            return JwtCheck(authorizer, keys, verify=not self._trust_tokens, clock=self._clock, rest=rest)
        if isinstance(authorizer, LambdaAuthorizer):
            return LambdaCheck(
                authorizer,
                self._invoke,
                _event_builder(self._api, authorizer),
                clock=self._monotonic,
                region=self._region,
                rest=rest,
            )
        if authorizer is not None:
            return _refuse(
                Failure.NOT_SIGNED,
                f"{authorizer.what}: signatures cannot be verified locally; leave --enforce-auth out to skip them",
            )
        return _refuse(
            Failure.FORBIDDEN,
            f"authorizer {name} is not declared in this template; leave --enforce-auth out to skip it",
        )

    def _pass_on(self, authorizer: Authorizer | None) -> Check | None:
        """Without enforcement the handler gets a token's claims, which it needs, although nobody verified them."""
        if not isinstance(authorizer, JwtAuthorizer):
            return None
        config = authorizer
        rest = self._api.kind == "rest"

        async def pass_on(call: Call) -> dict[str, object] | None:
            return unverified_context(call, config, rest=rest)

        return pass_on


def _event_builder(api: Api, authorizer: LambdaAuthorizer) -> Callable[[Call], dict[str, object]]:
    if api.kind == "rest":
        return payload_v1.build_rest_event
    return payload.build_event if authorizer.payload_format == "2.0" else payload_v1.build_http_event


def _refuse(failure: Failure, reason: str) -> Check:
    async def refuse(call: Call) -> dict[str, object] | None:  # noqa: ARG001 - a check takes the call
        raise RefusedError(failure, reason)

    return refuse
