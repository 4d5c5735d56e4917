"""Makes single resources through the API of their service, where moto's CloudFormation lacks them or loses properties."""

import json
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

Client = Callable[[str], Any]
"""Service name -> boto3 client of the local AWS."""
Values = dict[str, str]
"""`Ref` under "" and attributes by name."""


def make_queue(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A queue with every attribute of the template. Raises ClientError."""
    attributes = {key: _as_text(value) for key, value in properties.items() if key not in ("QueueName", "Tags")}
    attributes = {key: value for key, value in attributes.items() if (key, value) != ("FifoQueue", "false")}
    client("sqs").create_queue(QueueName=name, Attributes=attributes, tags=_tags(properties))
    return {}


def make_secret(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A secret with its text, or one generated as GenerateSecretString asks."""
    text = properties.get("SecretString")
    if text is None:
        text = generated_secret(properties.get("GenerateSecretString") or {})
    answer = client("secretsmanager").create_secret(
        Name=name, SecretString=text, Description=properties.get("Description", "")
    )
    return {"": answer["ARN"], "Id": answer["ARN"]}


def generated_secret(wish: Mapping[str, Any]) -> str:
    """A random password, or a JSON object around one.

    docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-secretsmanager-secret-generatesecretstring.html
    """
    classes = {
        "ExcludeUppercase": string.ascii_uppercase,
        "ExcludeLowercase": string.ascii_lowercase,
        "ExcludeNumbers": string.digits,
        "ExcludePunctuation": string.punctuation,
    }
    excluded = set(str(wish.get("ExcludeCharacters", "")))
    kept = [
        "".join(c for c in characters if c not in excluded)
        for flag, characters in classes.items()
        if not _is_true(wish.get(flag))
    ]
    if _is_true(wish.get("IncludeSpace")):
        kept.append(" ")
    kept = [characters for characters in kept if characters]
    if not kept:
        raise ValueError("GenerateSecretString excludes every character")
    length = int(wish.get("PasswordLength", 32))
    each_type = str(wish.get("RequireEachIncludedType", "true")).lower() != "false"
    chosen = [secrets.choice(characters) for characters in kept] if each_type and length >= len(kept) else []
    chosen += [secrets.choice("".join(kept)) for _ in range(length - len(chosen))]
    secrets.SystemRandom().shuffle(chosen)
    password = "".join(chosen)
    if "SecretStringTemplate" not in wish:
        return password
    key = wish.get("GenerateStringKey", "password")
    return json.dumps({**json.loads(wish["SecretStringTemplate"]), key: password})


def make_bus(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """moto's CloudFormation gives a Python object's text as the Ref of an event bus, so it is made here."""
    client("events").create_event_bus(Name=name, Description=properties.get("Description", ""))
    return {}


def make_rule(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A rule with those of its targets that the local AWS delivers to; functions are the emulator's own."""
    bus = str(properties.get("EventBusName", "default")).rpartition("/")[2]
    wanted = {key: properties[key] for key in ("ScheduleExpression", "State", "Description") if key in properties}
    if "EventPattern" in properties:
        wanted["EventPattern"] = _as_text(properties["EventPattern"])
    answer = client("events").put_rule(Name=name, EventBusName=bus, **wanted)
    targets = [each for each in properties.get("Targets", []) if ":lambda:" not in str(each.get("Arn"))]
    if targets:
        client("events").put_targets(Rule=name, EventBusName=bus, Targets=targets)
    return {"": name if bus == "default" else f"{bus}|{name}", "Arn": answer["RuleArn"]}


def make_topic(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A topic and its subscriptions."""
    left_out = ("TopicName", "Tags", "Subscription", "LoggingConfig", "DeliveryStatusLogging", "FifoThroughputScope")
    attributes = {key: _as_text(value) for key, value in properties.items() if key not in left_out}
    attributes = {key: value for key, value in attributes.items() if (key, value) != ("FifoTopic", "false")}
    arn = client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]
    for each in properties.get("Subscription") or []:
        make_subscription(client, "", {"TopicArn": arn, **each})
    return {}


def make_subscription(client: Client, _name: str, properties: Mapping[str, Any]) -> Values:
    """A subscription; one of a function is left out, because the local AWS has no functions."""
    if properties.get("Protocol") == "lambda":
        return {"": f"{properties['TopicArn']}:function"}
    answer = client("sns").subscribe(
        TopicArn=properties["TopicArn"],
        Protocol=properties["Protocol"],
        Endpoint=properties.get("Endpoint", ""),
        ReturnSubscriptionArn=True,
        Attributes={
            key: _as_text(properties[key])
            for key in ("FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy", "DeliveryPolicy")
            if key in properties
        },
    )
    return {"": answer["SubscriptionArn"]}


def make_user_pool(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A Cognito user pool."""
    named = (
        "Policies",
        "AutoVerifiedAttributes",
        "AliasAttributes",
        "UsernameAttributes",
        "Schema",
        "MfaConfiguration",
    )
    wanted = {key: properties[key] for key in named if key in properties}
    pool = client("cognito-idp").create_user_pool(PoolName=name, **wanted)["UserPool"]
    provider = f"cognito-idp.{pool['Arn'].split(':')[3]}.amazonaws.com/{pool['Id']}"
    return {
        "": pool["Id"],
        "Arn": pool["Arn"],
        "UserPoolId": pool["Id"],
        "ProviderName": provider,
        "ProviderURL": f"https://{provider}",
    }


def make_user_pool_client(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """An app client of a Cognito user pool."""
    service = client("cognito-idp")
    known = service.meta.service_model.operation_model("CreateUserPoolClient").input_shape.members
    wanted = {key: value for key, value in properties.items() if key in known}
    made = service.create_user_pool_client(**{"ClientName": name, **wanted})["UserPoolClient"]
    return {"": made["ClientId"], "ClientId": made["ClientId"], "ClientSecret": made.get("ClientSecret", "")}


def make_state_machine(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """A state machine; moto's CloudFormation makes one that is never executed."""
    definition = properties.get("Definition")
    text = str(properties.get("DefinitionString", "")) if definition is None else json.dumps(definition)
    for key, value in (properties.get("DefinitionSubstitutions") or {}).items():
        text = text.replace(f"${{{key}}}", _as_text(value))
    client("stepfunctions").create_state_machine(
        name=name,
        definition=text,
        roleArn=properties.get("RoleArn") or "arn:aws:iam::123456789012:role/local",
        type=properties.get("StateMachineType", "STANDARD"),
    )
    return {}


MAKERS: dict[str, Callable[[Client, str, Mapping[str, Any]], Values]] = {
    "AWS::Cognito::UserPool": make_user_pool,
    "AWS::Cognito::UserPoolClient": make_user_pool_client,
    "AWS::Events::EventBus": make_bus,
    "AWS::Events::Rule": make_rule,
    "AWS::SNS::Subscription": make_subscription,
    "AWS::SNS::Topic": make_topic,
    "AWS::SQS::Queue": make_queue,
    "AWS::SecretsManager::Secret": make_secret,
    "AWS::StepFunctions::StateMachine": make_state_machine,
}


def finish_table(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """What moto's CloudFormation leaves out of a table: time to live; and the name of its stream."""
    dynamodb = client("dynamodb")
    ttl = properties.get("TimeToLiveSpecification")
    if ttl and _is_true(ttl.get("Enabled")):
        specification = {"Enabled": True, "AttributeName": ttl["AttributeName"]}
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=specification)
    arn = dynamodb.describe_table(TableName=name)["Table"].get("LatestStreamArn")
    return {"StreamArn": arn} if arn else {}


def finish_bucket(client: Client, name: str, properties: Mapping[str, Any]) -> Values:
    """What moto's CloudFormation leaves out of a bucket: versions, CORS and notifications."""
    s3 = client("s3")
    if "VersioningConfiguration" in properties:
        status = properties["VersioningConfiguration"].get("Status", "Suspended")
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
    rules = (properties.get("CorsConfiguration") or {}).get("CorsRules")
    if rules:
        s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [_cors_rule(rule) for rule in rules]})
    notifications = _notifications(properties.get("NotificationConfiguration") or {})
    if notifications:
        s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=notifications)
    return {}


def _cors_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
    return {names.get(key, key): int(value) if key == "MaxAge" else value for key, value in rule.items()}


def _notifications(wish: Mapping[str, Any]) -> dict[str, Any]:
    """CloudFormation's NotificationConfiguration as S3's API takes it, less functions."""
    found: dict[str, Any] = {}
    for kind, target in (("Queue", "Queue"), ("Topic", "Topic")):
        entries = []
        for each in wish.get(f"{kind}Configurations") or []:
            entry: dict[str, Any] = {f"{kind}Arn": each[target], "Events": [each["Event"]]}
            rules = ((each.get("Filter") or {}).get("S3Key") or {}).get("Rules")
            if rules:
                entry["Filter"] = {"Key": {"FilterRules": rules}}
            entries.append(entry)
        if entries:
            found[f"{kind}Configurations"] = entries
    return found


FINISHERS: dict[str, Callable[[Client, str, Mapping[str, Any]], Values]] = {
    "AWS::DynamoDB::Table": finish_table,
    "AWS::S3::Bucket": finish_bucket,
}


def prepared(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as moto's CloudFormation takes them."""
    made = dict(properties)
    if kind == "AWS::DynamoDB::Table" and "StreamSpecification" in made:
        made["StreamSpecification"] = {"StreamEnabled": True, **made["StreamSpecification"]}
    return made


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _tags(properties: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag["Key"]): str(tag["Value"]) for tag in properties.get("Tags") or []}
