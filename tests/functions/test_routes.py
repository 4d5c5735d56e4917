"""The five routes, under both variants: what each answers when all is well, and in the same shape."""

from tests.functions.conftest import ORDERS, PRODUCTS, Function


def test_a_product_is_the_same_in_both_variants(naive: Function, pooled: Function) -> None:
    assert naive.get("/products/42").json == pooled.get("/products/42").json
    assert pooled.get("/products/42").json.keys() == {"id", "name", "description", "price_cents", "stock", "version"}


def test_an_order_is_the_same_in_both_variants(naive: Function, pooled: Function) -> None:
    slow, fast = naive.get("/orders/7"), pooled.get("/orders/7")
    assert (slow.status, fast.status) == (200, 200)
    assert slow.json == fast.json
    assert 1 <= len(fast.json["lines"]) <= 20
    assert fast.json["total_cents"] == sum(li["quantity"] * li["unit_price_cents"] for li in fast.json["lines"])


def test_what_is_not_there_is_a_problem_that_says_so(variant: Function) -> None:
    for path in (f"/products/{PRODUCTS + 1}", f"/orders/{ORDERS + 1}"):
        reply = variant.get(path)
        assert reply.status == 404
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json["type"] == "urn:warmfront:problem:not-found"
        assert reply.json["status"] == 404


def test_the_pages_hold_every_product_once(variant: Function) -> None:
    seen: list[int] = []
    query = {"limit": "70"}
    while True:
        page = variant.get("/products", query=query).json
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = {"limit": "70", "cursor": page["next_cursor"]}
    assert seen == list(range(1, PRODUCTS + 1))


def test_an_order_that_was_placed_can_be_read(variant: Function) -> None:
    before = variant.get("/products/5").json
    body = {"customer_id": 9, "lines": [{"product_id": 5, "quantity": 3}, {"product_id": 6, "quantity": 1}]}
    placed = variant.request("POST", "/orders", body=body)
    assert placed.status == 201
    assert placed.headers["location"] == f"/{variant.name}/orders/{placed.json['id']}"
    assert variant.get(f"/orders/{placed.json['id']}").json == placed.json
    after = variant.get("/products/5").json
    assert (after["stock"], after["version"]) == (before["stock"] - 3, before["version"] + 1)
    assert placed.json["lines"][0]["unit_price_cents"] == before["price_cents"]


def test_a_change_changes_what_it_names_and_the_version(variant: Function) -> None:
    before = variant.get("/products/8").json
    reply = variant.request("PATCH", "/products/8", body={"price_cents": 1234}, headers={"if-match": "*"})
    assert reply.status == 200
    assert reply.json == {**before, "price_cents": 1234, "version": before["version"] + 1}
    assert variant.get("/products/8").json == reply.json
