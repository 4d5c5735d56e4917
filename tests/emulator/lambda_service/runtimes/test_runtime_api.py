"""What a runtime's HTTP comes to, however its headers are written and wherever its bytes are cut."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warmfront.emulator.lambda_service.runtimes.runtime_api import RuntimeConnection

POST = b"POST /2018-06-01/runtime/invocation/r1/%b HTTP/1.1\r\nHost: h\r\n%bContent-Length: 2\r\n\r\n{}"


class Host:
    def __init__(self) -> None:
        self.answers: list[tuple[str, bytes, bool, str | None]] = []

    def runtime_answers(
        self, _connection: RuntimeConnection, request_id: str, body: bytes, *, failed: bool, error_type: str | None
    ) -> None:
        self.answers.append((request_id, body, failed, error_type))


class Connection(RuntimeConnection):
    """What the runtime's socket would have been given."""

    def __init__(self, host: Host) -> None:
        super().__init__(cast(Any, host))
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.heard.append(data)


def said(*parts: bytes) -> tuple[Host, Connection]:
    host = Host()
    connection = Connection(host)
    for part in parts:
        connection.data_received(part)
    return host, connection


@pytest.mark.parametrize(
    "name",
    [
        b"Lambda-Runtime-Function-Error-Type",
        b"lambda-runtime-function-error-type",
        b"LAMBDA-RUNTIME-FUNCTION-ERROR-TYPE",
    ],
)
def test_the_type_of_an_error_is_the_header_s(name: bytes) -> None:
    host, _ = said(POST % (b"error", name + b": Runtime.Broken\r\n"))
    assert host.answers == [("r1", b"{}", True, "Runtime.Broken")]


@pytest.mark.parametrize("name", [b"Lambda-Runtime-Function-Error-Typo", b"X-Type", b"Accept"])
def test_a_header_of_the_same_length_is_another_one(name: bytes) -> None:
    host, connection = said(POST % (b"error", name + b": 100-continue\r\n"))
    assert host.answers == [("r1", b"{}", True, None)]
    assert connection.heard == []


def test_one_invocation_s_error_type_is_not_the_next_one_s() -> None:
    host, _ = said(POST % (b"error", b"Lambda-Runtime-Function-Error-Type: A\r\n"), POST % (b"response", b""))
    assert [error_type for *_, error_type in host.answers] == ["A", None]


@pytest.mark.parametrize("name", [b"Expect", b"expect", b"EXPECT"])
def test_who_expects_to_be_told_to_go_on_is_told_before_the_body(name: bytes) -> None:
    head, body = (POST % (b"response", name + b": 100-continue\r\n")).split(b"{}")
    host, connection = said(head)
    assert connection.heard == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    assert host.answers == []
    connection.data_received(b"{}" + body)
    assert host.answers == [("r1", b"{}", False, None)]


@given(st.lists(st.integers(1, 200), max_size=8))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    whole = POST % (b"error", b"Lambda-Runtime-Function-Error-Type: Runtime.Broken\r\nX-Other: 1\r\n")
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    host, _ = said(*(whole[a:b] for a, b in pairwise(edges)))
    assert host.answers == [("r1", b"{}", True, "Runtime.Broken")]
