"""Resolves intrinsic functions, conditions and mappings of a template to plain values.

Values are resolved when they are read, so that an expression without a local value matters only where it is used.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from warmfront.emulator.template.arns import API_TYPES, ARN, NAME_PROPERTY, REF_IS_ARN, api_id
from warmfront.emulator.template.circles import CircleGuard
from warmfront.emulator.template.made_up_names import made_up_name
from warmfront.emulator.template.parameters import MissingValue, Parameters
from warmfront.emulator.template.source import Items, Node, TemplateError, is_intrinsic, line_of, text

NO_VALUE: Final = object()
"""AWS::NoValue: the property or list entry that holds it is as if it were not written."""

ACCOUNT_ID: Final = "123456789012"
DEFAULT_REGION: Final = "us-east-1"
IMPLICIT_APIS: Final = {"ServerlessHttpApi": "AWS::Serverless::HttpApi", "ServerlessRestApi": "AWS::Serverless::Api"}
_FUNCTION_TYPES: Final = ("AWS::Serverless::Function", "AWS::Lambda::Function")
_SUB_VARIABLE: Final = re.compile(r"\$\{(!?)([^}]*)\}")
_DYNAMIC: Final = re.compile(r"\{\{resolve:[^}]*\}\}")
_CONDITION_FUNCTIONS: Final = ("Condition", "Fn::And", "Fn::Or", "Fn::Not", "Fn::Equals")


class Resolver:
    """Resolves values of one template with one set of parameters. Not thread safe; made, used and dropped."""

    def __init__(
        self,
        root: Node,
        name: str,
        *,
        overrides: Mapping[str, str],
        region: str,
        attributes: Mapping[str, str],
        fallbacks: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> None:
        """`prefix` goes before the names and API ids of a nested stack's resources."""
        self._name, self._prefix = name, prefix
        self._mappings = _section(root, "Mappings", self)
        self._condition_bodies = _section(root, "Conditions", self)
        self._conditions: dict[str, bool] = {}
        self.resources = _section(root, "Resources", self)
        self._attributes = attributes
        self._resolving: list[str] = []
        self._warnings: dict[str, None] = {}
        self._problems: dict[str, None] = {}
        self._pseudo: dict[str, Any] = {
            "AWS::Region": region,
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": "local",
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{ACCOUNT_ID}:stack/local/local",
            "AWS::NotificationARNs": [],
            "AWS::NoValue": NO_VALUE,
        }
        self._pseudo.update({key: value for key, value in overrides.items() if key in self._pseudo})
        self._functions: dict[str, Callable[[Any, int], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::GetAZs": lambda _body, _line: [f"{self.region}{zone}" for zone in "abc"],
            "Fn::Base64": lambda body, _line: base64.b64encode(text(self.resolve(body)).encode()).decode(),
            "Fn::ImportValue": lambda body, line: self._no_local_value(f"ImportValue {text(self.resolve(body))}", line),
            "Fn::ToJsonString": lambda body, _line: json.dumps(self.resolve(body), separators=(",", ":")),
            "Fn::Length": lambda body, line: len(self._list(body, line, "Fn::Length")),
        }
        self._parameters = Parameters(
            _section(root, "Parameters", self),
            overrides,
            fallbacks or {},
            pseudo=self._pseudo,
            warn=self.warn,
            where=self._where,
        )
        self.parameters = self._parameters.values

    @property
    def region(self) -> str:
        return str(self._pseudo["AWS::Region"])

    @property
    def account(self) -> str:
        return str(self._pseudo["AWS::AccountId"])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    @property
    def problems(self) -> tuple[str, ...]:
        """Mistakes of the template that CloudFormation would refuse, each with its line; reading went on without them."""
        return tuple(self._problems)

    def problem(self, error: TemplateError) -> None:
        self._problems[str(error)] = None

    def attempt[**P, T](self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What `read` returns; None, and a problem, where the template is at fault. Raises MissingValue."""
        try:
            return read(*args, **kwargs)
        except MissingValue:
            raise
        except TemplateError as error:
            self.problem(error)
            return None

    def warn(self, message: str, line: int = 0) -> None:
        self._warnings[f"{self._where(line)}: {message}"] = None

    def error(self, message: str, line: int = 0) -> TemplateError:
        return TemplateError(f"{self._where(line)}: {message}")

    def _where(self, line: int) -> str:
        return f"{self._name}:{line}" if line else self._name

    def dynamic(self, value: str) -> str:
        """The text with those of its {{resolve:...}} references replaced that `attributes` has a value for."""
        return _DYNAMIC.sub(lambda match: self._attributes.get(match[0], match[0]), value)

    # Conditions

    def condition(self, name: Any, line: int = 0) -> bool:
        if not isinstance(name, str) or name not in self._condition_bodies:
            raise self.error(f"condition {name} is not declared under Conditions", line)
        if name not in self._conditions:
            with CircleGuard(self._resolving, f"condition {name}", lambda text: self.error(text, line)):
                self._conditions[name] = self._truth(self._condition_bodies[name], line)
        return self._conditions[name]

    def _truth(self, body: Any, line: int) -> bool:
        line = line_of(body, line)
        if isinstance(body, bool):
            return body
        if isinstance(body, Node) and len(body) == 1:
            key, argument = next(iter(body.items()))
            if key == "Condition":
                return self.condition(argument, line)
            if key == "Fn::Equals" and isinstance(argument, list) and len(argument) == 2:
                left, right = (self.resolve(side) for side in argument)
                return text(left) == text(right)
            if key == "Fn::Not" and isinstance(argument, list) and len(argument) == 1:
                return not self._truth(argument[0], line)
            if key in ("Fn::And", "Fn::Or") and isinstance(argument, list):
                truths = [self._truth(entry, line) for entry in argument]
                return all(truths) if key == "Fn::And" else any(truths)
        raise self.error(f"a condition is made of {', '.join(_CONDITION_FUNCTIONS)}; this is none of them", line)

    # Values

    def resolve(self, value: Any) -> Any:
        """The plain value; AWS::NoValue inside mappings and lists is dropped with its key."""
        if isinstance(value, dict):
            if is_intrinsic(value):
                return self._call(value)
            resolved = {key: self.resolve(entry) for key, entry in value.items()}
            return {key: entry for key, entry in resolved.items() if entry is not NO_VALUE}
        if isinstance(value, list):
            entries = [self.resolve(entry) for entry in value]
            return [entry for entry in entries if entry is not NO_VALUE]
        return value

    def branch(self, value: Any) -> Any:
        """Follows Fn::If and nothing else: for places where a reference must stay one."""
        while is_intrinsic(value) and "Fn::If" in value:
            line = line_of(value)
            arguments = self._arguments(value["Fn::If"], 3, line, "Fn::If")
            value = arguments[1] if self.condition(arguments[0], line) else arguments[2]
        if is_intrinsic(value) and value.get("Ref") == "AWS::NoValue":
            return NO_VALUE
        return value

    def _call(self, value: dict[str, Any]) -> Any:
        name, body = next(iter(value.items()))
        line = line_of(value)
        if name in _CONDITION_FUNCTIONS:
            return self._truth(value, line)
        function = self._functions.get(name)
        if function is None:
            self.warn(f"{name} has no local value, so it is an empty string; give the value by a parameter", line)
            return ""
        return function(body, line)

    def _names_nothing(self, message: str, line: int) -> str:
        """An empty string for a reference to nothing, which is a mistake; whatever else the template holds still runs."""
        self.problem(self.error(message, line))
        return ""

    def _name_of(self, body: Any, line: int, wanted: str) -> str:
        """A name in a call; AWS::LanguageExtensions lets it be a call that gives a string."""
        name = self.resolve(body)
        if name is NO_VALUE or isinstance(name, dict | list):
            raise self.error(wanted, line)
        return text(name)

    def _ref(self, body: Any, line: int) -> Any:
        name = self._name_of(body, line, "Ref wants the name of a parameter or a resource")
        if name in self._attributes:
            return self._attributes[name]
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters.value(name, line)
        resource = self.resources.get(name)
        if isinstance(resource, Node):
            return self._resource_ref(name, resource, line)
        if name in IMPLICIT_APIS:
            return api_id(self._prefix + name)
        if "." in name or self._is_generated(name):
            return self._generated(name, line)
        return self._names_nothing(f"Ref {name} names no parameter and no resource of this template", line)

    def _resource_ref(self, logical_id: str, resource: Node, line: int) -> str:
        kind = str(resource.get("Type"))
        if kind in API_TYPES:
            return api_id(self._prefix + logical_id)
        if kind in REF_IS_ARN:
            return self.arn(logical_id, kind, line)
        name = self.physical_name(logical_id, line)
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{self.region}.amazonaws.com/{self.account}/{name}"
        return name

    def physical_name(self, logical_id: str, line: int = 0) -> str:
        """The resource's own name, or one made of its logical id where CloudFormation would make a name up."""
        resource: Node = self.resources[logical_id]
        properties = resource.get("Properties")
        kind = str(resource.get("Type"))
        key = NAME_PROPERTY.get(kind)
        value: Any = NO_VALUE
        fifo = False
        if isinstance(properties, Node):
            with CircleGuard(self._resolving, f"the name of {logical_id}", lambda text: self.error(text, line)):
                value = self.resolve(properties.get(key, NO_VALUE)) if key is not None else NO_VALUE
                fifo = any(text(self.resolve(properties.get(flag))) == "true" for flag in ("FifoQueue", "FifoTopic"))
        return made_up_name(kind, self._prefix + logical_id, fifo=fifo) if value is NO_VALUE else text(value)

    def arn(self, logical_id: str, kind: str, line: int = 0) -> str:
        name = self.physical_name(logical_id, line)
        rest = ARN[kind].format(region=self.region, account=self.account, name=name)
        return f"arn:{self._pseudo['AWS::Partition']}:{rest}"

    def _get_att(self, body: Any, line: int) -> str:
        wanted = "Fn::GetAtt wants a resource and an attribute"
        parts = body if isinstance(body, list) else self._name_of(body, line, wanted).split(".", 1)
        if len(parts) < 2:
            raise self.error(wanted, line)
        logical_id, *path = (self._name_of(part, line, wanted) for part in parts)
        attribute = ".".join(path)
        if (known := self._attributes.get(f"{logical_id}.{attribute}")) is not None:
            return known
        resource = self.resources.get(logical_id)
        if not isinstance(resource, Node):
            if logical_id in IMPLICIT_APIS or self._is_generated(logical_id):
                return self._generated(f"{logical_id}.{attribute}", line)
            return self._names_nothing(f"GetAtt {logical_id}.{attribute} names no resource of this template", line)
        kind = str(resource.get("Type"))
        if attribute in ("Arn", "TopicArn", "QueueArn") and kind in ARN:
            return self.arn(logical_id, kind, line)
        if attribute in ("QueueName", "TopicName", "Name"):
            return self.physical_name(logical_id, line)
        if kind == "AWS::SQS::Queue" and attribute == "QueueUrl":
            return self._resource_ref(logical_id, resource, line)
        if attribute == "ApiId":
            return api_id(self._prefix + logical_id)
        if attribute == "ApiEndpoint" and kind in ("AWS::Serverless::HttpApi", "AWS::ApiGatewayV2::Api"):
            return f"https://{api_id(self._prefix + logical_id)}.execute-api.{self.region}.amazonaws.com"
        if attribute == "FunctionUrl" and kind == "AWS::Lambda::Url":
            return self._function_url(f"{self._target_of_url(resource)}Url")
        if kind == "AWS::Serverless::Function" and attribute.startswith(("Alias", "Version")):
            return self._generated(f"{logical_id}.{attribute}", line)
        return self._no_local_value(f"{logical_id}.{attribute}", line)

    def _is_generated(self, name: str) -> bool:
        """SAM adds resources named after ours: FunctionRole, FunctionAliaslive, ApiStage ..."""
        return any(name.startswith(known) for known in (*self.resources, *IMPLICIT_APIS))

    def _generated(self, name: str, line: int) -> str:
        logical_id, _, attribute = name.partition(".")
        resource = self.resources.get(logical_id)
        if isinstance(resource, Node) and resource.get("Type") == "AWS::Serverless::Function":
            arn = self.arn(logical_id, "AWS::Serverless::Function", line)
            if attribute.startswith("Alias"):
                alias = self._own_property(resource, "AutoPublishAlias")
                return f"{arn}:{alias}" if alias else arn
            if attribute == "Version":
                return f"{arn}:1"
        if attribute == "FunctionUrl":  # SAM names the URL of function F FUrl
            return self._function_url(logical_id)
        if attribute == "ApiEndpoint" and logical_id in IMPLICIT_APIS:
            return f"https://{api_id(self._prefix + logical_id)}.execute-api.{self.region}.amazonaws.com"
        if attribute == "Stage":
            return text(self._own_property(resource, "StageName") if isinstance(resource, Node) else "Prod")
        return self._no_local_value(name, line)

    def _target_of_url(self, url: Node) -> str:
        name = text(self._own_property(url, "TargetFunctionArn")).partition(":function:")[2].partition(":")[0]
        named = (each for each, found in self.resources.items() if "Function" in str(found.get("Type")))
        return next((each for each in named if self.physical_name(each) == name), name)

    def _function_url(self, logical_id: str) -> str:
        """As AWS writes it, with a slash at its end; the emulator leads it to this machine."""
        return f"https://{api_id(self._prefix + logical_id)}.lambda-url.{self.region}.on.aws/"

    def _own_property(self, resource: Node, key: str) -> Any:
        properties = resource.get("Properties")
        value = self.resolve(properties[key]) if isinstance(properties, Node) and key in properties else None
        return None if value is NO_VALUE else value

    def _no_local_value(self, name: str, line: int) -> str:
        self.warn(f"{name} has no local value, so it is an empty string; --env-vars can give one", line)
        return ""

    def _sub(self, body: Any, line: int) -> str:
        variables: Any = {}
        if isinstance(body, list):
            body, variables = self._arguments(body, 2, line, "Fn::Sub")
        if not isinstance(body, str) or not isinstance(variables, dict):
            raise self.error("Fn::Sub wants a string, or a list of a string and a mapping", line)

        def value_of(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return f"${{{name}}}"
            if name in variables:
                return text(self.resolve(variables[name]))
            is_attribute = "." in name and name not in self._attributes
            value = self._get_att(name, line) if is_attribute else self._ref(name, line)
            return ",".join(map(text, value)) if isinstance(value, list) else text(value)

        return _SUB_VARIABLE.sub(value_of, body)

    def _if(self, body: Any, line: int) -> Any:
        arguments = self._arguments(body, 3, line, "Fn::If")
        return self.resolve(arguments[1] if self.condition(arguments[0], line) else arguments[2])

    def _find_in_map(self, body: Any, line: int) -> Any:
        if not isinstance(body, list) or len(body) not in (3, 4):
            raise self.error("Fn::FindInMap wants a map, a top key and a second key", line)
        keys = [text(self.resolve(entry)) for entry in body[:3]]
        value: Any = self._mappings
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                if len(body) == 4 and isinstance(body[3], dict) and "DefaultValue" in body[3]:
                    return self.resolve(body[3]["DefaultValue"])
                raise self.error(f"Fn::FindInMap finds no {' / '.join(keys)} under Mappings", line)
            value = value[key]
        return self.resolve(value)

    def _join(self, body: Any, line: int) -> str:
        delimiter, values = self._arguments(body, 2, line, "Fn::Join")
        return text(delimiter).join(text(value) for value in self._list(values, line, "Fn::Join"))

    def _split(self, body: Any, line: int) -> list[str]:
        delimiter, source = self._arguments(body, 2, line, "Fn::Split")
        if not (delimiter := text(self.resolve(delimiter))):
            raise self.error("Fn::Split wants a delimiter that is not empty", line)
        return text(self.resolve(source)).split(delimiter)

    def _select(self, body: Any, line: int) -> Any:
        index, source = self._arguments(body, 2, line, "Fn::Select")
        values = self._list(source, line, "Fn::Select")
        try:
            return values[int(text(self.resolve(index)))]
        except (ValueError, IndexError):
            if values in ([], [""]):  # a part of something that has no local value, which has been said already
                return ""
            raise self.error(f"Fn::Select wants entry {index} of a list of {len(values)}", line) from None

    def _list(self, value: Any, line: int, name: str) -> list[Any]:
        resolved = self.resolve(value)
        if resolved != "" and not isinstance(resolved, list):
            raise self.error(f"{name} wants a list", line)
        return resolved or []

    def _arguments(self, body: Any, count: int, line: int, name: str) -> list[Any]:
        if not isinstance(body, Items | list) or len(body) != count:
            raise self.error(f"{name} wants a list of {count} values", line)
        return list(body)


def _section(root: Node, name: str, resolver: "Resolver") -> Node:
    section = root.get(name)
    if section is None:
        return Node()
    if not isinstance(section, Node):
        raise resolver.error(f"{name} must be a mapping", root.line_of(name))
    return section
