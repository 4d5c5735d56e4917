"""Reads requests: JSON bodies, conditional headers (ETag, If-Match) and the Idempotency-Key.

msgspec, not Pydantic: 1.2 us against 5.9 us for a small POST, and about 45 ms of import against 170 (3.13, importtime).
"""

import re
from collections.abc import Callable

import msgspec
from msgspec import DecodeError, ValidationError

from shared.kit.problems import Invalid, KeyRequired, Malformed, at, in_parameter

IDEMPOTENCY_KEY_MAX = 255
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED = re.compile(r'\\(["\\])')

# Text that is not UTF-8 and nesting without end have exceptions of their own, and are the same to the client.
_NO_JSON = (DecodeError, UnicodeDecodeError, RecursionError)

encode = msgspec.json.Encoder().encode


def decode[T](decoder: Callable[[bytes], T], body: bytes) -> T:
    """What `decoder` (a msgspec.json.Decoder's `decode`) reads in the body.

    Raises Malformed (400) if the body is not JSON, Invalid (422) with a JSON pointer if it is not the decoder's type.
    """
    try:
        return decoder(body)
    except ValidationError as error:
        _must_be_json(body)  # the decoder stops at the first wrong value, before it has seen the rest
        raise Invalid(_error_of(str(error))) from None
    except _NO_JSON:
        raise Malformed("The body is not JSON.") from None


def idempotency_key(header: str | None) -> str:
    """The key of an Idempotency-Key header: a quoted string, as the draft has it, or the bare key.

    draft-ietf-httpapi-idempotency-key-header-08: `Idempotency-Key: "8e03978e"`, a String of RFC 9651. Raises KeyRequired
    (400) without the header, Invalid (422) if it is no key.
    """
    if header is None:
        raise KeyRequired("Send a new key, as a UUID, with each new request, and the same key when you repeat one.")
    key = header.strip()
    if key[:1] == '"':
        quoted = _QUOTED.fullmatch(key)
        key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else ""
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX or not (key.isascii() and key.isprintable()):
        limits = f"Must be 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters, bare or as a quoted string."
        raise Invalid(in_parameter("Idempotency-Key", limits))
    return key


def etag(version: int) -> str:
    return f'"{version}"'


def if_match_versions(if_match: str) -> list[int] | None:
    """The versions that If-Match names; None for `*`, any. A weak or foreign tag matches nothing (RFC 9110, 13.1.1)."""
    if if_match.strip() == "*":
        return None
    tags = (tag.strip() for tag in if_match.split(","))
    numbers = (tag[1:-1] for tag in tags if len(tag) > 2 and tag[0] == tag[-1] == '"')
    return [int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 10]


def none_match(if_none_match: str | None, tag: str) -> bool:
    """Whether the client already has this representation (weak comparison, RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match == tag:
        return True
    return any(known.strip().removeprefix("W/") in (tag, "*") for known in if_none_match.split(","))


def _must_be_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except _NO_JSON:
        raise Malformed("The body is not JSON.") from None


def _error_of(message: str) -> dict[str, str]:
    """msgspec writes "Expected `int` - at `$.lines[0].quantity`"; absent and unknown fields are named in front."""
    detail, _, path = message.partition(" - at `$")
    pointer = path.removesuffix("`").replace("[", "/").replace("]", "").replace(".", "/")
    for wording in ("missing required field `", "contains unknown field `"):
        if wording in detail:
            pointer += "/" + detail.partition(wording)[2].removesuffix("`")
    return at(pointer, detail.replace("`", "") + ".")
