import os
import uuid

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent

store = DynamoDBPersistenceLayer(table_name=os.environ["TABLE"])


@idempotent(persistence_store=store, config=IdempotencyConfig(event_key_jmespath="order"))
def handler(event, context):
    return {"order": event["order"], "payment": str(uuid.uuid4())}
