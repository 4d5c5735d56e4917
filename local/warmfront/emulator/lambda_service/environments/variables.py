"""The environment variables an execution environment starts with: Lambda's own and the template's, nothing of the host's.

Names and values as recorded on AWS in 2026-02 (python3.14); paths are the local ones.
"""

from collections.abc import Mapping
from pathlib import Path

from warmfront.emulator.template import FunctionConfig

RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""Lambda sets these; a template that does cannot be deployed (docs: lambda/latest/dg/configuration-envvars.html)."""


def lambda_variables(
    config: FunctionConfig,
    declared: Mapping[str, str],
    *,
    region: str,
    task_root: Path,
    runtime_dir: Path,
    layers: tuple[Path, ...],
    xray_address: str,
) -> dict[str, str]:
    """All variables but AWS_LAMBDA_RUNTIME_API, the log stream name and credentials, which belong to one environment.

    `declared`: the template's, with local addresses in place; what Lambda reserves is not taken from it.
    """
    host, _, port = xray_address.partition(":")
    variables = {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": config.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": config.log_group or f"/aws/lambda/{config.function_name}",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": xray_address,
        "_AWS_XRAY_DAEMON_ADDRESS": host,
        "_AWS_XRAY_DAEMON_PORT": port,
        "_HANDLER": config.handler,
        "LAMBDA_TASK_ROOT": str(task_root),
        "LAMBDA_RUNTIME_DIR": str(runtime_dir),
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "LD_LIBRARY_PATH": ":".join(
            str(path) for path in (*(layer / "lib" for layer in layers), task_root, task_root / "lib")
        ),
        "PATH": ":".join((*(str(layer / "bin") for layer in layers), "/usr/local/bin", "/usr/bin", "/bin")),
        "PWD": str(task_root),
        "PYTHONPATH": str(runtime_dir),
        "SHLVL": "0",
        "TZ": ":UTC",
    }
    if config.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = config.application_log_level or "INFO"
    if config.runtime.startswith("provided"):
        del variables["AWS_EXECUTION_ENV"]  # not defined there (docs: lambda/latest/dg/configuration-envvars.html)
    return {**variables, **{name: value for name, value in declared.items() if name not in RESERVED}}


def fake_credentials() -> dict[str, str]:
    """Credentials that no AWS accepts: local calls sign with them, real ones fail."""
    return {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "local"}
