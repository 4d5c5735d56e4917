"""Makes a template's resources in the local AWS; runs in a process of its own (`python -m warmfront.emulator.resources.make`).

The first line of standard input is the order: template, parameters, region, account, targets. The second is the address
of the local AWS. One line of JSON comes back: values of references, what was made, and what could not be.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmfront.emulator.resources.document import Document
from warmfront.emulator.resources.kept import kept_values
from warmfront.emulator.resources.kinds import NAME_PROPERTY, values_of_name
from warmfront.emulator.resources.makers import FINISHERS, MAKERS, Values, prepared
from warmfront.emulator.template.made_up_names import made_up_name
from warmfront.emulator.template.source import TemplateError, text


class Maker:
    """Makes one resource after the other; one that fails stops none of the others."""

    def __init__(self, document: Document, attributes: dict[str, str], endpoint: str, order: Mapping[str, Any]) -> None:
        self._document = document
        self._attributes = attributes
        self._endpoint = endpoint
        self._region, self._account = order["region"], order["account"]
        self._kept = bool(order["kept"])
        self._clients: dict[str, Any] = {}
        self.made: dict[str, str] = {}
        """Logical id -> type."""
        self.warnings: list[str] = []

    def make_all(self) -> None:
        """Make everything that the template holds for the local AWS, and look up what it reads from there."""
        for logical_id, reason in self._document.problems.items():
            self._warn(logical_id, self._document.resources[logical_id]["Type"], reason)
        for logical_id in self._document.planned():
            kind = str(self._document.resources[logical_id]["Type"])
            try:
                self._make(logical_id, kind)
            except Exception as error:  # botocore's errors, moto's own faults and a template's odd values: each is told
                self._warn(logical_id, kind, f"{type(error).__name__}: {error}"[:300])
        self._look_up()

    def make_targets(self, arns: list[str]) -> None:
        """Make queues, topics and buses outside the template that its functions send to."""
        for arn in set(arns) - set(self._attributes.values()):
            try:
                service, name = arn.split(":")[2], arn.rpartition(":")[2]
                if service == "sqs":
                    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
                    self.client("sqs").create_queue(QueueName=name, Attributes=fifo)
                elif service == "sns":
                    self.client("sns").create_topic(Name=name)
                elif service == "events" and not name.endswith("/default"):
                    self.client("events").create_event_bus(Name=name.rpartition("/")[2])
            except Exception as error:  # as above: told, and the rest goes on
                self.warnings.append(f"{arn} cannot be made in the local AWS: {error}")

    def client(self, service: str) -> Any:
        """A boto3 client of the local AWS."""
        import boto3
        from botocore.config import Config

        if service not in self._clients:
            self._clients[service] = boto3.Session("local", "local", region_name=self._region).client(
                service, endpoint_url=self._endpoint, config=Config(retries={"total_max_attempts": 1}, read_timeout=60)
            )
        return self._clients[service]

    def _make(self, logical_id: str, kind: str) -> None:
        properties = self._document.properties(logical_id)
        named_by = NAME_PROPERTY.get(kind)
        name = logical_id
        if named_by is not None:
            fifo = text(properties.get("FifoQueue", properties.get("FifoTopic", False))) == "true"
            name = text(properties.get(named_by) or made_up_name(kind, logical_id, fifo=fifo))
            properties[named_by] = name
        kept = kept_values(self.client, kind, name, properties) if self._kept else None
        if kept is not None:
            values = kept
        elif kind in MAKERS:
            values = MAKERS[kind](self.client, name, properties)
        else:
            values = self._make_stack(logical_id, kind, prepared(kind, properties))
        if kind in FINISHERS:
            values |= FINISHERS[kind](self.client, name, properties)
        by_name = values_of_name(kind, name, region=self._region, account=self._account, endpoint=self._endpoint)
        self._note(logical_id, values | by_name)
        if kind == "AWS::SSM::Parameter":
            self._note(logical_id, {key: text(properties[key]) for key in ("Type", "Value") if key in properties})
        self.made[logical_id] = kind

    def _make_stack(self, logical_id: str, kind: str, properties: Mapping[str, Any]) -> Values:
        """One stack for one resource, so that a resource which moto refuses takes no other with it."""
        cloudformation = self.client("cloudformation")
        body = {"Resources": {logical_id: {"Type": kind, "Properties": properties}}}
        cloudformation.create_stack(StackName=f"local-{logical_id}", TemplateBody=json.dumps(body, default=str))
        (resource,) = cloudformation.describe_stack_resources(StackName=f"local-{logical_id}")["StackResources"]
        if not resource.get("PhysicalResourceId"):
            raise NotInMoto("moto has no such resource; calls to it fail as if it were not there")
        values = {"": resource["PhysicalResourceId"]}
        for number, attribute in enumerate(sorted(self._document.attributes_asked_of(logical_id))):
            # Asked for one by one: an attribute that moto does not know fails the whole request.
            outputs = {f"Value{number}": {"Value": {"Fn::GetAtt": [logical_id, attribute]}}}
            with contextlib.suppress(Exception):
                cloudformation.update_stack(
                    StackName=f"local-{logical_id}", TemplateBody=json.dumps({**body, "Outputs": outputs}, default=str)
                )
                (stack,) = cloudformation.describe_stacks(StackName=f"local-{logical_id}")["Stacks"]
                values[attribute] = stack["Outputs"][0]["OutputValue"]
        return values

    def _note(self, logical_id: str, values: Mapping[str, str]) -> None:
        for attribute, value in values.items():
            self._attributes[f"{logical_id}.{attribute}" if attribute else logical_id] = value

    def _look_up(self) -> None:
        """Values that CloudFormation reads from SSM and Secrets Manager when a stack is made."""
        for parameter, name in self._document.ssm_parameters().items():
            with contextlib.suppress(Exception):  # not there: the template reader says what it takes in its place
                self._attributes[parameter] = self.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
        for reference in self._document.dynamic_references():
            with contextlib.suppress(Exception):
                self._attributes[reference] = self._dynamic(reference)

    def _dynamic(self, reference: str) -> str:
        """docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html"""
        service, _, rest = reference.removeprefix("{{resolve:").removesuffix("}}").partition(":")
        if service != "secretsmanager":
            answer = self.client("ssm").get_parameter(Name=rest, WithDecryption=True)
            return str(answer["Parameter"]["Value"])
        secret, _, tail = rest.partition(":SecretString")
        key = tail.lstrip(":").split(":")[0]
        value = str(self.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"])
        return str(json.loads(value)[key]) if key else value

    def _warn(self, logical_id: str, kind: str, reason: str) -> None:
        self.warnings.append(f"Resources/{logical_id} ({kind}) is not in the local AWS: {reason}")


class NotInMoto(Exception):
    """moto's CloudFormation does not know the type."""


def main() -> int:
    """Read the order, make what it asks for, print the outcome."""
    order = json.loads(sys.stdin.readline())
    attributes: dict[str, str] = {}
    try:
        document = Document(Path(order["template"]), order["parameters"], order["region"], attributes)
        import boto3  # noqa: F401 - while the local AWS is still starting
    except TemplateError as error:
        print(json.dumps({"error": str(error)}))
        return 0
    endpoint = sys.stdin.readline().strip()
    if not endpoint:  # the emulator gave up
        return 1
    maker = Maker(document, attributes, endpoint, order)
    maker.make_all()
    maker.make_targets(order["targets"])
    print(json.dumps({"attributes": attributes, "made": maker.made, "warnings": maker.warnings}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
