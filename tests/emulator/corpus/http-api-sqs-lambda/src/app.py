import os

import boto3


def send(event, context):
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=event["body"])
    return {"statusCode": 202}


def work(event, context):
    for record in event["Records"]:
        print("worked on", record["body"])
