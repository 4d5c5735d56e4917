"""The contract as an OpenAPI 3.1 document: every operation and every response that it may have.

Made from the contract's own types and problems by the first request that asks for it: no other request pays for it, nor
does any cold start. 3.1, because its schemas are JSON Schema 2020-12, which is what msgspec writes.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from msgspec import Struct
from msgspec.json import schema_components

from shared.kit import problems, requests
from shared.kit.problems import Problem
from shared.shop import contract
from shared.shop.contract import NewOrder, Order, Product, ProductChange, ProductPage
from shared.shop.problems import OutOfStock

VERSION = "1.0.0"
PROBLEM = "application/problem+json"
JSON = "application/json"
REFERENCE = "#/components/schemas/{name}"
TYPES = (NewOrder, ProductChange, Product, ProductPage, Order)
NO_NUL = "^[^\\u0000]*$"

# What may happen to any request, whatever it asks for
ANYWHERE = (
    Problem,
    problems.NotSetUp,
    problems.Unavailable,
    problems.Overloaded,
    problems.CircuitIsOpen,
    problems.Contention,
    problems.TimedOut,
)
BODY = (problems.Malformed, problems.TooLarge, problems.Invalid)
# API Gateway answers some requests itself, in a form of its own
GATEWAY = {400, 404, 413, 429, 431, 500, 503, 504}
GATEWAY_WITH_TOKEN = {401, 403}  # no valid token, or one without the scope


class Operation(Struct, frozen=True, kw_only=True):
    method: str
    path: str
    name: str
    summary: str
    parameters: tuple[str, ...] = ()
    body: type | None = None
    status: int = 200
    answer: type
    headers: tuple[str, ...] = ()
    not_modified: bool = False
    problems: tuple[type[Problem], ...] = ()
    needs_token: bool = True


OPERATIONS = (
    Operation(
        method="get",
        path="/products/{id}",
        name="getProduct",
        summary="One product",
        parameters=("id", "If-None-Match"),
        answer=Product,
        headers=("ETag", "Cache-Control"),
        not_modified=True,
        problems=(problems.NotFound,),
        needs_token=False,
    ),
    Operation(
        method="get",
        path="/products",
        name="listProducts",
        summary="The products by id, page by page",
        parameters=("limit", "cursor"),
        answer=ProductPage,
        problems=(problems.Invalid,),
        needs_token=False,
    ),
    Operation(
        method="patch",
        path="/products/{id}",
        name="updateProduct",
        summary="Changes a product that has not changed since it was read",
        parameters=("id", "If-Match"),
        body=ProductChange,
        answer=Product,
        headers=("ETag",),
        problems=(
            *BODY,
            problems.Forbidden,
            problems.NotFound,
            problems.OutcomeUnknown,
            problems.VersionMismatch,
            problems.VersionRequired,
        ),
    ),
    Operation(
        method="get",
        path="/orders/{id}",
        name="getOrder",
        summary="One order with its lines",
        parameters=("id",),
        answer=Order,
        problems=(problems.NotFound,),
    ),
    Operation(
        method="post",
        path="/orders",
        name="placeOrder",
        summary="Places an order: all of it, or nothing",
        parameters=("Idempotency-Key",),
        body=NewOrder,
        status=201,
        answer=Order,
        headers=("Location", "Idempotent-Replayed"),
        problems=(
            *BODY,
            problems.KeyInFlight,
            problems.KeyRequired,
            problems.KeyReused,
            problems.OutcomeUnknown,
            OutOfStock,
        ),
    ),
)

TEXT: dict[str, Any] = {"type": "string"}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ETag": ("The version of the product", {"type": "string", "pattern": '^"[0-9]+"$'}),
    "Cache-Control": ("May be kept, and is to be asked about each time", TEXT),
    "Cache-Status": ("Whether a copy answered (RFC 9211)", TEXT),
    "Location": ("Where the order is from now on", TEXT),
    "Idempotent-Replayed": ("There if the key's first request has been answered before", {"const": "true"}),
    "Retry-After": ("Seconds to wait before another try", {"type": "integer", "minimum": 1}),
    "Server-Timing": ("Where the time went, in milliseconds", TEXT),
    "RateLimit-Policy": ("How many requests a client has in how many seconds", TEXT),
    "RateLimit": ("How many are left, and in how many seconds there are more", TEXT),
}


def document(prefix: str, *, cached: bool) -> dict[str, Any]:
    """The API under this prefix. `cached`: it answers from copies, and limits each client."""
    _, components = schema_components(TYPES, ref_template=REFERENCE)
    _say_what_types_cannot(components)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(prefix + operation.path, {})[operation.method] = _operation(operation, cached=cached)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": VERSION, "summary": f"Products and orders, under {prefix}"},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _problem(), "GatewayMessage": _gateway_message()},
            "securitySchemes": {"Jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _say_what_types_cannot(components: dict[str, Any]) -> None:
    """What the contract checks beyond types."""
    change = components["ProductChange"]
    change["minProperties"] = 1
    for name in ("name", "description"):
        change["properties"][name]["pattern"] = NO_NUL
    components["NewOrder"]["description"] = "Each product may stand on one line only."
    components["Order"]["properties"]["created_at"]["format"] = "date-time"


def _operation(operation: Operation, *, cached: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(name) for name in operation.parameters],
        "responses": _responses(operation, cached=cached),
        "security": [{"Jwt": []}] if operation.needs_token else [],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    return described


def _parameter(name: str) -> dict[str, Any]:
    where, required, schema, description = {
        "id": ("path", True, {"type": "integer", "minimum": 1, "maximum": contract.ID_MAX}, "Of the product or order"),
        "limit": (
            "query",
            False,
            {
                "type": "integer",
                "minimum": 1,
                "maximum": contract.PAGE_LIMIT_MAX,
                "default": contract.PAGE_LIMIT_DEFAULT,
            },
            "How many at most",
        ),
        "cursor": ("query", False, TEXT, "next_cursor of the page before: opaque, and of this listing only"),
        "If-None-Match": ("header", False, TEXT, "An ETag: answered with 304 while it is still the one"),
        "If-Match": (
            "header",
            True,
            {"type": "string", "examples": ["*", '"1"']},
            "The ETag that the change is based on; * for whatever is there",
        ),
        "Idempotency-Key": (
            "header",
            True,
            {
                "type": "string",
                "maxLength": requests.IDEMPOTENCY_KEY_MAX,
                "pattern": '^("[ !#-\\[\\]-~]+"|[!#-~]([ -~]*[!-~])?)$',
                "examples": ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
            },
            "With the same key the request is done once, however often it is sent: a quoted string, or bare",
        ),
    }[name]
    return {"name": name, "in": where, "required": required, "schema": schema, "description": description}


def _responses(operation: Operation, *, cached: bool) -> dict[str, Any]:
    always = ("Server-Timing", *(("RateLimit-Policy", "RateLimit") if cached else ()))
    if cached and operation.method == "get":
        always = (*always, "Cache-Status")
    success = (*operation.headers, *always)
    responses: dict[str, Any] = {
        str(operation.status): {
            "description": operation.summary,
            "headers": _headers(success),
            "content": {JSON: {"schema": _reference(operation.answer)}},
        }
    }
    if operation.not_modified:
        responses["304"] = {"description": "Not changed since", "headers": _headers(success)}
    gateway = GATEWAY | (GATEWAY_WITH_TOKEN if operation.needs_token else set())
    by_status: dict[int, list[type[Problem]]] = {status: [] for status in sorted(gateway)}
    identified = (problems.Unauthenticated,) if operation.needs_token else ()
    limited = (problems.RateLimited,) if cached else ()
    for problem in (*operation.problems, *identified, *ANYWHERE, *limited):
        by_status.setdefault(problem.status, []).append(problem)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = _refusal(status, kinds, always)
    return responses


def _refusal(status: int, kinds: list[type[Problem]], headers: Iterable[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if kinds:
        types = [problems.TYPE_PREFIX + kind.type for kind in kinds]
        exactly = {"properties": {"type": {"enum": types}, "status": {"const": status}}}
        content[PROBLEM] = {"schema": {"allOf": [{"$ref": REFERENCE.format(name="Problem")}, exactly]}}
    if status in GATEWAY | GATEWAY_WITH_TOKEN:
        content[JSON] = {"schema": {"$ref": REFERENCE.format(name="GatewayMessage")}}
    own = {409: ("Retry-After",), 412: ("ETag",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
    return {
        "description": "; ".join(kind.title for kind in kinds) or HTTPStatus(status).phrase,
        "headers": _headers((*headers, *own)),
        "content": content,
    }


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"description": HEADERS[name][0], "schema": HEADERS[name][1]} for name in names}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}


def _problem() -> dict[str, Any]:
    error = {
        "type": "object",
        "properties": {"pointer": TEXT, "parameter": TEXT, "detail": TEXT},
        "required": ["detail"],
    }
    properties = {
        "type": {"type": "string", "format": "uri"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "instance": {"type": "string", "format": "uri"},
        "errors": {"type": "array", "items": error},
        "retry_after": {"type": "integer", "minimum": 1},
    }
    required = ["type", "title", "status", "detail", "instance"]
    return {"type": "object", "description": "RFC 9457", "properties": properties, "required": required}


def _gateway_message() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "API Gateway's own answer, where a request does not reach the shop",
        "properties": {"message": {"type": ["string", "null"]}},
        "required": ["message"],
    }
