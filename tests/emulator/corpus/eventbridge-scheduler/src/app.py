def handler(event, context):
    return {"made": event.get("report", "long")}
