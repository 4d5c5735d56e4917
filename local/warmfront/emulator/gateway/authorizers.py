"""Which check stands before each route of an API, enforced or not. Composes the authorizers; checks nothing itself."""

import importlib.util
from collections.abc import Awaitable, Callable
from typing import Final

from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.credentials import DeniedError
from warmfront.emulator.gateway.dialects import Failure
from warmfront.emulator.gateway.exchange import Call
from warmfront.emulator.gateway.jwt_authorizer import JwtCheck, KeySource, unverified_context
from warmfront.emulator.gateway.lambda_authorizer import LambdaCheck
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Api, Authorizer, JwtAuthorizer, LambdaAuthorizer, TemplateError

Check = Callable[[Call], Awaitable[dict[str, object] | None]]
"""Gives `requestContext.authorizer`, or raises DeniedError."""


class Checks:
    """Makes the checks of one API."""

    def __init__(
        self,
        api: Api,
        *,
        enforce: bool,
        keys: KeySource | None,
        trust_tokens: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        region: str,
        invoke: Callable[[str, bytes, str], Awaitable[InvocationResult]],
    ) -> None:
        self._api = api
        self._enforce = enforce
        self._keys = keys
        self._trust_tokens = trust_tokens
        self._clock = clock
        self._monotonic = monotonic
        self._region = region
        self._invoke = invoke
        self._made: dict[str, Check | None] = {}

    def check(self, name: str | None) -> Check | None:
        """The check of a route's authorizer; one per authorizer, so that routes share its cache. None: open."""
        if name is None:
            return None
        if name not in self._made:
            authorizer = self._api.authorizers.get(name)
            self._made[name] = self._make(name, authorizer) if self._enforce else self._pass_on(authorizer)
        return self._made[name]

    def _make(self, name: str, authorizer: Authorizer | None) -> Check:
        rest = self._api.kind == "rest"
        if isinstance(authorizer, JwtAuthorizer):
            if not self._trust_tokens and importlib.util.find_spec("jwt") is None:
                raise TemplateError(f"authorizer {name} verifies tokens with PyJWT: pip install 'pyjwt[crypto]'")
            return JwtCheck(authorizer, self._keys, verify=not self._trust_tokens, clock=self._clock, rest=rest)
        if isinstance(authorizer, LambdaAuthorizer):
            return LambdaCheck(
                authorizer,
                self._invoke,
                _event_builder(self._api, authorizer),
                clock=self._monotonic,
                region=self._region,
                rest=rest,
            )
        what = authorizer.what if authorizer is not None else "not declared in a way that is read here"
        return _refuse(f"authorizer {name} ({what}) cannot be checked locally; leave --enforce-auth out to pass it")

    def _pass_on(self, authorizer: Authorizer | None) -> Check | None:
        """Not enforced: a token's claims reach the handler, which needs them, and nobody vouches for them."""
        if not isinstance(authorizer, JwtAuthorizer):
            return None
        config: Final = authorizer
        rest = self._api.kind == "rest"

        async def pass_on(call: Call) -> dict[str, object] | None:
            return unverified_context(call, config, rest=rest)

        return pass_on


def _event_builder(api: Api, authorizer: LambdaAuthorizer) -> Callable[[Call], dict[str, object]]:
    if api.kind == "rest":
        return payload_v1.build_rest_event
    return payload.build_event if authorizer.payload_format == "2.0" else payload_v1.build_http_event


def _refuse(reason: str) -> Check:
    async def refuse(call: Call) -> dict[str, object] | None:  # noqa: ARG001 - a check takes the call
        raise DeniedError(Failure.FORBIDDEN, reason)

    return refuse
