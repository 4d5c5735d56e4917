"""What ListFunctions and GetFunction tell of a function, made of the template. Invokes nothing.

docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
"""

import base64
import hashlib
from datetime import UTC, datetime

from warmfront.emulator.lambda_service.api.names import LATEST, version_of
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.template import ACCOUNT_ID, FunctionConfig


def list_functions(service: LambdaService) -> dict[str, object]:
    """Every function of the template, those this machine cannot run included."""
    return {"Functions": [_configuration(service, config, LATEST) for config in service.template.functions.values()]}


def get_function(service: LambdaService, name: str, qualifier: str | None) -> dict[str, object]:
    config = service.config(name, qualifier)
    answer: dict[str, object] = {
        "Configuration": get_configuration(service, name, qualifier),
        "Code": {"RepositoryType": "S3", "Location": config.code_path.as_uri()},
    }
    if config.reserved_concurrency is not None:
        answer["Concurrency"] = {"ReservedConcurrentExecutions": config.reserved_concurrency}
    return answer


def get_configuration(service: LambdaService, name: str, qualifier: str | None) -> dict[str, object]:
    config = service.config(name, qualifier)
    version = LATEST if qualifier is None else version_of(config, qualifier) or LATEST
    described = _configuration(service, config, version)
    if qualifier is not None:
        described["FunctionArn"] = f"{service.arn(config)}:{qualifier}"
    reason = service.not_runnable.get(config.logical_id)
    described["State"] = "Active" if reason is None else "Inactive"
    if reason is not None:
        described["StateReason"] = reason
    described["LastUpdateStatus"] = "Successful"
    return described


def _configuration(service: LambdaService, config: FunctionConfig, version: str) -> dict[str, object]:
    described: dict[str, object] = {
        "FunctionName": config.function_name,
        "FunctionArn": service.arn(config),
        "Runtime": config.runtime,
        "Role": f"arn:aws:iam::{ACCOUNT_ID}:role/{config.logical_id}Role",
        "Handler": config.handler,
        "CodeSize": 0,
        "Description": "",
        "Timeout": config.timeout_s,
        "MemorySize": config.memory_mb,
        "LastModified": _modified(config),
        "CodeSha256": base64.b64encode(hashlib.sha256(str(config.code_path).encode()).digest()).decode(),
        "Version": version,
        "Environment": {"Variables": dict(config.environment)},
        "TracingConfig": {"Mode": "Active" if config.tracing else "PassThrough"},
        "RevisionId": "00000000-0000-4000-a000-000000000000",
        "PackageType": config.package_type,
        "Architectures": list(config.architectures),
        "EphemeralStorage": {"Size": config.ephemeral_storage_mb},
        "SnapStart": {"ApplyOn": "PublishedVersions" if config.snap_start else "None", "OptimizationStatus": "Off"},
        "LoggingConfig": _logging(config),
    }
    if config.layers:
        described["Layers"] = [{"Arn": layer.arn or f"{_layers_arn(service)}{layer.name}:1"} for layer in config.layers]
    if config.dead_letter_arn is not None:
        described["DeadLetterConfig"] = {"TargetArn": config.dead_letter_arn}
    return described


def _layers_arn(service: LambdaService) -> str:
    return f"arn:aws:lambda:{service.options.region}:{ACCOUNT_ID}:layer:"


def _logging(config: FunctionConfig) -> dict[str, object]:
    described: dict[str, object] = {
        "LogFormat": config.log_format,
        "LogGroup": config.log_group or f"/aws/lambda/{config.function_name}",
    }
    if config.log_format == "JSON":
        described["ApplicationLogLevel"] = config.application_log_level or "INFO"
        described["SystemLogLevel"] = config.system_log_level or "INFO"
    return described


def _modified(config: FunctionConfig) -> str:
    try:
        modified = datetime.fromtimestamp(config.code_path.stat().st_mtime, UTC)
    except OSError:
        modified = datetime.fromtimestamp(0, UTC)
    return modified.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
