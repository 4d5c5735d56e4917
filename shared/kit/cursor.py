"""Opaque page cursors: where the last page ended, versioned and signed.

The signature makes sure that a cursor is one that the API gave out: clients cannot read rows with made-up cursors, and
cannot depend on the content, which may change with the version.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

from shared.kit.problems import Invalid, in_parameter

VERSION = 1
_ID_BYTES = 8
_SIGNATURE_BYTES = 16
_LENGTH = 1 + _ID_BYTES + _SIGNATURE_BYTES


def seal(listing: str, after_id: int, key: bytes) -> str:
    """`listing` is what is being paged, filter included: a cursor of one is refused by another."""
    position = bytes((VERSION,)) + after_id.to_bytes(_ID_BYTES)
    return _text(position + _sign(listing, position, key))


def open_sealed(listing: str, cursor: str, key: bytes) -> int:
    try:
        sealed = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (ValueError, UnicodeEncodeError):
        raise _refused() from None
    position, signature = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES :]
    # urlsafe_b64decode skips what is not base64, so the same bytes have several spellings: only the one sealed counts.
    if len(sealed) != _LENGTH or _text(sealed) != cursor or position[0] != VERSION:
        raise _refused()
    if not hmac.compare_digest(signature, _sign(listing, position, key)):
        raise _refused()
    return int.from_bytes(position[1:])


def _text(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _sign(listing: str, position: bytes, key: bytes) -> bytes:
    return hmac.digest(key, listing.encode() + b"\x00" + position, "sha256")[:_SIGNATURE_BYTES]


def _refused() -> Invalid:
    return Invalid(in_parameter("cursor", "Is not one that this listing gave out; start again without it."))
