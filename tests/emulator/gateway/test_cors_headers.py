"""Who writes the cross-origin headers of an answer: the API where it is configured, and never both."""

import pytest
from warmfront.emulator.gateway.cors import Cors
from warmfront.emulator.gateway.exchange import Response
from warmfront.emulator.template import CorsConfig

CONFIG = CorsConfig(allow_origins=("https://shop.example",), expose_headers=("etag",))
OWN = (b"access-control-allow-origin", b"*")
PLAIN = (b"content-type", b"application/json")


def answered(*headers: tuple[bytes, bytes], origin: str) -> list[tuple[bytes, bytes]]:
    response = Cors(CONFIG, "http").apply(Response(200, list(headers), b"{}"), origin)
    assert (response.status, response.body) == (200, b"{}")
    return response.headers


@pytest.mark.parametrize("origin", ["", "https://other.example"])
def test_a_handler_s_own_headers_are_dropped_whoever_asks(origin: str) -> None:
    assert answered(PLAIN, OWN, origin=origin) == [PLAIN]
    assert answered(OWN, PLAIN, origin=origin) == [PLAIN]
    assert answered(PLAIN, origin=origin) == [PLAIN]
    assert answered(origin=origin) == []


def test_an_allowed_origin_is_answered_with_the_api_s_headers() -> None:
    allowed = [
        (b"access-control-allow-origin", b"https://shop.example"),
        (b"access-control-expose-headers", b"etag"),
    ]
    assert answered(PLAIN, OWN, origin="https://shop.example") == [PLAIN, *allowed]
    assert answered(PLAIN, origin="https://shop.example") == [PLAIN, *allowed]


def test_a_header_that_only_holds_the_words_is_no_cross_origin_header() -> None:
    near = (b"x-access-control-note", b"1")
    assert answered(near, (b"x-access-", b"1"), (b"control-", b"1"), origin="") == [
        near,
        (b"x-access-", b"1"),
        (b"control-", b"1"),
    ]
