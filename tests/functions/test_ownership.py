"""Who may do what: orders belong to the token's subject, changing a product needs a scope."""

import json
from typing import Any

import pytest

from tests.functions.conftest import Function, load, payload

ORDER = {"customer_id": 77, "lines": [{"product_id": 21, "quantity": 1}]}
KEY = {"idempotency-key": "the-same-for-everybody"}


def call(
    function: Function, claims: dict[str, str] | None, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """As API Gateway sends it after its JWT authorizer; claims None: there is no authorizer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    event = payload(method, f"/{function.name}{path}", body=body, headers=names, query={})
    event["requestContext"].pop("authorizer", None)
    if claims is not None:
        event["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": None}}
    result = function.invoke(event)
    return result["statusCode"], json.loads(result["body"])


def place(function: Function, subject: str) -> tuple[int, Any]:
    return call(function, {"sub": subject}, "POST", "/orders", ORDER, idempotency_key=KEY["idempotency-key"])


def test_an_order_is_its_subjects_and_for_anybody_else_it_is_not_there(variant: Function) -> None:
    """Read twice each: the second time pooled and distributed answer from what they keep."""
    status, placed = place(variant, "alice")
    assert status == 201
    path = f"/orders/{placed['id']}"
    for _ in range(2):
        assert call(variant, {"sub": "alice"}, "GET", path)[0] == 200
        assert call(variant, {"sub": "mallory"}, "GET", path)[0] == 404
    assert call(variant, {"sub": "mallory"}, "GET", "/orders/7")[0] == 404, "nor are those of the seed"


def test_what_mallory_looked_for_before_it_was_placed_is_alices_afterwards(distributed: Function) -> None:
    """ "There is no such order" is kept as well, for a while, and for whoever asked."""
    assert call(distributed, {"sub": "alice"}, "GET", "/orders/301")[0] == 404
    _, placed = place(distributed, "alice")
    assert placed["id"] == 301
    assert call(distributed, {"sub": "alice"}, "GET", "/orders/301")[0] == 200
    assert call(distributed, {"sub": "mallory"}, "GET", "/orders/301")[0] == 404


@pytest.mark.parametrize("name", ["pooled", "distributed"])
def test_one_key_of_two_subjects_places_two_orders(request: pytest.FixtureRequest, name: str) -> None:
    function: Function = request.getfixturevalue(name)
    placed = {place(function, subject)[1]["id"] for subject in ("alice", "bob", "alice")}
    assert len(placed) == 2


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "alice"}, 403),
        ({"sub": "alice", "scope": "products/read"}, 403),
        ({"sub": "alice", "scope": "products/writer xproducts/write"}, 403),
        ({"sub": "alice", "scope": "openid products/write"}, 200),
        ({"sub": "alice", "scp": "[products/read products/write]"}, 200),
        (None, 200),
    ],
)
def test_changing_a_product_needs_the_scope(variant: Function, claims: dict[str, str] | None, status: int) -> None:
    found, body = call(variant, claims, "PATCH", "/products/21", {"price_cents": 7}, if_match="*")
    assert found == status
    if status == 403:
        assert body["type"] == "urn:warmfront:problem:forbidden"
        assert call(variant, None, "GET", "/products/21")[1]["price_cents"] != 7


def test_the_local_identity_is_assumed_and_said_once(pooled: Function, caplog: pytest.LogCaptureFixture) -> None:
    from shared.kit import endpoint

    endpoint._say_that_identity_is_assumed.cache_clear()
    for _ in range(2):
        assert call(pooled, None, "GET", "/orders/7")[0] == 200
        assert call(pooled, None, "GET", "/products/7")[0] == 200
    assert [vars(record)["subject"] for record in caplog.records if "no authorizer" in record.message] == ["local"]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_on_aws_nobody_is_assumed(pooled: Function, stage: str) -> None:
    deployed = load(
        "pooled", "functions.pooled.app", {**pooled.environ, "SHOP_STAGE": stage, "SHOP_DB_SSL": "verify-full"}
    )
    for method, path, body in (
        ("GET", "/orders/7", None),
        ("POST", "/orders", ORDER),
        ("PATCH", "/products/7", {"stock": 1}),
    ):
        status, refused = call(deployed, None, method, path, body, idempotency_key="k", if_match="*")
        assert (status, refused["type"]) == (401, "urn:warmfront:problem:unauthenticated")
