import json

from greeting import greet


def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"text": greet("you")})}
