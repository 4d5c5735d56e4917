"""Who may do what in the served shop, with `--enforce-auth`: orders belong to a token's subject, changes want a scope."""

import json
import signal
import time
import uuid
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.integration.test_main_job import Answer, Shop, start_serving

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
# Of samconfig.toml's local parameters.
ISSUER, AUDIENCE = "https://issuer.invalid", "warmfront"
VARIANTS = ("naive", "pooled", "distributed")
KEYED = ("pooled", "distributed")


def bearer(subject: str, scope: str = "") -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": time.time() + 3600, "scope": scope}
    return "Bearer " + jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("authorization")
    keys = {"keys": [{**json.loads(RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k1", "use": "sig"}]}
    (folder / "jwks.json").write_text(json.dumps(keys))
    enforcing = ("--enforce-auth", "--jwks", str(folder / "jwks.json"))
    process, url = start_serving("--ephemeral", "--log-file", str(folder / "functions.log"), *enforcing)
    try:
        yield Shop(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def place(shop: Shop, variant: str, subject: str) -> Answer:
    body = {"customer_id": 1, "lines": [{"product_id": 3, "quantity": 1}]}
    key = f'"{uuid.uuid4()}"'
    return shop.ask("POST", f"/{variant}/orders", body, authorization=bearer(subject), idempotency_key=key)


def change(shop: Shop, variant: str, **headers: str) -> Answer:
    return shop.ask("PATCH", f"/{variant}/products/5", {"stock": 7}, if_match="*", **headers)


@pytest.mark.parametrize("variant", KEYED)
def test_an_order_is_not_there_for_another_subject_cached_or_not(shop: Shop, variant: str) -> None:
    placed = place(shop, variant, "ann")
    assert placed.status == 201, placed.body
    path = f"/{variant}/orders/{placed.body['id']}"
    for subject, status in (("bob", 404), ("ann", 200), ("ann", 200), ("bob", 404)):
        answer = shop.ask("GET", path, authorization=bearer(subject))
        assert answer.status == status, (subject, answer.body)


@pytest.mark.parametrize("variant", VARIANTS)
def test_orders_and_changes_want_a_token_and_products_are_open(shop: Shop, variant: str) -> None:
    assert shop.ask("GET", f"/{variant}/products/5").status == 200
    assert shop.ask("GET", f"/{variant}/orders/5").status == 401
    assert change(shop, variant).status == 401
    assert change(shop, variant, authorization="Bearer of.no.token").status == 401


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_change_wants_the_scope(shop: Shop, variant: str) -> None:
    refused = change(shop, variant, authorization=bearer("ann", "products/read"))
    assert (refused.status, refused.body) == (
        403,
        {"message": "Forbidden"},
    )  # API Gateway's own: the function is not asked
    changed = change(shop, variant, authorization=bearer("ann", "products/read products/write"))
    assert changed.status == 200, changed.body
