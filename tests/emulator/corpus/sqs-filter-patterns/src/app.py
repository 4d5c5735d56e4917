import os

import boto3


def take(event, context):
    for record in event["Records"]:
        print("took", record["body"])


def waiting(event, context):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return boto3.client("sqs").get_queue_attributes(QueueUrl=os.environ["KEPT"], AttributeNames=names)["Attributes"]
