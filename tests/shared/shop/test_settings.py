"""Settings: what is accepted, what refuses to start, and that neither shows a secret."""

import ssl

import pytest

from shared.kit.settings import BadSetting
from shared.shop.settings import read
from tests.shared.conftest import ENVIRON, settings_with


def test_every_setting_but_the_addresses_and_the_key_has_a_default() -> None:
    settings = read(ENVIRON)
    assert settings.postgres.pool_max == 1
    assert settings.redis is None
    assert settings.stage == "local"


def test_a_set_variable_is_read() -> None:
    assert settings_with(POOL_MAX=2, ACQUIRE_TIMEOUT_MS=77, BREAKER_MODE="observe").postgres.acquire_timeout_s == 0.077


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SHOP_POOL_MAX", "0", "SHOP_POOL_MAX: '0' is not accepted; it must be a whole number from 1 to 20."),
        ("SHOP_POOL_MAX", "21", "from 1 to 20"),
        ("SHOP_POOL_MAX", "many", "from 1 to 20"),
        ("SHOP_POOL_MAX", "", "from 1 to 20"),
        ("SHOP_STAGE", "production", "one of local, dev, prod"),
        ("SHOP_DB_SSL", "prefer", "one of verify-full, require, disable"),
        ("SHOP_BREAKER_SLOW_MS", "1501", "more than SHOP_STATEMENT_TIMEOUT_MS=1500"),
        ("SHOP_POOL_MAXX", "1", "SHOP_POOL_MAXX is no setting of the shop. Did you mean SHOP_POOL_MAX?"),
        ("SHOP_ZZZ", "1", "Settings are: SHOP_ACQUIRE_TIMEOUT_MS, "),
        ("DATABASE_URL", "mysql://app:hidden@localhost/shop", "it must be postgresql://"),
        ("DATABASE_URL", "postgresql://app:hidden@localhost:5432", "it must be postgresql://"),
        ("DATABASE_URL", "postgresql://app:hidden@localhost:port/shop", "it must be postgresql://"),
        ("DATABASE_URL", "", "DATABASE_URL is not set"),
        ("REDIS_URL", "http://localhost", "it must be redis://"),
        ("SHOP_CURSOR_KEY", "hidden-but-short"[:15], "at least 16 bytes"),
    ],
)
def test_a_bad_value_refuses_to_start_and_names_the_variable_and_what_it_may_be(
    name: str, value: str, says: str
) -> None:
    with pytest.raises(BadSetting) as refused:
        read(ENVIRON | {name: value})
    assert name in str(refused.value)
    assert says in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_cursor_key_has_no_default() -> None:
    with pytest.raises(BadSetting, match="SHOP_CURSOR_KEY is not set; it must be at least 16 bytes"):
        read({"DATABASE_URL": ENVIRON["DATABASE_URL"]})


def test_tls_is_verified_unless_a_setting_says_otherwise() -> None:
    said = {name: value for name, value in ENVIRON.items() if name != "SHOP_DB_SSL"}
    context = read(said).postgres.tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "SHOP_DB_SSL"),
        ({"SHOP_DB_SSL": "verify-full", "REDIS_URL": "redis://:hidden@cache:6379/0"}, "rediss://"),
    ],
)
def test_prod_refuses_plain_text(values: dict[str, str], says: str) -> None:
    with pytest.raises(BadSetting, match=f"SHOP_STAGE=prod needs .*{says}") as refused:
        read(ENVIRON | {"SHOP_STAGE": "prod"} | values)
    assert "hidden" not in str(refused.value)
    read(ENVIRON | {"SHOP_STAGE": "dev"} | values)


def test_prod_takes_what_is_encrypted() -> None:
    for mode in ("verify-full", "require"):
        encrypted = {"SHOP_STAGE": "prod", "SHOP_DB_SSL": mode, "REDIS_URL": "rediss://:pw@cache:6379/0"}
        assert read(ENVIRON | encrypted).redis is not None


def test_what_is_kept_in_redis_is_qualified_by_stack_and_database() -> None:
    one, other = (read(ENVIRON | {"POWERTOOLS_METRICS_NAMESPACE": f"Warmfront/{name}"}) for name in ("one", "other"))
    assert one.namespace_of(one.database) == "Warmfront/one/shop"
    assert len({settings.namespace_of(name) for settings in (one, other) for name in ("shop", "pooled")}) == 4


def test_settings_do_not_print_their_secrets() -> None:
    shown = repr(read(ENVIRON)) + str(read(ENVIRON))
    assert "pw" not in shown
    assert ENVIRON["SHOP_CURSOR_KEY"] not in shown
