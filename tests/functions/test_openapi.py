"""The OpenAPI document is the contract: same routes, same fields, same refusals, and valid by its own standard."""

import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from msgspec import Struct

from shared.kit import problems
from shared.kit.problems import Problem
from shared.shop import contract
from shared.shop.openapi import OPERATIONS, TYPES
from tests.functions.conftest import Function
from tests.functions.test_import_budget import ENVIRON


@pytest.fixture(params=["pooled", "distributed"])
def function(request: pytest.FixtureRequest) -> Function:
    found: Function = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def document(function: Function) -> dict[str, Any]:
    reply = function.get("/openapi.json")
    assert reply.status == 200
    found: dict[str, Any] = reply.json
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{m.upper()} {path}": each for path, item in document["paths"].items() for m, each in item.items()}


def test_it_describes_the_routes_that_there_are_and_no_others(function: Function, document: dict[str, Any]) -> None:
    shop = function.module.handler
    while hasattr(shop, "__wrapped__"):
        shop = shop.__wrapped__
    (answer,) = (
        cell.cell_contents for cell in shop.__closure__ if getattr(cell.cell_contents, "__name__", "") == "answer"
    )
    (routes,) = (cell.cell_contents for cell in answer.__closure__ if isinstance(cell.cell_contents, dict))
    assert operations(document).keys() == routes.keys() - {f"GET /{function.name}/openapi.json"}


def test_every_type_of_the_contract_is_in_it_with_its_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    structs = [each for each in vars(contract).values() if isinstance(each, type) and issubclass(each, Struct)]
    for struct in (each for each in structs if each is not Struct):
        assert schemas[struct.__name__]["properties"].keys() == set(struct.__struct_fields__)
    assert set(TYPES) <= set(structs)


def test_every_problem_is_described_with_its_type_where_it_is_said(document: dict[str, Any]) -> None:
    said: set[str] = set()
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            described = response.get("content", {}).get("application/problem+json")
            if described:
                exactly = described["schema"]["allOf"][1]["properties"]
                assert str(exactly["status"]["const"]) == status
                said |= set(exactly["type"]["enum"])
    kinds: list[type[Problem]] = [Problem]
    for kind in kinds:
        kinds += kind.__subclasses__()
    all_of_them = {problems.TYPE_PREFIX + kind.type for kind in kinds if kind.__module__.startswith("shared.")}
    if "/pooled/orders" in document["paths"]:
        all_of_them -= {problems.TYPE_PREFIX + problems.RateLimited.type}
    assert said == all_of_them


def test_what_the_shop_answers_is_what_the_document_says(function: Function, document: dict[str, Any]) -> None:
    def check(method: str, path: str, template: str, status: int, **options: Any) -> None:
        reply = function.request(method, path, **options)
        assert reply.status == status
        response = operations(document)[f"{method} /{function.name}{template}"]["responses"][str(status)]
        described = {name.lower() for name in response["headers"]} | {"content-type", "cache-control"}
        assert reply.headers.keys() <= described
        if reply.text:
            schema = response["content"][reply.headers["content-type"]]["schema"]
            jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(reply.json)

    line = {"product_id": 1, "quantity": 1}
    check("GET", "/products/1", "/products/{id}", 200)
    check("GET", "/products/1", "/products/{id}", 304, headers={"if-none-match": '"1"'})
    check("GET", "/products/0", "/products/{id}", 404)
    check("GET", "/products", "/products", 200)
    check("GET", "/products", "/products", 422, query={"limit": "many"})
    check("GET", "/orders/1", "/orders/{id}", 200)
    check("POST", "/orders", "/orders", 201, body={"customer_id": 1, "lines": [line]})
    check("POST", "/orders", "/orders", 400, body="{")
    check("POST", "/orders", "/orders", 422, body={"customer_id": 1, "lines": [line, line]})
    check("PATCH", "/products/1", "/products/{id}", 200, body={"stock": 0}, headers={"if-match": "*"})
    check("PATCH", "/products/1", "/products/{id}", 412, body={"stock": 0}, headers={"if-match": '"1"'})
    check("PATCH", "/products/1", "/products/{id}", 428, body={"stock": 0})
    check("POST", "/orders", "/orders", 409, body={"customer_id": 1, "lines": [line]})


def test_each_operation_wants_a_token_as_the_template_says(document: dict[str, Any]) -> None:
    for key, operation in operations(document).items():
        is_open = key.startswith("GET ") and "/products" in key
        assert operation["security"] == ([] if is_open else [{"Jwt": []}]), key
    assert len(OPERATIONS) == 5


def test_no_cold_start_pays_for_it() -> None:
    script = "import sys, functions.pooled.app; sys.exit('shared.shop.openapi' in sys.modules)"
    subprocess.run([sys.executable, "-S", "-c", script], env=ENVIRON, check=True, cwd="/")
