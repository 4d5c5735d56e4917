"""The shop on the kit: connections are kept between invocations, and every wait has a bound."""

from shared.kit import cursor, environment
from shared.kit.endpoint import Request, Response, endpoint, json
from shared.kit.idempotency import Claim
from shared.kit.postgres import Database
from shared.kit.problems import VersionRequired
from shared.kit.requests import encode, etag, idempotency_key, if_match_versions, none_match
from shared.shop import catalog, contract, orders, settings
from shared.shop.contract import ProductPage

SETTINGS = settings.current()  # at init: a wrong setting must not wait for the first customer


@environment.resource
def database() -> Database:
    return Database(SETTINGS.postgres)


async def get_product(request: Request) -> Response:
    product = await database().run_idempotent(
        request.deadline, catalog.product, contract.resource_id(request.parameters["id"])
    )
    headers = {"etag": etag(product.version), "cache-control": "no-cache"}
    if none_match(request.headers.get("if-none-match"), headers["etag"]):
        return Response(304, headers=headers)
    return json(200, product, headers)


async def list_products(request: Request) -> Response:
    limit = contract.page_limit(request.query.get("limit"))
    sealed = request.query.get("cursor")
    after_id = 0 if sealed is None else cursor.open_sealed("products", sealed, SETTINGS.cursor_key)
    products, more = await database().run_idempotent(request.deadline, catalog.page, after_id, limit)
    following = cursor.seal("products", products[-1].id, SETTINGS.cursor_key) if more else None
    return json(200, ProductPage(products, following))


async def get_order(request: Request) -> Response:
    order_id = contract.resource_id(request.parameters["id"])
    document = await database().run_idempotent(request.deadline, orders.order, order_id, request.subject)
    return Response(200, document)


async def place_order(request: Request) -> Response:
    order = contract.new_order(request.body)
    key = idempotency_key(request.headers.get("idempotency-key"))
    claim = Claim.of(request.idempotency_scope, key, encode(order), ttl_h=orders.KEEP_ANSWERS_H)
    answer = await database().run_with_key(request.deadline, orders.place, claim, request.subject, order)
    headers = {"location": f"{request.path}/{answer.resource}"}
    if answer.replayed:
        headers["idempotent-replayed"] = "true"
    return Response(answer.status, answer.body, headers)


async def update_product(request: Request) -> Response:
    request.require_scope(contract.WRITE_PRODUCTS)
    product_id = contract.resource_id(request.parameters["id"])
    change = contract.product_change(request.body)
    if (if_match := request.headers.get("if-match")) is None:
        raise VersionRequired("Send the ETag that the change is based on; `*` changes whatever is there.")
    product = await database().run_once(
        request.deadline, catalog.change, product_id, if_match_versions(if_match), change
    )
    return json(200, product, {"etag": etag(product.version)})


async def describe(request: Request) -> Response:
    del request
    return description()


@environment.resource
def description() -> Response:
    from shared.shop import openapi  # for the first who asks, and for no cold start

    return json(200, openapi.document("/pooled", cached=False), {"cache-control": "public, max-age=3600"})


handler = endpoint(
    {
        "GET /pooled/products/{id}": get_product,
        "GET /pooled/products": list_products,
        "GET /pooled/orders/{id}": get_order,
        "POST /pooled/orders": place_order,
        "PATCH /pooled/products/{id}": update_product,
        "GET /pooled/openapi.json": describe,
    },
    run=environment.run,
    reserve_ms=SETTINGS.deadline_reserve_ms,
    body_max_bytes=contract.BODY_MAX_BYTES,
    server_timing=SETTINGS.server_timing,
    local_identity=SETTINGS.local_identity,
)
