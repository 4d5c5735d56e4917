"""Database credentials, from Secrets Manager or an IAM token.

Imports an HTTP client (10 ms of CPU), so it is itself imported only by those whose login is not in the URL.

Every look-up is bounded; that it took too long is a TimeoutError, as if the database itself could not be reached. A login
is kept until the database refuses it, and then looked up once more. While a secret is being rotated, its new
password counts in the database before it is the current one in Secrets Manager (the rotation sets it, tries it, and
moves the label last: docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html), so a
current one that is refused makes way for a pending one. Connections that are open already are asked for no password.
"""

import asyncio
from collections.abc import Callable
from random import SystemRandom
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from shared.kit.aws_request import JsonService, NoAnswer, ServiceError, database_token
from shared.kit.clock import FreezeSafeClock
from shared.kit.settings import PostgresSettings

PAUSE_S = 0.05  # before another attempt, at most
TOKEN_S = 600.0  # a token lets in for 15 minutes: docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
# Of one attempt; how often to try is decided by the time that is left.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 0.5, 1.0
_CURRENT, _PENDING = "AWSCURRENT", "AWSPENDING"
_WILL_NOT_CHANGE = {
    "AccessDeniedException",
    "ResourceNotFoundException",
    "DecryptionFailure",
    "UnrecognizedClientException",
}


class NoLogin(ConnectionError):
    """No login is available, so the database is unreachable."""


class Login(Struct, frozen=True):
    user: str | None  # None: the address says
    password: str

    def __repr__(self) -> str:
        return "Login(...)"


class Logins(Protocol):
    async def known(self, remaining_s: float) -> Login: ...

    async def renewed(self, refused: Login, remaining_s: float) -> Login | None:
        """Another than the refused one; None if there is no other."""


type Fetch = Callable[[str], Login | None]  # the login under a label; None: there is none; blocks


class SecretLogins:
    """The login in a secret. Whoever asks at the same time shares one look-up."""

    def __init__(self, fetch: Fetch, *, look_up_s: float) -> None:
        self._fetch = fetch
        self._look_up_s = look_up_s  # all attempts of one look-up together
        self._turn = asyncio.Lock()
        self._known: Login | None = None

    async def known(self, remaining_s: float) -> Login:
        if self._known is None:
            async with asyncio.timeout(min(remaining_s, self._look_up_s)), self._turn:
                if self._known is None:
                    self._known = await self._look_up(_CURRENT)
        if self._known is None:
            raise NoLogin("the secret has no current version")
        return self._known

    async def renewed(self, refused: Login, remaining_s: float) -> Login | None:
        async with asyncio.timeout(min(remaining_s, self._look_up_s)), self._turn:
            if self._known != refused:
                return self._known  # another task has renewed it meanwhile
            for label in (_CURRENT, _PENDING):
                login = await self._look_up(label)
                if login is not None and login != refused:
                    self._known = login
                    return login
        return None

    async def _look_up(self, label: str) -> Login | None:
        """Again until it answers or the caller's time is over; a refusal will not change by asking again."""
        while True:
            try:
                return await asyncio.to_thread(self._fetch, label)
            except ServiceError as error:
                if error.code in _WILL_NOT_CHANGE:
                    raise NoLogin(f"Secrets Manager refused: {error.code}") from None
            except NoAnswer:
                pass
            await asyncio.sleep(PAUSE_S * SystemRandom().random())


class TokenLogins:
    """Tokens that IAM signs, here and without asking anybody; a refused one is signed anew."""

    def __init__(self, sign: Callable[[], str], *, look_up_s: float, clock: Callable[[], float] | None = None) -> None:
        self._sign = sign
        self._look_up_s = look_up_s
        self._clock = clock or FreezeSafeClock()  # it ages while the environment is frozen
        self._known: Login | None = None
        self._signed_s = 0.0

    async def known(self, remaining_s: float) -> Login:
        if self._known is None or self._clock() - self._signed_s >= TOKEN_S:
            async with asyncio.timeout(min(remaining_s, self._look_up_s)):
                return await self._signed()
        return self._known

    async def renewed(self, refused: Login, remaining_s: float) -> Login | None:
        if self._known != refused:
            return self._known
        async with asyncio.timeout(min(remaining_s, self._look_up_s)):
            return await self._signed()

    async def _signed(self) -> Login:
        signed_s = self._clock()
        try:
            token = await asyncio.to_thread(self._sign)
        except NoAnswer as error:
            raise NoLogin(f"no token: {error}") from None
        self._signed_s, self._known = signed_s, Login(None, token)
        return self._known


def logins(settings: PostgresSettings) -> Logins:
    look_up_s = settings.look_up_timeout_s
    if settings.login == "iam":
        return TokenLogins(_signer(settings.url), look_up_s=look_up_s)
    assert settings.secret is not None  # PostgresSettings sees to it
    return SecretLogins(_fetcher(settings.secret), look_up_s=look_up_s)


def _fetcher(secret: str) -> Fetch:
    service = JsonService("secretsmanager", connect_timeout_s=CONNECT_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S)

    def fetch(label: str) -> Login | None:
        try:
            answer = service.call("GetSecretValue", {"SecretId": secret, "VersionStage": label})
        except ServiceError as error:
            if label == _PENDING and error.code == "ResourceNotFoundException":
                return None
            raise
        return _login(answer.get("SecretString", ""))

    return fetch


def _login(text: str) -> Login:
    """As RDS and its rotation functions write it. The error repeats nothing of it."""
    try:
        return msgspec.json.decode(text, type=_Secret).login()
    except msgspec.MsgspecError:
        raise NoLogin("the secret is not JSON with username and password") from None


class _Secret(Struct):
    password: str
    username: str | None = None

    def login(self) -> Login:
        return Login(self.username, self.password)


def _signer(url: str) -> Callable[[], str]:
    parts = urlsplit(url)

    def sign() -> str:
        return database_token(parts.hostname or "", parts.port or 5432, parts.username or "")

    return sign
