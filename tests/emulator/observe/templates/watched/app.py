"""Somebody's function: Powertools as its documentation shows it, with the real X-Ray SDK."""

from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger()
tracer = Tracer()
metrics = Metrics()


@tracer.capture_method
def price(items: int) -> int:
    tracer.put_annotation("items", str(items))
    return items * 2


@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler
@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
def powertools(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    metrics.add_dimension("shop", "north")
    metrics.add_metric(name="Orders Placed", unit=MetricUnit.Count, value=1)
    metrics.add_metric(name="Checkout", unit=MetricUnit.Milliseconds, value=12.5)
    logger.info("an order")
    if event.get("queryStringParameters"):
        raise ValueError("no such order")
    return {"statusCode": 200, "body": str(price(3))}
