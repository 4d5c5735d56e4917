"""An AWS account on loopback for `sam deploy`: moto, with the SAM transform that it lacks.

CloudFormation's own part is real as far as moto goes: parameters, conditions, every Ref, GetAtt and Sub, the order of
creation and circles in it, the change set, outputs. Resource types moto cannot make are recorded and nothing else.
"""

import contextlib
import functools
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from tests.deploy.rules import broken

ID = "123456789012"
REGION = "us-east-1"

RECORDED_ONLY = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Stage",
        "AWS::CloudWatch::Alarm",
        "AWS::CodeDeploy::Application",
        "AWS::CodeDeploy::DeploymentGroup",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::ElastiCache::ServerlessCache",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Lambda::Version",
        "AWS::RDS::DBCluster",
        "AWS::RDS::DBClusterParameterGroup",
        "AWS::RDS::DBInstance",
        "AWS::RDS::DBProxy",
        "AWS::RDS::DBProxyTargetGroup",
        "AWS::SecretsManager::Secret",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::S3::BucketPolicy",
    }
)
# What Ref gives, where it is not the name.
_ARNS = {
    "AWS::Lambda::Alias": "lambda:{region}:{account}:function:{FunctionName}:{Name}",
    "AWS::Lambda::Version": "lambda:{region}:{account}:function:{FunctionName}:1",
    "AWS::Lambda::LayerVersion": "lambda:{region}:{account}:layer:{LayerName}:1",
    "AWS::SecretsManager::Secret": "secretsmanager:{region}:{account}:secret:{name}",
}
# What GetAtt gives for an ARN, where it has an id and not the name.
_ARN_ATTRIBUTES = {"AWS::RDS::DBProxy": "rds:{region}:{account}:db-proxy:prx-{name}"}


@dataclass(frozen=True, slots=True)
class Account:
    """Where it answers, and what was asked of it."""

    url: str
    created: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Stack -> logical id -> {"Type", "Properties"}: every intrinsic resolved as CloudFormation would."""

    def client(self, service: str) -> Any:
        import boto3

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **keys)

    def deploy(self, stack: str, template: dict[str, Any], parameters: Mapping[str, str]) -> None:
        """Without SAM CLI, a packaged template: for the many ways in which parameters can be combined."""
        client = self.client("cloudformation")
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        # moto finds a change set by its name alone, whatever the stack.
        names = {"StackName": stack, "ChangeSetName": f"made-{stack}"}
        body = json.dumps(template)
        client.create_change_set(**names, ChangeSetType="CREATE", TemplateBody=body, Parameters=given)
        client.execute_change_set(**names)

    def of_type(self, stack: str, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id -> resolved properties."""
        found = self.created[stack]
        return {name: resource["Properties"] for name, resource in found.items() if resource["Type"] == kind}


@contextlib.contextmanager
def account() -> Iterator[Account]:
    """moto's server on a free port, in a thread of this process."""
    from moto.cloudformation import parsing
    from moto.cloudformation.models import CloudFormationBackend
    from moto.core.config import default_user_config
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.dict(default_user_config, {"lambda": {"use_docker": False}}))
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server.start()
        patches.callback(server.stop)
        # By this name: moto takes the first label of any other host for the name of a bucket.
        running = Account(f"http://localhost:{server.get_host_and_port()[1]}")
        for owner, name, replacement in (
            (CloudFormationBackend, "create_change_set", _create_expanded(CloudFormationBackend.create_change_set)),
            (CloudFormationBackend, "execute_change_set", _execute(CloudFormationBackend.execute_change_set)),
            (parsing, "clean_json", _mended(parsing.clean_json)),
            (parsing, "resource_class_from_type", _class_of(parsing.resource_class_from_type)),
            (parsing, "parse_resource_and_generate_name", _recorded(parsing.parse_resource_and_generate_name, running)),
        ):
            patches.enter_context(mock.patch.object(owner, name, replacement))
        yield running


def expanded(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """The template after the SAM transform, as CloudFormation's macro runs it at each deployment."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data
    from samtranslator.translator.transform import transform

    policies = mock.Mock()
    named = json.loads(aws_managed_policies_data).items()
    policies.load.return_value = {name: f"arn:aws:iam::aws:policy{each.get('Path', '/')}{name}" for name, each in named}
    with mock.patch.dict("os.environ", AWS_DEFAULT_REGION=REGION):
        result: dict[str, Any] = transform(template, parameters, policies)
    return result


def _create_expanded(original: Any) -> Any:
    def create_change_set(self: Any, **request: Any) -> Any:
        from samtranslator.yaml_helper import yaml_parse

        template = yaml_parse(request["template"])
        with _refusing():
            if refused := broken(template, dict(request["parameters"])):
                raise AssertionError("; ".join(refused))
        if "Transform" in template:
            with _refusing():
                request["template"] = json.dumps(expanded(template, dict(request["parameters"])))
        return original(self, **request)

    return create_change_set


def _execute(original: Any) -> Any:
    def execute_change_set(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        with _refusing():
            original(self, change_set_name, stack_name)
            # moto leaves a stack that was made by a change set without its outputs.
            names = (
                each
                for each in self.change_sets.values()
                if change_set_name in (each.change_set_id, each.change_set_name)
            )
            stack = self.stacks[next(names).stack_id]
            stack._parse_template()
            stack.output_map = stack._create_output_map()

    return execute_change_set


def _mended(original: Any) -> Any:
    def clean_json(value: Any, resources: Any) -> Any:
        """AWS::NoValue takes a list's entry away, where moto leaves a None; an attribute's name may hold dots."""
        match value:
            case {"Fn::GetAtt": [name, first, *rest]} if rest:
                value = {"Fn::GetAtt": [name, ".".join((first, *rest))]}
        cleaned = original(value, resources)
        return [entry for entry in cleaned if entry is not None] if isinstance(cleaned, list) else cleaned

    return clean_json


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Any error as an answer that SAM CLI can show, instead of a page of HTML that it cannot."""
    from moto.cloudformation.exceptions import ValidationError

    try:
        yield
    except ValidationError:
        raise
    except Exception as error:
        raise ValidationError(message=f"{type(error).__name__}: {error}") from error


def _recorded(original: Any, account: Account) -> Any:
    def parse_resource_and_generate_name(logical_id: str, resource: dict[str, Any], resources: Any) -> Any:
        _, resolved, _ = found = original(logical_id, resource, resources)
        stack = account.created.setdefault(str(resources["AWS::StackName"]), {})
        stack[logical_id] = {"Type": resolved["Type"], "Properties": resolved.get("Properties", {})}
        return found

    return parse_resource_and_generate_name


def _class_of(original: Any) -> Any:
    def resource_class_from_type(kind: str) -> Any:
        if kind in RECORDED_ONLY:
            return _recorded_class(kind)
        found = original(kind)
        if found is None:
            raise AssertionError(f"moto cannot make {kind}: add it to RECORDED_ONLY")
        return found

    return resource_class_from_type


@functools.cache
def _recorded_class(kind: str) -> Any:
    """Has a name and any attribute: whether the type has that attribute is cfn-lint's to judge."""

    class Recorded:
        cf_resource_type: str
        logical_resource_id: str

        def __init__(self, name: str, properties: dict[str, Any]) -> None:
            self._name = name
            _, service, thing = kind.lower().split("::")
            pattern = _ARN_ATTRIBUTES.get(kind) or _ARNS.get(kind, f"{service}:{{region}}:{{account}}:{thing}:{{name}}")
            self._arn = "arn:aws:" + pattern.format(region=REGION, account=ID, name=name, **properties)
            self.physical_resource_id = self._arn if kind in _ARNS else name

        @classmethod
        def create_from_cloudformation_json(
            cls, name: str, resource: dict[str, Any], _account: str, _region: str, **_more: Any
        ) -> "Recorded":
            return cls(name, resource["Properties"])

        @classmethod
        def has_cfn_attr(cls, _attribute: str) -> bool:
            return True

        def get_cfn_attribute(self, attribute: str) -> str:
            if attribute.endswith("Arn"):
                return self._arn
            if attribute.endswith("Port"):
                return "5432"
            return "1" if attribute == "Version" else f"{attribute.lower()}.{self._name}"

        def is_created(self) -> bool:
            return True

        def delete(self, _account: str, _region: str) -> None: ...

    return Recorded
