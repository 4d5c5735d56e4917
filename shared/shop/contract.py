"""What the shop takes and gives: the types of requests and responses, and the check of each request at its entry.

msgspec, not Pydantic: 1.2 us against 5.9 us for a small POST, and about 45 ms of import against 170 (3.13, importtime).
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType, ValidationError

from shared.kit.problems import Invalid, Malformed, NotFound, at, in_parameter

ID_MAX = 2**63 - 1
LINES_MAX = 20
QUANTITY_MAX = 1_000
AMOUNT_MAX = 2**31 - 1
IDEMPOTENCY_KEY_MAX = 255

type Id = Annotated[int, Meta(ge=1, le=ID_MAX)]
type Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
type Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]


class NewOrderLine(Struct, frozen=True, forbid_unknown_fields=True):
    product_id: Id
    quantity: Quantity


class NewOrder(Struct, frozen=True, forbid_unknown_fields=True):
    customer_id: Id
    lines: Annotated[list[NewOrderLine], Meta(min_length=1, max_length=LINES_MAX)]


class ProductChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=5_000)] | UnsetType = UNSET
    price_cents: Amount | UnsetType = UNSET
    stock: Amount | UnsetType = UNSET


class Product(Struct, frozen=True):
    id: int
    name: str
    description: str
    price_cents: int
    stock: int
    version: int


class ProductPage(Struct, frozen=True):
    items: list[Product]
    next_cursor: str | None


class OrderLine(Struct, frozen=True):
    line_no: int
    product_id: int
    name: str
    quantity: int
    unit_price_cents: int


class Order(Struct, frozen=True):
    id: int
    customer_id: int
    status: str
    total_cents: int
    created_at: datetime
    lines: list[OrderLine]


# Text that is not UTF-8 and nesting without end are told apart by type, and are the same to the client.
_NO_JSON = (DecodeError, UnicodeDecodeError, RecursionError)

encode = msgspec.json.Encoder().encode
_new_order = msgspec.json.Decoder(NewOrder).decode
_product_change = msgspec.json.Decoder(ProductChange).decode


def new_order(body: bytes) -> NewOrder:
    order: NewOrder = _decode(_new_order, body)
    seen: set[int] = set()
    for index, line in enumerate(order.lines):
        if line.product_id in seen:
            raise Invalid(at(f"/lines/{index}/product_id", "Each product may stand on one line only."))
        seen.add(line.product_id)
    return order


def product_change(body: bytes) -> ProductChange:
    change: ProductChange = _decode(_product_change, body)
    for field in ("name", "description"):
        text = getattr(change, field)
        if text is not UNSET and "\x00" in text:
            raise Invalid(at(f"/{field}", "U+0000 cannot be stored."))  # Postgres has no text that holds it
    if change == ProductChange():
        raise Invalid(at("", f"At least one of {', '.join(ProductChange.__struct_fields__)} is needed."))
    return change


def resource_id(text: str) -> int:
    """From the path. What is no id names nothing that exists, so it is not found rather than invalid."""
    if text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= (number := int(text)) <= ID_MAX:
        return number
    raise NotFound(f"There is nothing with the id {text[:40]!r} here.")


def page_limit(text: str | None, *, default: int, at_most: int) -> int:
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= (number := int(text)) <= at_most:
        return number
    raise Invalid(in_parameter("limit", f"Must be a whole number from 1 to {at_most}."))


def idempotency_key(header: str | None) -> str | None:
    if header is None:
        return None
    key = header.strip()
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX or not (key.isascii() and key.isprintable()):
        limits = f"Must be 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters."
        raise Invalid(in_parameter("Idempotency-Key", limits))
    return key


def etag(version: int) -> str:
    return f'"{version}"'


def versions(if_match: str) -> list[int] | None:
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


def _decode(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except ValidationError as error:
        _must_be_json(body)  # the decoder stops at the first wrong value, before it has seen the rest
        raise Invalid(_error_of(str(error))) from None
    except _NO_JSON:
        raise Malformed("The body is not JSON.") from None


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
