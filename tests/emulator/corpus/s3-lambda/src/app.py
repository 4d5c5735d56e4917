import os

import boto3

s3 = boto3.client("s3")


def sign(event, context):
    url = s3.generate_presigned_url("put_object", Params={"Bucket": os.environ["BUCKET"], "Key": "a.txt"}, ExpiresIn=60)
    return {"url": url}


def read(event, context):
    record = event["Records"][0]["s3"]
    found = s3.get_object(Bucket=record["bucket"]["name"], Key=record["object"]["key"])
    return {"text": found["Body"].read().decode()}
