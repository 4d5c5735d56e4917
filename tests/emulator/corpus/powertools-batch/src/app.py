from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

processor = BatchProcessor(event_type=EventType.SQS)


def work(record):
    job = record.json_body
    if job["bad"]:
        raise ValueError("a bad job")
    print("done with", job["id"])


def handler(event, context):
    return process_partial_response(event=event, record_handler=work, processor=processor, context=context)


def bury(event, context):
    print("buried", [record["body"] for record in event["Records"]])
