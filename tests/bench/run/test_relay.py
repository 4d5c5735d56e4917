"""The relay with real sockets: bytes arrive whole, late and in order, and the process ends with its owner."""

import os
import socket
import time
from collections.abc import Iterator

import pytest
from warmfront.bench.run.relay import LOOPBACK, Relay, _echo, calibrate

RTT_S = 0.02


@pytest.fixture
def port() -> Iterator[int]:
    with _echo() as behind, Relay.start(RTT_S, {"echo": (LOOPBACK, behind)}) as relay:
        yield relay.ports["echo"]


def test_much_comes_back_whole_and_in_order(port: int) -> None:
    sent = os.urandom(300_000)
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        heard = bytearray()
        for start in range(0, len(sent), 30_000):
            connection.sendall(sent[start : start + 30_000])
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65_536):
            heard += chunk
    assert bytes(heard) == sent


def test_an_answer_takes_a_round_trip_and_the_first_one_two(port: int) -> None:
    took = []
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        for _ in range(5):
            start = time.perf_counter()
            connection.sendall(b"x")
            connection.recv(1)
            took.append(time.perf_counter() - start)
    assert took[0] >= 2 * RTT_S
    assert min(took[1:]) >= RTT_S
    assert min(took[1:]) < 2 * RTT_S


def test_a_client_that_is_gone_leaves_the_others_alone(port: int) -> None:
    gone = socket.create_connection((LOOPBACK, port), timeout=10)
    gone.sendall(b"x")
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    gone.close()
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(b"y")
        assert connection.recv(1) == b"y"


def test_a_service_that_is_not_there_hangs_up() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        dead = listener.getsockname()[1]
    with (
        Relay.start(RTT_S, {"dead": (LOOPBACK, dead)}) as relay,
        socket.create_connection((LOOPBACK, relay.ports["dead"]), timeout=10) as connection,
    ):
        assert connection.recv(1) == b""


def test_its_cost_is_measured_beside_a_direct_way() -> None:
    found = calibrate(RTT_S / 10)
    assert RTT_S / 10 <= found.round_trip_s < RTT_S
    assert 0 < found.cpu_s < RTT_S / 10
