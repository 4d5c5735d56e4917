import hashlib
import os

import boto3

taken = []


def send(event, context):
    group = event.get("queryStringParameters", {}).get("group", "g")
    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=event["body"], MessageGroupId=group)
    return {"statusCode": 202}


def take(event, context):
    for record in event["Records"]:
        attributes = record["attributes"]
        digest = hashlib.sha256(record["body"].encode()).hexdigest()
        right = attributes["MessageDeduplicationId"] == digest and len(attributes["SequenceNumber"]) == 20
        taken.append(record["body"])
        print("taken", attributes["MessageGroupId"], right, taken)
