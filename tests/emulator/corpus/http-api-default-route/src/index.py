import json


def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"key": event["routeKey"], "path": event["rawPath"]})}
