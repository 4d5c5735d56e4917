"""Logins by themselves: looked up when needed, shared, renewed once, bounded in time, and never shown."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.kit.aws_request import NoAnswer, ServiceError
from shared.kit.secrets import Login, NoLogin, SecretLogins, TokenLogins, _login, _signer
from shared.kit.settings import BadSetting
from tests.shared.conftest import settings_with

OLD, NEW, NEWER = Login("shop", "old-password"), Login("shop", "new-password"), Login("shop", "newer-password")


class Secret:
    """What Secrets Manager would answer, label by label, and how often it was asked."""

    def __init__(self, current: Login, pending: Login | None = None) -> None:
        self.by_label = {"AWSCURRENT": current, "AWSPENDING": pending}
        self.asked: list[str] = []
        self.failures: list[Exception] = []

    def __call__(self, label: str) -> Login | None:
        self.asked.append(label)
        if self.failures:
            raise self.failures.pop(0)
        return self.by_label[label]


def refusal(code: str) -> ServiceError:
    return ServiceError(code)


def test_many_who_ask_at_once_share_one_look_up() -> None:
    secret = Secret(OLD)

    async def test() -> list[Login]:
        logins = SecretLogins(secret, look_up_s=5)
        return await asyncio.gather(*(logins.known(5) for _ in range(20)))

    assert asyncio.run(test()) == [OLD] * 20
    assert secret.asked == ["AWSCURRENT"]


def test_many_who_are_refused_at_once_share_one_renewal() -> None:
    secret = Secret(OLD)

    async def test() -> list[Login | None]:
        logins = SecretLogins(secret, look_up_s=5)
        refused = await logins.known(5)
        secret.by_label["AWSCURRENT"] = NEW
        return await asyncio.gather(*(logins.renewed(refused, 5) for _ in range(20)))

    assert asyncio.run(test()) == [NEW] * 20
    assert secret.asked == ["AWSCURRENT"] * 2


def test_a_pending_password_is_tried_only_when_the_current_one_was_refused() -> None:
    secret = Secret(OLD, pending=NEW)

    async def test() -> None:
        logins = SecretLogins(secret, look_up_s=5)
        assert await logins.known(5) == OLD
        assert await logins.renewed(OLD, 5) == NEW
        assert await logins.known(5) == NEW
        secret.by_label |= {"AWSCURRENT": NEWER, "AWSPENDING": None}
        assert await logins.renewed(NEW, 5) == NEWER

    asyncio.run(test())
    assert secret.asked == ["AWSCURRENT", "AWSCURRENT", "AWSPENDING", "AWSCURRENT"]


def test_where_there_is_no_other_login_there_is_none_to_try() -> None:
    async def test() -> None:
        logins = SecretLogins(Secret(OLD), look_up_s=5)
        assert await logins.renewed(await logins.known(5), 5) is None
        assert await logins.known(5) == OLD

    asyncio.run(test())


def test_what_may_pass_is_tried_again_while_there_is_time() -> None:
    secret = Secret(OLD)
    secret.failures = [NoAnswer("x"), refusal("ThrottlingException")]

    async def test() -> None:
        assert await SecretLogins(secret, look_up_s=5).known(5) == OLD

    asyncio.run(test())
    assert len(secret.asked) == 3


def test_a_refusal_is_not_tried_again_and_names_no_secret() -> None:
    secret = Secret(OLD)
    secret.failures = [refusal("AccessDeniedException")]

    async def test() -> None:
        await SecretLogins(secret, look_up_s=5).known(5)

    with pytest.raises(NoLogin, match="AccessDeniedException") as refused:
        asyncio.run(test())
    assert "shop/database" not in str(refused.value)
    assert len(secret.asked) == 1


@pytest.mark.parametrize(("remaining_s", "look_up_s"), [(0.05, 60), (60, 0.05)])
def test_a_look_up_ends_with_the_callers_time_or_its_own(remaining_s: float, look_up_s: float) -> None:
    secret = Secret(OLD)
    secret.failures = [NoAnswer("x")] * 1_000_000

    async def test() -> None:
        await SecretLogins(secret, look_up_s=look_up_s).known(remaining_s)

    with pytest.raises(TimeoutError):
        asyncio.run(test())


@pytest.mark.parametrize(
    "text", ["", "hidden-password", '{"username": "shop"}', '{"password": 7, "hidden-password": 1}']
)
def test_a_secret_that_is_no_login_is_said_without_its_content(text: str) -> None:
    with pytest.raises(NoLogin, match="not JSON with username and password") as refused:
        _login(text)
    assert "hidden" not in str(refused.value)


def test_a_login_does_not_show_its_password() -> None:
    assert "password" not in repr(OLD) + str(OLD) + f"{[OLD]}"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_token_is_kept_for_less_than_it_lets_in_also_through_a_freeze() -> None:
    clock = Clock()
    signed: list[str] = []

    def sign() -> str:
        signed.append(f"token {len(signed)}")
        return signed[-1]

    async def test() -> None:
        logins = TokenLogins(sign, look_up_s=5, clock=clock)
        first = await logins.known(5)
        clock.now_s += 599
        assert await logins.known(5) == first
        clock.now_s += 1
        second = await logins.known(5)
        assert second != first
        assert await logins.renewed(first, 5) == second  # another had the same trouble
        assert await logins.renewed(second, 5) == Login(None, "token 2")

    asyncio.run(test())


def test_a_token_is_for_this_user_at_this_address(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "eu-central-1"}
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    sign: Callable[[], str] = _signer("postgresql://app@proxy.example:5432/pooled")
    token = urlsplit(f"https://{sign()}")
    query = parse_qs(token.query)
    assert (token.hostname, token.port) == ("proxy.example", 5432)
    assert (query["Action"], query["DBUser"]) == (["connect"], ["app"])
    assert int(query["X-Amz-Expires"][0]) == 900


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"DB_LOGIN": "secret"}, "go together"),
        ({"DB_SECRET": "shop/database"}, "go together"),
        ({"DB_LOGIN": "iam", "DB_SSL": "disable"}, "needs SHOP_DB_SSL"),
        ({"DB_ROLE": 'app"; DROP'}, "SHOP_DB_ROLE"),
    ],
)
def test_settings_that_do_not_go_together_refuse_to_start(values: dict[str, str], says: str) -> None:
    with pytest.raises(BadSetting, match=says):
        settings_with(**values)
