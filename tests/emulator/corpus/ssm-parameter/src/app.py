import os

import boto3


def handler(event, context):
    ssm = boto3.client("ssm")
    color = ssm.get_parameter(Name=os.environ["NAME"])["Parameter"]["Value"]
    hosts = ssm.get_parameter(Name=os.environ["HOSTS"])["Parameter"]["Value"]
    return {"now": color, "deployed": os.environ["AT_DEPLOY"], "dynamic": os.environ["DYNAMIC"], "hosts": hosts}
