import json


def work(event, context):
    if event["bad"]:
        raise ValueError("a bad event")
    return {"good": True}


def tell(event, context):
    for record in event["Records"]:
        body = json.loads(record["body"])
        outcome = json.loads(body["Message"]) if "Message" in body else body
        print("outcome", outcome["requestContext"]["condition"], outcome["responsePayload"])
