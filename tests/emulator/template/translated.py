"""What samtranslator makes of a template, reduced to what our reader must agree with. Its own small resolver is on purpose
another one than the reader's."""

import copy
import re
from pathlib import Path
from typing import Any
from unittest import mock

REGION = "us-east-1"
ACCOUNT = "123456789012"
_PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws", "AWS::StackName": "local"}


class Translated:
    """A template after samtranslator, with intrinsics resolved."""

    def __init__(self, path: Path, parameters: dict[str, str]) -> None:
        from samtranslator.translator.transform import transform
        from samtranslator.yaml_helper import yaml_parse

        self.source = yaml_parse(path.read_text().replace("\t", " "))
        declared = self.source.get("Parameters", {})
        self.parameters = {name: str(body.get("Default", "")) for name, body in declared.items()} | parameters
        self._lists = {name for name, body in declared.items() if body["Type"] == "CommaDelimitedList"}
        document = _with_code_in_s3(copy.deepcopy(self.source))
        policies = mock.Mock()
        policies.load.return_value = {
            "AWSLambdaBasicExecutionRole": "arn:basic", "AWSXrayWriteOnlyAccess": "arn:xray", "AWSXRayDaemonWriteAccess": "arn:x",
            "AWSLambdaSQSQueueExecutionRole": "arn:sqs",
        }  # fmt: skip
        self.document: dict[str, Any] = transform(document, dict(self.parameters), policies)

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id -> resolved properties, of resources whose condition holds."""
        return {
            name: self.resolve(resource.get("Properties", {}))
            for name, resource in self.document["Resources"].items()
            if resource["Type"] == kind and self._holds(resource.get("Condition"))
        }

    def _holds(self, condition: str | None) -> bool:
        return condition is None or self._truth(self.document["Conditions"][condition])

    def _truth(self, body: Any) -> bool:
        ((name, argument),) = body.items()
        if name == "Condition":
            return self._truth(self.document["Conditions"][argument])
        if name == "Fn::Equals":
            return str(self.resolve(argument[0])) == str(self.resolve(argument[1]))
        truths = [self._truth(entry) for entry in argument]
        return {"Fn::Not": not truths[0], "Fn::And": all(truths), "Fn::Or": any(truths)}[name]

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [entry for entry in map(self.resolve, value) if entry is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, body),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._intrinsic(name, body)
        resolved = {key: self.resolve(entry) for key, entry in value.items()}
        return {key: entry for key, entry in resolved.items() if entry is not None}

    def _intrinsic(self, name: str, body: Any) -> Any:
        if name == "Ref":
            return self._ref(body)
        if name == "Fn::If":
            return self.resolve(body[1] if self._holds(body[0]) else body[2])
        if name == "Fn::Sub":
            text, variables = body if isinstance(body, list) else (body, {})
            text = re.sub(r"\$\{([A-Za-z0-9_:.]+)\}", lambda match: self._substitute(match.group(1), variables), text)
            return text.replace("${!", "${")
        if name == "Fn::GetAtt":
            return f"{body[0]}.{body[1]}" if isinstance(body, list) else body
        if name == "Fn::Join":
            return body[0].join(map(str, self.resolve(body[1])))
        if name == "Fn::Select":
            return self.resolve(body[1])[int(body[0])]
        if name == "Fn::Split":
            return self.resolve(body[1]).split(body[0])
        if name == "Fn::FindInMap":
            first, second, third = map(self.resolve, body)
            return self.document["Mappings"][first][second][third]
        raise AssertionError(f"{name} in a fixture")

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return None
        if name in self._lists:
            return [part.strip() for part in self.parameters[name].split(",")]
        return self.parameters.get(name, _PSEUDO.get(name, name))

    def _substitute(self, name: str, variables: dict[str, Any]) -> str:
        if name in variables:
            return str(self.resolve(variables[name]))
        return str(self._ref(name)) if "." not in name else name


def _with_code_in_s3(document: dict[str, Any]) -> dict[str, Any]:
    """samtranslator takes code from S3 only; `sam package` would have put it there."""
    sections = [resource.get("Properties", {}) for resource in document["Resources"].values()]
    sections += list(document.get("Globals", {}).values())
    for properties in sections:
        for key in ("CodeUri", "ContentUri"):
            if isinstance(properties.get(key), str):
                properties[key] = f"s3://bucket/{properties[key].strip('./').replace('/', '-')}"
    return document
