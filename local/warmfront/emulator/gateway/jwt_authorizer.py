"""Verifies tokens for JWT authorizers of HTTP APIs and Cognito authorizers of REST APIs: signature, claims and scopes.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call
from warmfront.emulator.gateway.variables import identity_value
from warmfront.emulator.template import JwtAuthorizer

ALGORITHMS: Final = ("RS256", "RS384", "RS512")
"""HTTP APIs take RSA only."""
FETCH_LIMIT_S: Final = 1.5
KEYS_FOR_S: Final = 7200.0
"""API Gateway keeps public keys for two hours."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_TIMES: Final = {
    "exp": "the token has expired",
    "nbf": "the token is not valid yet",
    "iat": "the token is issued in the future",
}
# The claims are checked below, as API Gateway checks them, not as the library would.
_SIGNATURE_ONLY: Final[Any] = {f"verify_{claim}": False for claim in ("exp", "aud", "nbf", "iat", "iss", "sub", "jti")}


class KeySource:
    """A JWKS in a file or at a URL, read when first needed and kept for two hours."""

    def __init__(self, location: str, *, discovery: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """`discovery`: the location is an issuer's OpenID configuration, which names the JWKS."""
        self.location = location
        self._discovery = discovery
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._fetched_s: float | None = None

    @classmethod
    def of(cls, jwks: str | None, issuer: str) -> "KeySource | None":
        """The keys of --jwks, else those of an issuer on this machine. None: no other issuer is asked."""
        if jwks is not None:
            return cls(jwks)
        if urlsplit(issuer).hostname in LOOPBACK:
            return cls(f"{issuer.rstrip('/')}/.well-known/openid-configuration", discovery=True)
        return None

    async def key(self, key_id: str | None) -> Any:
        """The signing key of that id (or the only one), None if there is none."""
        if self._fetched_s is None or self._clock() - self._fetched_s > KEYS_FOR_S:
            document = await asyncio.wait_for(asyncio.to_thread(self._read), FETCH_LIMIT_S)
            self._keys = _signing_keys(document)
            self._fetched_s = self._clock()
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id or "")

    def _read(self) -> bytes:
        if not self._discovery:
            return _fetch(self.location)
        location = json.loads(_fetch(self.location))["jwks_uri"]
        if urlsplit(location).hostname not in LOOPBACK:
            raise ValueError(f"jwks_uri {location} is not on this machine; give --jwks")
        return _fetch(location)


def _fetch(location: str) -> bytes:
    if not location.startswith(("http://", "https://")):
        return Path(location).read_bytes()
    import urllib.request  # with its http.client and email, only where keys are fetched

    # No proxy of the shell's: a proxy elsewhere cannot reach this machine's loopback.
    proxies: dict[str, str] | None = {} if urlsplit(location).hostname in LOOPBACK else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    with opener.open(location, timeout=FETCH_LIMIT_S) as response:
        return bytes(response.read())


def _signing_keys(document: bytes) -> dict[str, Any]:
    import jwt

    keys: dict[str, Any] = {}
    for entry in json.loads(document)["keys"]:
        try:
            keys[entry.get("kid", "")] = jwt.PyJWK.from_dict(entry)
        except jwt.PyJWTError:
            continue  # a key of a kind that no HTTP API takes
    return keys


class JwtCheck:
    """One JWT authorizer of one API."""

    def __init__(
        self,
        config: JwtAuthorizer,
        keys: KeySource | None,
        *,
        verify: bool = True,
        clock: Callable[[], float] = time.time,
        rest: bool = False,
    ) -> None:
        self._config = config
        self._keys = keys
        self._verify = verify
        self._clock = clock
        self._rest = rest

    async def __call__(self, call: Call) -> dict[str, object]:
        """`requestContext.authorizer` for the event. Raises RefusedError."""
        token = self._token(call)
        claims = await self._claims(token)
        self._check(claims)
        if self._rest:
            self._check_cognito(claims, call)
            return {"claims": _texts(claims)}
        return self._context(claims, call)

    @staticmethod
    def _check_cognito(claims: Mapping[str, Any], call: Call) -> None:
        """A method with scopes takes access tokens that have one of them; a method without takes identity tokens.

        docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-enable-cognito-user-pool.html
        """
        wanted, use = call.route.scopes, claims.get("token_use")
        if not wanted and use == "access":
            raise RefusedError(Failure.UNAUTHORIZED, "an access token, but the method has no AuthorizationScopes")
        if wanted and (use == "id" or not set(_scopes(claims)) & set(wanted)):
            raise RefusedError(Failure.UNAUTHORIZED, f"the token has none of the scopes {', '.join(wanted)}")

    def _token(self, call: Call) -> str:
        value = identity_value(call, self._config.identity_source)
        if not value:
            raise RefusedError(Failure.UNAUTHORIZED, "no token", _challenge())
        scheme, _, rest = value.partition(" ")
        return rest.strip() if scheme.lower() == "bearer" else value

    async def _claims(self, token: str) -> dict[str, Any]:
        if not self._verify:
            claims = read_claims(token)
            if claims is None:
                raise RefusedError(Failure.UNAUTHORIZED, "it is not a token", _challenge("the token is not valid"))
            return claims
        if self._keys is None:
            raise RefusedError(
                Failure.UNAUTHORIZED,
                f"no keys to verify tokens of {self._config.issuer or 'this issuer'}: give --jwks FILE or URL",
            )
        import jwt  # PyJWT, only where a signature is verified

        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.key(header.get("kid"))
            if key is None:
                raise RefusedError(Failure.UNAUTHORIZED, "its key is unknown", _challenge("the token has no known key"))
            return dict(jwt.decode(token, key, algorithms=list(ALGORITHMS), options=_SIGNATURE_ONLY))
        except jwt.PyJWTError as error:
            raise RefusedError(Failure.UNAUTHORIZED, str(error), _challenge("the token is not valid")) from None
        except (OSError, TimeoutError, ValueError, KeyError) as error:
            location = self._keys.location
            raise RefusedError(Failure.UNAUTHORIZED, f"the keys at {location} cannot be read: {error!r}") from None

    def _check(self, claims: Mapping[str, Any]) -> None:
        """iss, aud or client_id, exp, nbf, iat, as the authorizer's documentation lists them."""
        config, now = self._config, self._clock()
        if config.issuer and claims.get("iss") != config.issuer:
            raise RefusedError(
                Failure.UNAUTHORIZED, f"iss is {claims.get('iss')!r}", _challenge("the issuer is invalid")
            )
        if config.audience:
            named = claims.get("aud", claims.get("client_id"))
            audiences = named if isinstance(named, list) else [named]
            if not set(audiences) & set(config.audience):
                raise RefusedError(Failure.UNAUTHORIZED, f"aud is {named!r}", _challenge("the audience is invalid"))
        for claim, text in _TIMES.items():
            at = claims.get(claim)
            if at is None and claim != "exp":
                continue
            if not isinstance(at, int | float) or not (at > now if claim == "exp" else at <= now):
                raise RefusedError(Failure.UNAUTHORIZED, f"{claim} is {at!r}", _challenge(text))

    def _context(self, claims: Mapping[str, Any], call: Call) -> dict[str, object]:
        wanted = call.route.scopes
        if not wanted:
            return {"jwt": {"claims": _texts(claims), "scopes": None}}
        granted = _scopes(claims)
        if not set(granted) & set(wanted):
            challenge = f'Bearer scope="{" ".join(wanted)}" error="insufficient_scope"'
            raise RefusedError(Failure.FORBIDDEN, f"the token has none of the scopes {', '.join(wanted)}", challenge)
        return {"jwt": {"claims": _texts(claims), "scopes": granted}}


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    granted = claims.get("scope", claims.get("scp", ""))
    return list(map(str, granted)) if isinstance(granted, list) else str(granted).split()


def _challenge(description: str = "") -> str:
    """The WWW-Authenticate header; its wording is not confirmed by AWS's documentation."""
    return f'Bearer error="invalid_token" error_description="{description}"' if description else "Bearer"


def _texts(claims: Mapping[str, Any]) -> dict[str, str]:
    """Claims reach the event as strings; a list is written [a b]."""
    return {name: _text(value) for name, value in claims.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(_text(entry) for entry in value)}]"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def read_claims(token: str) -> dict[str, Any] | None:
    """A token's claims without a look at its signature; None if it is no token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def unverified_context(call: Call, config: JwtAuthorizer, *, rest: bool) -> dict[str, object] | None:
    """What the event says of a token when authorizers are not enforced; None: there is none that can be read."""
    value = identity_value(call, config.identity_source) or ""
    scheme, _, rest_of_value = value.partition(" ")
    claims = read_claims(rest_of_value.strip() if scheme.lower() == "bearer" else value)
    if claims is None:
        return None
    scopes = _scopes(claims) if call.route.scopes else None
    return {"claims": _texts(claims)} if rest else {"jwt": {"claims": _texts(claims), "scopes": scopes}}
