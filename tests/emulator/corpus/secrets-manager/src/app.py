import json
import os

import boto3


def handler(event, context):
    found = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["SECRET_ARN"])
    login = json.loads(found["SecretString"])
    return {
        "user": login["username"],
        "length": len(login["password"]),
        "clean": not set('"@/') & set(login["password"]),
    }
