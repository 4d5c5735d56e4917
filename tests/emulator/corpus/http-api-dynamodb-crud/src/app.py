import json
import os
from decimal import Decimal

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def handler(event, context):
    match event["routeKey"]:
        case "PUT /items":
            item = json.loads(event["body"], parse_float=Decimal)
            table.put_item(Item=item)
            return {"id": item["id"]}
        case "GET /items":
            return sorted(item["id"] for item in table.scan()["Items"])
        case "GET /items/{id}":
            item = table.get_item(Key=event["pathParameters"]).get("Item")
            return answer(404, {"message": "not found"}) if item is None else answer(200, item)
        case "DELETE /items/{id}":
            table.delete_item(Key=event["pathParameters"])
            return answer(204, None)


def answer(status, body):
    return {"statusCode": status, "body": "" if body is None else json.dumps(body, default=float)}
