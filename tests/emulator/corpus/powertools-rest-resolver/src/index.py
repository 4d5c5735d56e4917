from aws_lambda_powertools.event_handler import APIGatewayRestResolver

app = APIGatewayRestResolver()


@app.get("/todos/<todo_id>")
def get_todo(todo_id):
    return {"id": todo_id}


def handler(event, context):
    return app.resolve(event, context)
