"""Reads functions and layers of a template, and finds their code on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.config import (
    CorsConfig,
    Destination,
    EventInvokeConfig,
    FunctionConfig,
    FunctionUrlConfig,
    LayerConfig,
)
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, is_intrinsic, text
from warmfront.emulator.template.values import Resolver

FUNCTION_TYPES: Final = ("AWS::Serverless::Function", "AWS::Lambda::Function")
DEFAULT_MAX_CONCURRENCY: Final = 16
"""Of each vCPU (docs: lambda/latest/dg/lambda-managed-instances-python-runtime.html); here of the environment."""
LAYER_TYPES: Final = ("AWS::Serverless::LayerVersion", "AWS::Lambda::LayerVersion")


class FunctionReader:
    """Makes FunctionConfigs of resources; layers are read once and shared."""

    def __init__(self, resolver: Resolver, resources: Mapping[str, Node], root: Path, *, built: bool) -> None:
        self._resolver = resolver
        self._resources = resources
        self._root = root
        self._built = built
        self._layers: dict[str, LayerConfig] = {}

    def read(self, logical_id: str, resource: Node, raw: Node) -> FunctionConfig:
        properties = Properties(raw, self._resolver, logical_id)
        code = self._code(logical_id, properties)
        handler = properties.text("Handler")
        runtime = properties.text("Runtime")
        package_type = properties.text("PackageType", "Zip")
        _warn_of_limits(properties)
        return FunctionConfig(
            logical_id=logical_id,
            function_name=self._resolver.physical_name(logical_id, resource.line),
            handler=handler,
            runtime=runtime,
            code_path=code.path,
            parent_package=self._parent_package(resource, code.path, handler),
            inline_code=code.inline,
            built=self._built,
            layers=self._function_layers(properties),
            memory_mb=properties.integer("MemorySize", 128),
            timeout_s=properties.integer("Timeout", 3),
            environment=self._environment(properties),
            reserved_concurrency=properties.optional_integer("ReservedConcurrentExecutions"),
            architectures=properties.texts("Architectures") or ("x86_64",),
            tracing=_tracing(properties),
            log_format=properties.section("LoggingConfig").text("LogFormat", "Text"),
            application_log_level=properties.section("LoggingConfig").optional_text("ApplicationLogLevel"),
            system_log_level=properties.section("LoggingConfig").optional_text("SystemLogLevel"),
            log_group=properties.section("LoggingConfig").optional_text("LogGroup"),
            ephemeral_storage_mb=properties.section("EphemeralStorage").integer("Size", 512),
            snap_start=properties.section("SnapStart").text("ApplyOn", "None") == "PublishedVersions",
            provisioned_concurrency=_provisioned(properties),
            max_concurrency=_max_concurrency(properties),
            auto_publish_alias=properties.optional_text("AutoPublishAlias"),
            event_invoke_config=_event_invoke_config(properties),
            dead_letter_arn=_dead_letter(properties),
            function_url=_function_url(properties),
            package_type=package_type,
            not_runnable=_not_runnable(package_type, runtime, handler, code),
            line=resource.line,
        )

    def _code(self, logical_id: str, properties: Properties) -> "_Code":
        for key in ("InlineCode", "CodeUri", "Code"):
            value = properties.branch(key)
            if value is None:
                continue
            if key == "InlineCode":
                return _Code(self._root, inline=properties.text(key))
            if isinstance(value, dict) and not is_intrinsic(value):
                if "ZipFile" in value:
                    return _Code(self._root, inline=properties.section(key).text("ZipFile"))
                asset = self._asset(self._resources[logical_id])
                if asset is not None:
                    return _Code(asset) if asset.exists() else _Code(asset, missing=f"its asset {asset} does not exist")
                return _Code(self._root, missing="its code is in S3 or in an image, not on this machine")
            return self._code_on_disk(logical_id, properties.text(key))
        return _Code(self._root, missing=f"{logical_id} names no CodeUri")

    def _asset(self, resource: Node) -> Path | None:
        """Where the CDK left the code of a function or layer, beside the template that it made.

        Fact: docs.aws.amazon.com/cdk/v2/guide/assets.html, "CloudFormation resource metadata for assets".
        """
        path = Properties(resource.get("Metadata"), self._resolver, "Metadata").optional_text("aws:asset:path")
        return (self._root / path).resolve() if path else None

    def _code_on_disk(self, logical_id: str, value: str) -> "_Code":
        if value.startswith(("s3://", "https://")):
            return _Code(self._root, missing=f"its code is at {value}, not on this machine")
        path = (self._root / value).resolve()
        if not path.exists():
            return _Code(path, missing=f"its code {path} does not exist; correct CodeUri of {logical_id}")
        return _Code(path)

    def _parent_package(self, resource: Node, code_path: Path, handler: str) -> tuple[str, ...]:
        """The packages `sam build` would move the code under (Metadata/BuildProperties/ParentPackageMode)."""
        if self._built:
            return ()
        metadata = Properties(resource.get("Metadata"), self._resolver, "Metadata")
        build = metadata.section("BuildProperties")
        mode = build.text("ParentPackageMode")
        if mode == "auto":
            return _inferred_package(code_path, handler)
        named = build.text("ParentPackages") if mode == "explicit" else build.text("parent_python_packages")
        return tuple(part for part in named.split(".") if part)

    def _function_layers(self, properties: Properties) -> tuple[LayerConfig, ...]:
        layers = properties.branch("Layers")
        if not isinstance(layers, list):
            return ()
        found = []
        for entry in layers:
            branch = self._resolver.branch(entry)
            logical_id = str(branch.get("Ref")) if is_intrinsic(branch) else ""
            if logical_id in self._resources and self._resources[logical_id].get("Type") in LAYER_TYPES:
                found.append(self._layer(logical_id))
            elif isinstance(arn := self._resolver.resolve(entry), str):
                found.append(
                    LayerConfig(name=arn.rsplit(":", 2)[-2] if arn.count(":") > 6 else arn, content_path=None, arn=arn)
                )
        return tuple(found)

    def _layer(self, logical_id: str) -> LayerConfig:
        if logical_id not in self._layers:
            self._layers[logical_id] = self._read_layer(logical_id, self._resources[logical_id])
        return self._layers[logical_id]

    def _read_layer(self, logical_id: str, resource: Node) -> LayerConfig:
        properties = Properties(resource.get("Properties"), self._resolver, logical_id)
        metadata = Properties(resource.get("Metadata"), self._resolver, f"{logical_id}: Metadata")
        build = metadata.section("BuildProperties")
        key = "ContentUri" if "ContentUri" in properties else "Content"
        content = properties.branch(key)
        path = None
        if isinstance(content, str) or is_intrinsic(content):
            named = properties.text(key)
            path = None if named.startswith(("s3:", "https:")) else (self._root / named).resolve()
            if path is not None and not path.exists():
                raise properties.error(key, f"names {path}, which does not exist")
        elif content is not None:
            path = self._asset(resource)
        package = build.text("ParentPackages") if build.text("ParentPackageMode") == "explicit" else ""
        return LayerConfig(
            name=properties.text("LayerName", logical_id),
            content_path=path,
            parent_packages=() if self._built else tuple(part for part in package.split(".") if part),
            build_method=None if self._built else metadata.optional_text("BuildMethod"),
            compatible_runtimes=properties.texts("CompatibleRuntimes"),
            compatible_architectures=properties.texts("CompatibleArchitectures"),
        )

    def _environment(self, properties: Properties) -> dict[str, str]:
        variables = properties.section("Environment").section("Variables")
        environment = {}
        for name in variables.raw:
            value = variables.get(name)
            if value is None:
                continue
            if isinstance(value, dict | list):
                raise variables.error(name, "must be a string, a number or true/false")
            environment[name] = self._resolver.dynamic(text(value))
            if "{{resolve:" in environment[name]:
                self._resolver.warn(
                    f"{properties.owner}: {name} holds a dynamic reference, which only CloudFormation resolves;"
                    " --env-vars can give its value",
                    variables.line(name),
                )
        return environment


class _Code:
    __slots__ = ("inline", "missing", "path")

    def __init__(self, path: Path, *, inline: str | None = None, missing: str | None = None) -> None:
        self.path, self.inline, self.missing = path, inline, missing


def _warn_of_limits(properties: Properties) -> None:
    """Fact: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
    managed = "CapacityProviderConfig" in properties  # Managed Instances allow more memory
    storage = properties.section("EphemeralStorage")
    for section, key, least, most, unit in (
        (properties, "Timeout", 1, 900, "s"),
        (properties, "MemorySize", 128, 32_768 if managed else 10_240, "MB"),
        (storage, "Size", 512, 10_240, "MB"),
    ):
        value = section.optional_integer(key)
        if value is not None and not least <= value <= most:
            message = f"{section.owner}: {key} is {value}, but Lambda allows {least} to {most} {unit}; correct it"
            properties.resolver.warn(message, section.line(key))


def _inferred_package(code_path: Path, handler: str) -> tuple[str, ...]:
    """The longest run of folders that ends CodeUri and begins Handler: functions/naive, functions.naive.app.handler."""
    modules = handler.replace("/", ".").split(".")[:-2]  # less the module of the handler and the handler itself
    for count in range(len(modules), 0, -1):
        if list(code_path.parts[-count:]) == modules[:count]:
            return tuple(modules[:count])
    return ()


def _tracing(properties: Properties) -> bool:
    value = properties.get("Tracing") or properties.section("TracingConfig").get("Mode")
    return bool(value == "Active")


def _provisioned(properties: Properties) -> int | None:
    section = properties.section("ProvisionedConcurrencyConfig")
    return section.optional_integer("ProvisionedConcurrentExecutions")


def _max_concurrency(properties: Properties) -> int | None:
    """Of Managed Instances: SAM has the number in CapacityProviderConfig, CloudFormation one level below."""
    if "CapacityProviderConfig" not in properties:
        return None
    section = properties.section("CapacityProviderConfig")
    below = section.section("LambdaManagedInstancesCapacityProviderConfig")
    name = "PerExecutionEnvironmentMaxConcurrency"
    return section.optional_integer(name) or below.optional_integer(name) or DEFAULT_MAX_CONCURRENCY


def _event_invoke_config(properties: Properties) -> EventInvokeConfig | None:
    if "EventInvokeConfig" not in properties:
        return None
    section = properties.section("EventInvokeConfig")
    destinations = section.section("DestinationConfig")
    return EventInvokeConfig(
        maximum_retry_attempts=section.integer("MaximumRetryAttempts", 2),
        maximum_event_age_s=section.integer("MaximumEventAgeInSeconds", 21_600),
        on_success=_destination(destinations, "OnSuccess"),
        on_failure=_destination(destinations, "OnFailure"),
    )


def _destination(properties: Properties, key: str) -> Destination | None:
    section = properties.section(key)
    arn = section.text("Destination")
    return Destination(arn=arn, type=section.optional_text("Type")) if arn else None


def _dead_letter(properties: Properties) -> str | None:
    arn = properties.section("DeadLetterQueue").text("TargetArn")
    return arn or properties.section("DeadLetterConfig").text("TargetArn") or None


def _function_url(properties: Properties) -> FunctionUrlConfig | None:
    if "FunctionUrlConfig" not in properties:
        return None
    section = properties.section("FunctionUrlConfig")
    return FunctionUrlConfig(
        auth_type=section.text("AuthType", "NONE"),
        invoke_mode=section.text("InvokeMode", "BUFFERED"),
        cors=read_cors(section, "Cors"),
    )


def read_cors(properties: Properties, key: str) -> CorsConfig | None:
    """The CORS section that HTTP APIs and function URLs share; `true` allows every origin (HTTP APIs)."""
    value: Any = properties.branch(key)
    if value is None or value is False:
        return None
    if not isinstance(value, dict) or is_intrinsic(value):
        return CorsConfig(allow_origins=("*",)) if properties.boolean(key) else None
    section = properties.section(key)
    return CorsConfig(
        allow_origins=section.texts("AllowOrigins"),
        allow_methods=tuple(method.upper() for method in section.texts("AllowMethods")),
        allow_headers=tuple(header.lower() for header in section.texts("AllowHeaders")),
        expose_headers=tuple(header.lower() for header in section.texts("ExposeHeaders")),
        allow_credentials=section.boolean("AllowCredentials"),
        max_age_s=section.optional_integer("MaxAge"),
    )


def _not_runnable(package_type: str, runtime: str, handler: str, code: _Code) -> str | None:
    if package_type == "Image":
        return "it is a container image (PackageType: Image), and containers are not run here"
    if code.missing:
        return code.missing
    if not runtime:
        return "it names no Runtime"
    if not handler and not runtime.startswith("provided"):
        return "it names no Handler"
    return None
