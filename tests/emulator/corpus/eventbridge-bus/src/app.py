import json
import os

import boto3


def publish(event, context):
    entry = {
        "Source": "shop.orders",
        "DetailType": event["pathParameters"]["kind"],
        "Detail": event["body"],
        "EventBusName": os.environ["BUS"],
    }
    found = boto3.client("events").put_events(Entries=[entry])
    return {"failed": found["FailedEntryCount"]}


def ship(event, context):
    for record in event["Records"]:
        print("ship", json.loads(record["body"])["detail"])
