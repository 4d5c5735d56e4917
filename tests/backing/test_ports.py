"""Free ports: they are free, stay usable over a restart, and a port that was lost to another process is replaced."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.backing.errors import BackingError, PortTakenError
from warmfront.backing.ports import LOOPBACK, free_port, on_free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, free_port())) as server:
        yield server.getsockname()[1]


def test_a_port_is_outside_the_range_that_outgoing_connections_use() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if max(low - 15_000, 65_535 - high) < 1_000:
        pytest.skip("this machine gives almost every port to outgoing connections")
    assert not low <= free_port() <= high


def test_a_taken_port_is_passed_over(taken: int) -> None:
    other = free_port()
    picks = iter([taken, other])
    assert free_port(lambda _range: next(picks)) == other


def test_a_machine_without_a_free_port_says_so(taken: int) -> None:
    with pytest.raises(BackingError, match=r"no free port on 127.0.0.1"):
        free_port(lambda _range: taken)


def test_a_lost_race_is_tried_again_with_another_port() -> None:
    tried: list[int] = []

    def start(port: int) -> str:
        tried.append(port)
        if len(tried) < 3:
            raise PortTakenError("lost")
        return "started"

    assert on_free_port(start) == "started"
    assert len(tried) == 3


def test_a_race_that_is_always_lost_ends_with_its_error() -> None:
    def start(port: int) -> None:
        raise PortTakenError(f"lost {port}")

    with pytest.raises(PortTakenError):
        on_free_port(start)
