"""The contract: what each request may hold, and that a refusal names the field."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from shared.kit.problems import Invalid, Malformed, NotFound, Problem
from shared.shop import contract
from shared.shop.contract import NewOrder, NewOrderLine

LINE = {"product_id": 1, "quantity": 1}


def order(**changes: Any) -> bytes:
    return json.dumps({"customer_id": 1, "lines": [LINE]} | changes).encode()


def test_a_good_order_is_read() -> None:
    assert contract.new_order(order()) == NewOrder(1, [NewOrderLine(1, 1)])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (order(customer_id="1"), "#/customer_id"),
        (order(customer_id=0), "#/customer_id"),
        (order(customer_id=2**63), "#/customer_id"),
        (order(customer_id=1.5), "#/customer_id"),
        (order(customer_id=True), "#/customer_id"),
        (order(customer_id=None), "#/customer_id"),
        (b'{"lines": [{"product_id": 1, "quantity": 1}]}', "#/customer_id"),
        (order(lines=[]), "#/lines"),
        (order(lines=[LINE] * 21), "#/lines"),
        (order(lines="x"), "#/lines"),
        (order(lines=[LINE, {"product_id": 2}]), "#/lines/1/quantity"),
        (order(lines=[LINE, {"product_id": 2, "quantity": 0}]), "#/lines/1/quantity"),
        (order(lines=[{"product_id": 1, "quantity": 1001}]), "#/lines/0/quantity"),
        (order(lines=[LINE, LINE]), "#/lines/1/product_id"),
        (order(lines=[LINE | {"colour": "red"}]), "#/lines/0/colour"),
        (order(coupon="X"), "#/coupon"),
        (b"[]", "#"),
        (b'"order"', "#"),
        (b"null", "#"),
    ],
)
def test_a_bad_order_is_refused_by_the_name_of_its_field(body: bytes, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        contract.new_order(body)
    assert [error["pointer"] for error in refused.value.members["errors"]] == [pointer]
    assert "`" not in refused.value.detail


@pytest.mark.parametrize("body", [b"", b"{", b"[", b"{'a': 1}", b"\xff", b'{"customer_id": "x", ', b'{"a": "\xff"}'])
def test_a_body_that_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        contract.new_order(body)


def test_json_nested_too_deep_is_refused_and_does_no_harm() -> None:
    with pytest.raises(Problem) as refused:
        contract.new_order(b'{"customer_id":' + b"[" * 100_000)
    assert refused.value.status in (400, 422)


def test_a_change_holds_only_what_it_names() -> None:
    change = contract.product_change(b'{"stock": 3}')
    assert (change.stock, change.name, change.price_cents) == (3, UNSET, UNSET)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"{}", "#"),
        (b'{"stock": -1}', "#/stock"),
        (b'{"stock": 2147483648}', "#/stock"),
        (b'{"price_cents": null}', "#/price_cents"),
        (b'{"name": ""}', "#/name"),
        (b'{"name": "a\\u0000b"}', "#/name"),
        (b'{"description": "\\u0000"}', "#/description"),
        (b'{"id": 7}', "#/id"),
        (b'{"version": 7}', "#/version"),
    ],
)
def test_a_bad_change_is_refused_by_the_name_of_its_field(body: bytes, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        contract.product_change(body)
    assert refused.value.members["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "abc", "", "1e3", "9223372036854775808", "١", "1" * 400, " 1"])
def test_what_is_no_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        contract.resource_id(text)


def test_ids_go_up_to_the_largest_that_postgres_holds() -> None:
    assert contract.resource_id("9223372036854775807") == contract.ID_MAX


@pytest.mark.parametrize("text", ["0", "101", "-1", "x", "", "1.5", "1" * 5000, "²"])
def test_a_limit_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        contract.page_limit(text)
    assert refused.value.members["errors"][0]["parameter"] == "limit"


def test_a_limit_is_what_was_asked_for_or_the_default() -> None:
    assert contract.page_limit("100") == 100
    assert contract.page_limit(None) == 20
