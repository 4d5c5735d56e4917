"""Uses each resource of the template through its environment variable, as a handler on AWS would."""

import json
import os
from typing import Any

import boto3


def use(event: dict[str, Any], _context: object) -> dict[str, Any]:
    return {"statusCode": 200, "body": json.dumps(CHECKS[event["pathParameters"]["proxy"]](), default=str)}


def table() -> Any:
    made = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    made.put_item(Item={"id": "1", "name": "one"})
    ttl = boto3.client("dynamodb").describe_time_to_live(TableName=made.name)["TimeToLiveDescription"]
    simple = boto3.resource("dynamodb").Table(os.environ["SIMPLE"])
    simple.put_item(Item={"id": "2"})
    return {
        "item": made.get_item(Key={"id": "1"})["Item"],
        "ttl": [ttl["AttributeName"], ttl["TimeToLiveStatus"]],
        "simple": simple.scan()["Count"],
        "stream": boto3.client("dynamodbstreams").describe_stream(StreamArn=os.environ["STREAM_ARN"])[
            "StreamDescription"
        ]["StreamViewType"],
    }


def bucket() -> Any:
    s3 = boto3.client("s3")
    s3.put_object(Bucket=os.environ["BUCKET"], Key="a.txt", Body=b"text")
    text = s3.get_object(Bucket=os.environ["BUCKET"], Key="a.txt")["Body"].read().decode()
    return {
        "text": text,
        "versions": s3.get_bucket_versioning(Bucket=os.environ["BUCKET"])["Status"],
        "told": received(),
    }


def topic() -> Any:
    sns = boto3.client("sns")
    for kind in ("sale", "refund"):
        attributes = {"kind": {"DataType": "String", "StringValue": kind}}
        sns.publish(TopicArn=os.environ["TOPIC"], Message=kind, MessageAttributes=attributes)
    return received()


def queue() -> Any:
    sqs = boto3.client("sqs")
    for _ in range(2):
        sqs.send_message(QueueUrl=os.environ["FIFO"], MessageBody="x", MessageGroupId="g")
    names = ["VisibilityTimeout", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy"]
    attributes = sqs.get_queue_attributes(QueueUrl=os.environ["QUEUE"], AttributeNames=names)["Attributes"]
    fifo = sqs.get_queue_attributes(QueueUrl=os.environ["FIFO"], AttributeNames=["All"])["Attributes"]
    return {
        "attributes": attributes,
        "fifo": {
            name: fifo.get(name) for name in ("ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")
        },
        "waiting": int(fifo["ApproximateNumberOfMessages"]),
    }


def parameter() -> Any:
    value = boto3.client("ssm").get_parameter(Name=os.environ["PARAMETER"])["Parameter"]["Value"]
    return {"value": value, "resolved": os.environ["GREETING"]}


def secret() -> Any:
    text = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["SECRET"])["SecretString"]
    login = json.loads(text)
    return {
        "user": login["username"],
        "length": len(login["password"]),
        "same": login["password"] == os.environ["PASSWORD"],
    }


def bus() -> Any:
    events = boto3.client("events")
    entries = [
        {
            "Source": "shop",
            "DetailType": "sale",
            "Detail": json.dumps({"price": price}),
            "EventBusName": os.environ["BUS"],
        }
        for price in (5, 50)
    ]
    failed = events.put_events(Entries=entries)["FailedEntryCount"]
    return {"failed": failed, "delivered": [json.loads(body)["detail"] for body in received()]}


def stream() -> Any:
    kinesis = boto3.client("kinesis")
    kinesis.put_record(StreamName=os.environ["STREAM"], Data=b"one", PartitionKey="k")
    (shard,) = kinesis.list_shards(StreamName=os.environ["STREAM"])["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName=os.environ["STREAM"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [record["Data"].decode() for record in kinesis.get_records(ShardIterator=iterator)["Records"]]


def machine() -> Any:
    states = boto3.client("stepfunctions")
    definition = states.describe_state_machine(stateMachineArn=os.environ["MACHINE"])["definition"]
    started = states.start_execution(stateMachineArn=os.environ["MACHINE"], input="{}")
    return {"result": json.loads(definition)["States"]["Only"]["Result"], "started": bool(started["executionArn"])}


def drain() -> Any:
    return len(received())


def received() -> Any:
    sqs = boto3.client("sqs")
    messages = sqs.receive_message(QueueUrl=os.environ["QUEUE"], MaxNumberOfMessages=10).get("Messages", [])
    for message in messages:
        sqs.delete_message(QueueUrl=os.environ["QUEUE"], ReceiptHandle=message["ReceiptHandle"])
    return [message["Body"] for message in messages]


CHECKS = {each.__name__: each for each in (table, bucket, topic, queue, parameter, secret, bus, stream, machine, drain)}
