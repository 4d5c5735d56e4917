import os

import boto3


def handler(event, context):
    kinesis = boto3.client("kinesis")
    put = kinesis.put_record(StreamARN=os.environ["STREAM_ARN"], Data=event["body"].encode(), PartitionKey="page")
    start = kinesis.get_shard_iterator(
        StreamName=os.environ["STREAM"], ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    records = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
    return {"records": [record["Data"].decode() for record in records]}
