"""Recognises resources that an earlier run has left in the local AWS, with their data."""

from collections.abc import Callable, Mapping
from typing import Any

from warmfront.emulator.resources.makers import Client, Values


def kept_values(client: Client, kind: str, name: str, properties: Mapping[str, Any]) -> Values | None:
    """Values of a resource that is there already and as the template wants it; None where it has to be made."""
    look = _LOOKS.get(kind)
    if look is None:
        return None
    from botocore.exceptions import ClientError

    try:
        return look(client, name, properties)
    except ClientError:  # not there
        return None


def _table(client: Client, name: str, properties: Mapping[str, Any]) -> Values | None:
    """A table whose keys or indexes are others now is removed: CloudFormation would replace it too."""
    found = client("dynamodb").describe_table(TableName=name)["Table"]
    if _shape(found) == _shape(properties):
        return {}
    client("dynamodb").delete_table(TableName=name)
    return None


def _shape(table: Mapping[str, Any]) -> object:
    indexes = [*(table.get("GlobalSecondaryIndexes") or []), *(table.get("LocalSecondaryIndexes") or [])]
    keys = {each["IndexName"]: _keys(each) for each in indexes}
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", [])}
    return _keys(table), keys, types, "StreamSpecification" in table


def _keys(holder: Mapping[str, Any]) -> dict[str, str]:
    return {each["AttributeName"]: each["KeyType"] for each in holder.get("KeySchema", [])}


def _bucket(client: Client, name: str, _properties: Mapping[str, Any]) -> Values:
    client("s3").head_bucket(Bucket=name)
    return {}


def _stream(client: Client, name: str, _properties: Mapping[str, Any]) -> Values:
    client("kinesis").describe_stream_summary(StreamName=name)
    return {}


def _parameter(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """The template's value counts, as it does in a deployment that changes it."""
    client("ssm").get_parameter(Name=name)
    client("ssm").put_parameter(Name=name, Value=properties["Value"], Type=properties["Type"], Overwrite=True)
    return {"": name}


def _secret(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A generated secret stays; one that the template spells out follows the template."""
    arn = client("secretsmanager").describe_secret(SecretId=name)["ARN"]
    if "SecretString" in properties:
        client("secretsmanager").put_secret_value(SecretId=name, SecretString=properties["SecretString"])
    return {"": arn, "Id": arn}


_LOOKS: dict[str, Callable[[Client, str, Mapping[str, Any]], Values | None]] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::Kinesis::Stream": _stream,
    "AWS::S3::Bucket": _bucket,
    "AWS::SSM::Parameter": _parameter,
    "AWS::SecretsManager::Secret": _secret,
}
