"""What pooled adds to the same five routes: conditional requests, sealed cursors, validation, keys."""

import json
import uuid
from typing import Any

import pytest

from tests.functions.conftest import Function, Reply

LINES = [{"product_id": 21, "quantity": 2}, {"product_id": 22, "quantity": 1}]


def problem(reply: Reply, status: int, kind: str) -> Any:
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["type"] == f"urn:warmfront:problem:{kind}"
    return reply.json


def place(pooled: Function, *, key: str | None = None, **changes: Any) -> Reply:
    headers = {} if key is None else {"idempotency-key": key}
    return pooled.request("POST", "/orders", body={"customer_id": 1, "lines": LINES} | changes, headers=headers)


def stock_of(pooled: Function, product_id: int) -> int:
    stock: int = pooled.get(f"/products/{product_id}").json["stock"]
    return stock


def test_a_client_that_has_the_product_gets_no_second_copy(pooled: Function) -> None:
    first = pooled.get("/products/42")
    again = pooled.get("/products/42", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.text, again.headers["etag"]) == (304, "", first.headers["etag"])
    pooled.request("PATCH", "/products/42", body={"price_cents": 1}, headers={"if-match": first.headers["etag"]})
    changed = pooled.get("/products/42", headers={"if-none-match": first.headers["etag"]})
    assert (changed.status, changed.json["price_cents"]) == (200, 1)
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("query", [{"cursor": "0"}, {"cursor": "x" * 34}, {"cursor": ""}])
def test_a_cursor_that_was_not_given_out_is_refused(pooled: Function, query: dict[str, str]) -> None:
    document = problem(pooled.get("/products", query=query), 422, "invalid")
    assert document["errors"][0]["parameter"] == "cursor"


@pytest.mark.parametrize("limit", ["0", "101", "x"])
def test_a_page_has_bounds(pooled: Function, limit: str) -> None:
    document = problem(pooled.get("/products", query={"limit": limit}), 422, "invalid")
    assert document["errors"][0]["parameter"] == "limit"


def test_a_walk_skips_and_repeats_nothing_while_rows_come_and_go(pooled: Function) -> None:
    page = pooled.get("/products", query={"limit": "10"}).json
    pooled.request("PATCH", "/products/5", body={"name": "Renamed on the way"}, headers={"if-match": "*"})
    following = pooled.get("/products", query={"limit": "10", "cursor": page["next_cursor"]}).json
    assert [item["id"] for item in page["items"] + following["items"]] == list(range(1, 21))


@pytest.mark.parametrize("path", ["/products/abc", "/products/0", "/orders/99999999999999999999", "/products/-1"])
def test_what_is_no_id_is_not_found(pooled: Function, path: str) -> None:
    problem(pooled.get(path), 404, "not-found")


def test_a_bad_body_is_refused_by_the_name_of_its_field_where_naive_stores_it(
    pooled: Function, naive: Function
) -> None:
    body = {"customer_id": 1, "lines": [{"product_id": 23, "quantity": -5}]}
    document = problem(pooled.request("POST", "/orders", body=body), 422, "invalid")
    assert document["errors"] == [{"pointer": "#/lines/0/quantity", "detail": "Expected int >= 1."}]
    stored = naive.request("POST", "/orders", body=body)
    assert naive.get(f"/orders/{stored.json['id']}").json["lines"][0]["quantity"] == -5


@pytest.mark.parametrize("body", ["", "{", "not json"])
def test_a_body_that_is_no_json_is_malformed(pooled: Function, body: str) -> None:
    problem(pooled.request("POST", "/orders", body=body), 400, "malformed")
    problem(pooled.request("PATCH", "/products/1", body=body, headers={"if-match": "*"}), 400, "malformed")


def test_half_a_surrogate_pair_is_the_clients_mistake(pooled: Function) -> None:
    body = '{"name": "\ud800"}'
    problem(pooled.request("PATCH", "/products/1", body=body, headers={"if-match": "*"}), 400, "malformed")


def test_a_body_too_large_is_refused(pooled: Function) -> None:
    problem(pooled.request("POST", "/orders", body="x" * 65_537), 413, "too-large")


def test_an_order_for_a_product_that_there_is_not_takes_nothing(pooled: Function) -> None:
    before = stock_of(pooled, 21)
    document = problem(place(pooled, lines=[LINES[0], {"product_id": 9_999, "quantity": 1}]), 422, "invalid")
    assert document["errors"] == [{"pointer": "#/lines/1/product_id", "detail": "There is no product 9999."}]
    problem(place(pooled, lines=[{"product_id": 9_999, "quantity": 1}]), 422, "invalid")
    assert stock_of(pooled, 21) == before


def test_an_order_for_more_than_there_is_takes_nothing(pooled: Function) -> None:
    pooled.request("PATCH", "/products/22", body={"stock": 4}, headers={"if-match": "*"})
    before = stock_of(pooled, 21)
    document = problem(place(pooled, lines=[LINES[0], {"product_id": 22, "quantity": 5}]), 409, "out-of-stock")
    assert document["errors"] == [{"pointer": "#/lines/1/quantity", "detail": "4 in stock."}]
    assert (stock_of(pooled, 21), stock_of(pooled, 22)) == (before, 4)
    assert place(pooled, lines=[{"product_id": 22, "quantity": 4}]).status == 201
    assert stock_of(pooled, 22) == 0


def test_a_repeated_request_with_a_key_gets_the_first_ones_answer_and_has_no_second_effect(pooled: Function) -> None:
    before, key = stock_of(pooled, 21), str(uuid.uuid4())
    first, second = place(pooled, key=key), place(pooled, key=key)
    assert (first.status, second.status) == (201, 201)
    assert second.text == first.text
    assert second.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert stock_of(pooled, 21) == before - 2


def test_the_same_order_written_differently_is_the_same_request(pooled: Function) -> None:
    key = str(uuid.uuid4())
    first = place(pooled, key=key)
    body = json.dumps({"lines": LINES, "customer_id": 1}, indent=2)
    again = pooled.request("POST", "/orders", body=body, headers={"idempotency-key": key})
    assert again.text == first.text


def test_a_key_of_another_body_is_refused(pooled: Function) -> None:
    key = str(uuid.uuid4())
    place(pooled, key=key)
    problem(place(pooled, key=key, customer_id=2), 422, "idempotency-key-reused")


def test_a_refused_order_leaves_its_key_free(pooled: Function) -> None:
    key = str(uuid.uuid4())
    problem(place(pooled, key=key, lines=[{"product_id": 9_999, "quantity": 1}]), 422, "invalid")
    assert place(pooled, key=key).status == 201


def test_without_a_key_every_request_is_an_order_of_its_own(pooled: Function) -> None:
    assert place(pooled).json["id"] != place(pooled).json["id"]


def test_an_overlong_key_is_refused(pooled: Function) -> None:
    document = problem(place(pooled, key="k" * 256), 422, "invalid")
    assert document["errors"][0]["parameter"] == "Idempotency-Key"


def test_a_change_must_say_what_it_is_based_on(pooled: Function) -> None:
    problem(pooled.request("PATCH", "/products/31", body={"stock": 1}), 428, "version-required")


def test_a_change_of_what_has_changed_meanwhile_is_refused_with_the_version_of_now(pooled: Function) -> None:
    tag = pooled.get("/products/31").headers["etag"]
    first = pooled.request("PATCH", "/products/31", body={"price_cents": 7}, headers={"if-match": tag})
    second = pooled.request("PATCH", "/products/31", body={"price_cents": 8}, headers={"if-match": tag})
    assert first.status == 200
    problem(second, 412, "version-mismatch")
    assert second.headers["etag"] == first.headers["etag"] == pooled.get("/products/31").headers["etag"]
    assert pooled.get("/products/31").json["price_cents"] == 7


def test_a_weak_tag_is_no_version_to_change(pooled: Function) -> None:
    tag = pooled.get("/products/32").headers["etag"]
    reply = pooled.request("PATCH", "/products/32", body={"stock": 1}, headers={"if-match": f"W/{tag}"})
    problem(reply, 412, "version-mismatch")


def test_a_change_of_what_there_is_not_is_not_found(pooled: Function) -> None:
    problem(pooled.request("PATCH", "/products/9999", body={"stock": 1}, headers={"if-match": "*"}), 404, "not-found")


def test_a_name_that_postgres_cannot_hold_is_refused(pooled: Function) -> None:
    reply = pooled.request("PATCH", "/products/33", body={"name": "a\x00b"}, headers={"if-match": "*"})
    assert problem(reply, 422, "invalid")["errors"][0]["pointer"] == "#/name"
