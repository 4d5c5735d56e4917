"""The shop's request and response types, and the validation of each request."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder

from shared.kit.problems import Invalid, NotFound, at, in_parameter
from shared.kit.requests import decode

ID_MAX = 2**63 - 1
LINES_MAX = 20
QUANTITY_MAX = 1_000
AMOUNT_MAX = 2**31 - 1
PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX = 20, 100
BODY_MAX_BYTES = 65_536
WRITE_PRODUCTS = "products/write"  # the scope of a token that may change products

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


_new_order = Decoder(NewOrder).decode
_product_change = Decoder(ProductChange).decode


def new_order(body: bytes) -> NewOrder:
    order = decode(_new_order, body)
    seen: set[int] = set()
    for index, line in enumerate(order.lines):
        if line.product_id in seen:
            raise Invalid(at(f"/lines/{index}/product_id", "Each product may stand on one line only."))
        seen.add(line.product_id)
    return order


def product_change(body: bytes) -> ProductChange:
    change = decode(_product_change, body)
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


def page_limit(text: str | None) -> int:
    if text is None:
        return PAGE_LIMIT_DEFAULT
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= (number := int(text)) <= PAGE_LIMIT_MAX:
        return number
    raise Invalid(in_parameter("limit", f"Must be a whole number from 1 to {PAGE_LIMIT_MAX}."))
