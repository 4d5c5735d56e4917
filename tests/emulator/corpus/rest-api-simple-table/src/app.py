import json
import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["VISITS"])


def handler(event, context):
    found = table.update_item(
        Key={"page": event["pathParameters"]["page"]},
        UpdateExpression="ADD visits :one",
        ExpressionAttributeValues={":one": 1},
        ReturnValues="UPDATED_NEW",
    )
    named = os.environ["VISITS_ARN"].endswith(f":table/{os.environ['VISITS']}")
    return {"statusCode": 200, "body": json.dumps({"visits": int(found["Attributes"]["visits"]), "named": named})}
