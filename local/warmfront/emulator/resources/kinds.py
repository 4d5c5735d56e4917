"""Which resource types are made in the local AWS, which need nothing locally, and how the made ones are named."""

from typing import Final

MADE: Final = (
    "AWS::Cognito::",
    "AWS::DynamoDB::",
    "AWS::Events::",
    "AWS::KMS::",
    "AWS::Kinesis::",
    "AWS::KinesisFirehose::",
    "AWS::Pipes::",
    "AWS::S3::",
    "AWS::SNS::",
    "AWS::SQS::",
    "AWS::SSM::",
    "AWS::Scheduler::",
    "AWS::SecretsManager::",
    "AWS::Serverless::SimpleTable",
    "AWS::Serverless::StateMachine",
    "AWS::StepFunctions::",
)
"""Services that handlers call through an SDK. A template with one of these gets a local AWS."""
ONLY_PERMISSIONS: Final = {
    "AWS::Events::EventBusPolicy",
    "AWS::KMS::ReplicaKey",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::SecretTargetAttachment",
}
"""Of those services, what only grants or schedules: the local AWS checks no permissions and rotates nothing."""
TRANSLATED: Final = ("AWS::Serverless::SimpleTable", "AWS::Serverless::StateMachine")
"""Types that only SAM knows; aws-sam-translator turns them into CloudFormation's."""


def is_made(kind: str) -> bool:
    """Whether a resource of this type is made in the local AWS."""
    return kind.startswith(MADE) and kind not in ONLY_PERMISSIONS


NAME_PROPERTY: Final = {
    "AWS::Cognito::UserPool": "UserPoolName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Events::EventBus": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::Kinesis::Stream": "Name",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SSM::Parameter": "Name",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
}
"""Property that names a resource of a type; where the template leaves it out, the name is made of the logical id."""

_ATTRIBUTES: Final = {
    "AWS::DynamoDB::Table": {"Arn": "arn:aws:dynamodb:{region}:{account}:table/{name}"},
    "AWS::Events::EventBus": {"Arn": "arn:aws:events:{region}:{account}:event-bus/{name}", "Name": "{name}"},
    "AWS::Kinesis::Stream": {"Arn": "arn:aws:kinesis:{region}:{account}:stream/{name}"},
    "AWS::S3::Bucket": {
        "Arn": "arn:aws:s3:::{name}",
        "DomainName": "{name}.s3.amazonaws.com",
        "DualStackDomainName": "{name}.s3.dualstack.{region}.amazonaws.com",
        "RegionalDomainName": "{name}.s3.{region}.amazonaws.com",
        "WebsiteURL": "http://{name}.s3-website-{region}.amazonaws.com",
    },
    "AWS::SNS::Topic": {
        "Arn": "arn:aws:sns:{region}:{account}:{name}",
        "TopicArn": "arn:aws:sns:{region}:{account}:{name}",
        "TopicName": "{name}",
    },
    "AWS::SQS::Queue": {
        "Arn": "arn:aws:sqs:{region}:{account}:{name}",
        "QueueName": "{name}",
        "QueueUrl": "{endpoint}/{account}/{name}",
    },
    "AWS::StepFunctions::StateMachine": {
        "Arn": "arn:aws:states:{region}:{account}:stateMachine:{name}",
        "Name": "{name}",
    },
}
"""Attributes that follow from a resource's name (each type's page in the CloudFormation template reference, "Return values")."""
_REF_ATTRIBUTE: Final = {
    "AWS::SNS::Topic": "Arn",
    "AWS::SQS::Queue": "QueueUrl",
    "AWS::StepFunctions::StateMachine": "Arn",
}
"""What `Ref` gives where it is not the name."""


def values_of_name(kind: str, name: str, *, region: str, account: str, endpoint: str) -> dict[str, str]:
    """`Ref` under "" and attributes by name, as far as they follow from the resource's name."""
    place = {"region": region, "account": account, "name": name, "endpoint": endpoint}
    values = {key: text.format(**place) for key, text in _ATTRIBUTES.get(kind, {}).items()}
    if kind in NAME_PROPERTY and kind not in ("AWS::SecretsManager::Secret", "AWS::Cognito::UserPool"):
        values[""] = values[_REF_ATTRIBUTE[kind]] if kind in _REF_ATTRIBUTE else name
    return values
