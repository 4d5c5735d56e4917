import json


def handler(event, context):
    for record in event["Records"]:
        envelope = json.loads(record["body"])
        print("order", envelope["Type"], envelope["Message"])
