def handler(event, context):
    return {"isAuthorized": event["headers"]["x-key"] == "ann", "context": {"who": "ann"}}
