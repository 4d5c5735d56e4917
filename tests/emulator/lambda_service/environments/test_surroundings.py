"""What a handler sees around it: variables, context, packages, folders. Nothing of the host's, everything of Lambda's."""

import os
import re
import resource
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.environments.process_group import FILE_DESCRIPTORS, open_many_files
from warmfront.emulator.template import LayerConfig

from tests.emulator.harness import HANDLERS, REQUEST_ID, Harness, function, running

LAMBDA_VARIABLES = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT", "_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LANG", "LC_CTYPE",
    "LD_LIBRARY_PATH", "PATH", "PWD", "PYTHONPATH", "SHLVL", "TZ",
}  # fmt: skip
"""As recorded on AWS in 2026-02, less _X_AMZN_TRACE_ID, which the runtime client sets for each invocation."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code, layers and packages made for these tests."""
    root = tmp_path_factory.mktemp("code")
    sources = {
        "layers/plain/python/from_layer.py": "WHERE = 'plain layer'",
        "layers/plain/python/both_layers.py": "WHERE = 'plain layer'",
        "layers/versioned/python/lib/python{v}/site-packages/from_versioned.py": "WHERE = 'versioned layer'",
        "layers/versioned/python/both_layers.py": "WHERE = 'versioned layer'",
        "layers/plain/python/overlap.py": "WHERE = 'plain layer'",
        "layers/versioned/python/overlap.py": "WHERE = 'versioned layer'",
        "layers/moved/kit.py": "WHERE = 'moved'",
        "layers/moved/requirements.txt": "simplejson\n",
        "task/app.py": "import surroundings_in_task\n\n\ndef handler(event, context):\n    return surroundings_in_task.ask(event)\n",
        "task/surroundings_in_task.py": "import importlib\n\n\ndef ask(names):\n    found = {}\n    for name in names:\n"
        "        try:\n            found[name] = getattr(importlib.import_module(name), 'WHERE', 'there')\n"
        "        except ModuleNotFoundError:\n            found[name] = None\n    return found\n",
        "task/both_layers.py": "WHERE = 'task root'",
        "wants/app.py": "import httptools\n\n\ndef handler(event, context):\n    return httptools.__name__\n",
        "wants/requirements.txt": "# what it needs\nhttptools>=0.1  # parser\nnot-on-this-machine==1.0\n-r other.txt\n",
    }
    for name, text in sources.items():
        path = root / name.format(v=f"{sys.version_info.major}.{sys.version_info.minor}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Iterator[Harness]:
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = folders / "layers"
    plain, versioned = (LayerConfig(name, layers / name) for name in ("plain", "versioned"))
    moved = LayerConfig("moved", layers / "moved", parent_packages=("under.it",), build_method="python3.13")
    away = LayerConfig("away", None, arn="arn:aws:lambda:us-east-1:123456789012:layer:away:1")
    functions = [
        function("environment", "surroundings.environment", environment={"OWN": "é=1", "EMPTY": ""}, memory_mb=512),
        function("json", "surroundings.environment", log_format="JSON", application_log_level="WARN"),
        function("context", "surroundings.context_fields", memory_mb=512, timeout_s=7),
        function("imports", "surroundings.imports"),
        function("path", "surroundings.path"),
        function("scratch", "surroundings.scratch"),
        function("nested", "nested.deep.app.handler"),
        function("slashes", "nested/deep/app.handler"),
        function("moved_code", "functions.shop.outcomes.echo", parent_package=("functions", "shop")),
        function(
            "layered",
            "app.handler",
            code_path=folders / "task",
            layers=(plain, versioned, moved, away),
            runtime=runtime,
        ),
        function("wants", "app.handler", code_path=folders / "wants"),
    ]
    with running(tmp_path_factory.mktemp("surroundings"), *functions) as harness:
        yield harness


def test_the_variables_are_lambdas_and_the_templates_and_no_others(service: Harness) -> None:
    os.environ["ONLY_ON_THE_HOST"] = "secret"
    seen = service.invoke("environment").payload
    assert set(seen) == LAMBDA_VARIABLES | {"OWN", "EMPTY", "TMPDIR"}
    assert (seen["OWN"], seen["EMPTY"]) == ("é=1", "")


def test_lambdas_own_variables_have_lambdas_values(service: Harness) -> None:
    seen = service.invoke("environment").payload
    expected = {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": "environment",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/environment",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "_HANDLER": "surroundings.environment",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "SHLVL": "0",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": str(HANDLERS),
        "PWD": str(HANDLERS),
    }
    assert {name: seen[name] for name in expected} == expected
    assert re.fullmatch(r"127\.0\.0\.1:\d+", seen["AWS_LAMBDA_RUNTIME_API"])
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert seen["AWS_XRAY_DAEMON_ADDRESS"] == f"{seen['_AWS_XRAY_DAEMON_ADDRESS']}:{seen['_AWS_XRAY_DAEMON_PORT']}"


def test_no_aws_would_take_the_credentials(service: Harness) -> None:
    seen = service.invoke("environment").payload
    assert {seen[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")} == {"local"}


def test_json_logging_shows_in_two_variables(service: Harness) -> None:
    seen = service.invoke("json").payload
    assert (seen["AWS_LAMBDA_LOG_FORMAT"], seen["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")


def test_the_context_has_lambdas_fields(service: Harness) -> None:
    outcome = service.invoke("context", trace_id="Root=1-00000000-000000000000000000000001")
    seen = outcome.payload
    assert 6000 < seen.pop("remaining_ms") <= 7000
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen.pop("log_stream_name"))
    assert re.fullmatch(REQUEST_ID, seen["aws_request_id"])
    assert seen == {
        "aws_request_id": outcome.result.request_id,
        "function_name": "context",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:context",
        "memory_limit_in_mb": "512",
        "log_group_name": "/aws/lambda/context",
        "identity": None,
        "client_context": None,
        "tenant_id": None,
        "trace_id": "Root=1-00000000-000000000000000000000001",
    }


def test_the_context_is_of_this_invocation(service: Harness) -> None:
    first, second = service.invoke("context"), service.invoke("context")
    assert first.payload["aws_request_id"] == first.result.request_id
    assert second.payload["aws_request_id"] == second.result.request_id
    assert first.payload["log_stream_name"] == second.payload["log_stream_name"]
    assert second.payload["remaining_ms"] > 6000


def test_a_client_context_arrives(service: Harness) -> None:
    sent = '{"custom":{"a":"b"},"env":{"c":"d"},"client":{"installation_id":"i"}}'
    assert service.invoke("context", client_context=sent).payload["client_context"] == {
        "custom": {"a": "b"},
        "env": {"c": "d"},
    }


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "httptools", "pytest", "local", "tests", "numpy"])
def test_what_only_the_emulator_has_does_not_import(service: Harness, name: str) -> None:
    assert service.invoke("imports", [name]).payload == {name: None}


@pytest.mark.parametrize("name", ["boto3", "botocore", "awslambdaric", "json", "ctypes", "ssl", "sqlite3"])
def test_what_lambdas_runtime_has_imports(service: Harness, name: str) -> None:
    assert service.invoke("imports", [name]).payload[name]


def test_the_path_is_task_root_runtime_and_standard_library(service: Harness) -> None:
    seen = service.invoke("path").payload
    assert seen["path"][0] == str(HANDLERS)
    assert seen["cwd"] == str(HANDLERS)
    site_packages = sysconfig.get_paths()["purelib"]
    assert not any(entry in ("", site_packages) or "site-packages" in entry for entry in seen["path"])
    assert seen["argv"] == ["/var/runtime/bootstrap.py", "surroundings.path"]


@pytest.mark.parametrize("name", ["nested", "slashes"])
def test_a_handler_in_a_nested_package_is_found(service: Harness, name: str) -> None:
    assert service.invoke(name).payload == "from below"


def test_code_moved_under_a_parent_package_is_found_there(service: Harness) -> None:
    assert service.invoke("moved_code", "here").payload == "here"


def test_the_task_root_comes_before_layers_and_later_layers_before_earlier_ones(service: Harness) -> None:
    names = ["from_layer", "from_versioned", "under.it.kit", "simplejson", "both_layers", "overlap", "kit", "httptools"]
    assert service.invoke("layered", names).payload == {
        "from_layer": "plain layer",
        "from_versioned": "versioned layer",
        "under.it.kit": "moved",
        "simplejson": "there",
        "both_layers": "task root",
        "overlap": "versioned layer",
        "kit": None,
        "httptools": None,
    }


def test_a_layer_that_is_not_here_is_warned_about(service: Harness) -> None:
    assert any("layered" in text and "away" in text for text in service.service.warnings)


def test_requirements_are_taken_from_the_emulators_own_installation(service: Harness) -> None:
    assert service.invoke("wants").payload == "httptools"


def test_each_environment_has_a_temporary_folder_of_its_own(service: Harness) -> None:
    first = service.invoke("scratch", "one").payload
    again = service.invoke("scratch", "two").payload
    assert (first["before"], again["before"]) == ([], ["one"])
    assert again["folder"] == first["folder"]
    service.settled("scratch")
    service.run(service.function("scratch").retire())
    fresh = service.invoke("scratch", None).payload
    assert fresh["before"] == []
    assert not Path(first["folder"]).exists(), "a retired environment leaves nothing"


def test_a_function_may_open_1024_files_however_many_the_emulator_may(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < FILE_DESCRIPTORS:
        pytest.skip(f"no process may open more than {before[1]} files here")
    open_many_files()
    try:
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        with running(tmp_path, function("limit", "surroundings.open_files_limit")) as service:
            assert service.invoke("limit").payload == [1024, 1024]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
