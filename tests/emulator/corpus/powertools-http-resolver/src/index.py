from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

app = APIGatewayHttpResolver()


@app.post("/todos")
def add_todo():
    return {"added": app.current_event.json_body["title"]}


def handler(event, context):
    return app.resolve(event, context)
