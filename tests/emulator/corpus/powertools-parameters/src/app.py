import os

from aws_lambda_powertools.utilities import parameters

settings = parameters.DynamoDBProvider(table_name=os.environ["TABLE"])


def handler(event, context):
    return {
        "all": parameters.get_parameters("/app"),
        "limits": parameters.get_parameter("/app/limits", transform="json"),
        "secret": parameters.get_secret(os.environ["SECRET"]),
        "table": settings.get("color"),
    }
