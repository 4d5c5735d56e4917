"""The Invoke API over HTTP as boto3 and the aws CLI use it, with no configuration but the endpoint."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.harness import REQUEST_ID
from tests.emulator.serving import CREDENTIALS, TEMPLATES, Served, serve

ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def served(notes: Path) -> Iterator[Served]:
    variables = {"Notes": {"NOTES": str(notes / "tried")}, "Remember": {"NOTES": str(notes / "remembered")}}
    (notes / "variables.json").write_text(json.dumps(variables))
    options = ("--env-vars", str(notes / "variables.json"), "--time-scale", "600")
    with serve(TEMPLATES / "api.yaml", "--no-private-mounts", *options) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return served.client()


def invoke(client: Any, name: str, payload: object = None, **more: Any) -> tuple[dict[str, Any], Any]:
    answer = client.invoke(FunctionName=name, Payload=json.dumps(payload), **more)
    body = answer["Payload"].read()
    return answer, json.loads(body) if body else None


# -- RequestResponse ---------------------------------------------------------------------------------------------------


def test_a_result(client: Any) -> None:
    answer, payload = invoke(client, "Echo", {"a": [1, "é"]})
    assert payload == {"a": [1, "é"]}
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    assert re.fullmatch(REQUEST_ID, answer["ResponseMetadata"]["RequestId"])


@pytest.mark.parametrize(
    "name",
    ["Echo", "echo-by-name", ARN + "echo-by-name", "123456789012:function:echo-by-name", "function:echo-by-name"],
)
def test_every_form_of_a_name(client: Any, name: str) -> None:
    assert invoke(client, name, "hello")[1] == "hello"


def test_no_payload_is_an_empty_object(client: Any) -> None:
    assert json.loads(client.invoke(FunctionName="Echo")["Payload"].read()) == {}


def test_none_is_null(client: Any) -> None:
    assert client.invoke(FunctionName="Nothing")["Payload"].read() == b"null"


def test_a_function_error(client: Any) -> None:
    answer, payload = invoke(client, "Raises")
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert answer["ExecutedVersion"] == "$LATEST"
    assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]


@pytest.mark.parametrize(
    ("name", "event", "error_type"), [("Ends", 3, "Runtime.ExitError"), ("Sleeps", 30, "Sandbox.Timedout")]
)
def test_an_end_of_the_process_is_a_function_error_too(client: Any, name: str, event: object, error_type: str) -> None:
    answer, payload = invoke(client, name, event)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert payload["errorType"] == error_type


def test_the_log_tail(client: Any) -> None:
    answer, _ = invoke(client, "Says", "x", LogType="Tail")
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    assert [line.split()[0] for line in lines] == ["START", "one", "two", "END", "REPORT"]
    assert answer["ResponseMetadata"]["RequestId"] in lines[0]


def test_a_client_context(client: Any) -> None:
    sent = {"custom": {"a": "b"}, "env": {"c": "d"}, "client": {"app_title": "t"}}
    encoded = base64.b64encode(json.dumps(sent).encode()).decode()
    _, payload = invoke(client, "Context", ClientContext=encoded)
    assert payload["client_context"] == {"custom": {"a": "b"}, "env": {"c": "d"}}


def test_a_trace_id_of_the_caller_is_kept(served: Served) -> None:
    import urllib.request

    root = "Root=1-69000000-0123456789abcdef01234567"
    request = urllib.request.Request(
        f"{served.url}/2015-03-31/functions/Context/invocations", data=b"{}", headers={"X-Amzn-Trace-Id": root}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["trace_id"] == root
        assert answer.headers["X-Amzn-Trace-Id"] == root


# -- qualifiers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("qualifier", "version"), [("$LATEST", "$LATEST"), ("live", "1"), ("1", "1")])
def test_a_qualifier_shows_in_the_arn_and_in_the_executed_version(client: Any, qualifier: str, version: str) -> None:
    answer, payload = invoke(client, "Context", Qualifier=qualifier)
    assert answer["ExecutedVersion"] == version
    assert payload["invoked_function_arn"] == f"{ARN}Context:{qualifier}"
    assert invoke(client, f"{ARN}Context:{qualifier}")[1]["invoked_function_arn"] == f"{ARN}Context:{qualifier}"


@pytest.mark.parametrize("name", ["Raises", "Context"])
def test_an_alias_that_is_not_there(client: Any, name: str) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
        invoke(client, name, Qualifier="staging")
    assert error.value.response["Error"]["Message"] == f"Function not found: {ARN}{name}:staging"


def test_two_qualifiers_must_agree(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="does not match"):
        invoke(client, "Context:live", Qualifier="1")


# -- DryRun and Event --------------------------------------------------------------------------------------------------


def test_a_dry_run_runs_nothing(served: Served, client: Any) -> None:
    before = served.functions()["Says"]["invocations"]
    answer, payload = invoke(client, "Says", InvocationType="DryRun")
    assert (answer["StatusCode"], payload) == (204, None)
    assert served.functions()["Says"]["invocations"] == before


def test_an_event_is_taken_at_once_and_tried_again_and_given_up(served: Served, client: Any, notes: Path) -> None:
    since = len(served.lines)
    answer, payload = invoke(client, "Notes", {"fail": "always"}, InvocationType="Event")
    assert (answer["StatusCode"], payload) == (202, None)
    request_id = answer["ResponseMetadata"]["RequestId"]
    served.wait_for("REPORT", since=since)
    wait_for_lines(served, notes / "remembered", 1)
    tried = [json.loads(line) for line in (notes / "tried").read_text().splitlines()]
    assert [note["request_id"] for note in tried] == [request_id] * 2, "one retry, as the template says"
    record = json.loads((notes / "remembered").read_text())["event"]
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"{ARN}Notes:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 2,
    }
    assert record["requestPayload"] == {"fail": "always"}
    assert record["responsePayload"]["errorMessage"] == "always"


def wait_for_lines(served: Served, path: Path, count: int) -> None:
    """Invocations end with a line on the terminal: look at the file after each."""
    since = 0
    while not path.exists() or len(path.read_text().splitlines()) < count:
        served.wait_for("REPORT RequestId", since=since)
        since = next(i for i, line in enumerate(served.lines[since:], since) if "REPORT RequestId" in line) + 1


# -- what Lambda refuses -----------------------------------------------------------------------------------------------


def test_a_function_that_is_not_there(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
        invoke(client, "Nobody")
    response = error.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert response["Error"]["Message"] == f"Function not found: {ARN}Nobody"


def test_a_throttle(client: Any) -> None:
    with pytest.raises(client.exceptions.TooManyRequestsException) as error:
        invoke(client, "None")
    response = error.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Type"] == "User"
    assert response["Error"]["Message"] == "Rate Exceeded."


def test_a_body_that_is_not_json(client: Any) -> None:
    with pytest.raises(
        client.exceptions.InvalidRequestContentException, match="Could not parse request body into json"
    ):
        client.invoke(FunctionName="Echo", Payload=b"{nope")


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 1024 * 1024)])
def test_a_body_over_the_limit(client: Any, kind: str, limit: int) -> None:
    with pytest.raises(client.exceptions.RequestTooLargeException) as error:
        client.invoke(FunctionName="Echo", Payload=b'"' + b"x" * (limit - 1) + b'"', InvocationType=kind)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert str(limit) in error.value.response["Error"]["Message"]


def test_a_body_at_the_limit(client: Any) -> None:
    text = "x" * (6 * 1024 * 1024 - 2)
    answer = client.invoke(FunctionName="Nothing", Payload=f'"{text}"')
    assert answer["Payload"].read() == b"null"


def test_a_client_context_that_is_not_json(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidRequestContentException, match="Client context"):
        invoke(client, "Context", ClientContext=base64.b64encode(b"{nope").decode())


def test_an_invocation_type_that_does_not_exist(served: Served) -> None:
    client = served.client(parameter_validation=False)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Perhaps"):
        invoke(client, "Echo", InvocationType="Perhaps")


def test_a_function_this_machine_cannot_run_says_why(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidRuntimeException, match=r"nodejs22\.x is not on this machine"):
        invoke(client, "Node")


def test_what_is_not_emulated_says_so(client: Any) -> None:
    with pytest.raises(ClientError, match="is not emulated"):
        client.delete_function(FunctionName="Echo")


# -- descriptions ------------------------------------------------------------------------------------------------------


def test_all_functions_are_listed(client: Any) -> None:
    listed = {each["FunctionName"]: each for each in client.list_functions()["Functions"]}
    assert len(listed) == 12
    assert {"echo-by-name", "Node", "Http"} <= set(listed)
    assert listed["Sleeps"]["Timeout"] == 1
    assert listed["Sleeps"]["MemorySize"] == 256
    assert listed["Sleeps"]["FunctionArn"] == f"{ARN}Sleeps"
    assert [name for page in client.get_paginator("list_functions").paginate() for name in page["Functions"]]


def test_a_function_is_described(client: Any) -> None:
    answer = client.get_function(FunctionName="None")
    assert answer["Configuration"]["FunctionName"] == "None"
    assert answer["Configuration"]["State"] == "Active"
    assert answer["Configuration"]["Runtime"] == "python3.13"
    assert answer["Concurrency"]["ReservedConcurrentExecutions"] == 0
    assert client.get_function_configuration(FunctionName="Context", Qualifier="live")["Version"] == "1"
    assert client.get_function(FunctionName="Node")["Configuration"]["State"] == "Inactive"
    client.get_waiter("function_active_v2").wait(FunctionName="Echo")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="Nobody")


# -- the command line --------------------------------------------------------------------------------------------------


def aws_cli() -> list[str] | None:
    """A command that starts the aws CLI, or None. A shim of a version manager may be there without the program."""
    found = shutil.which("aws")
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        return None
    return [found]


@pytest.mark.skipif(aws_cli() is None, reason="needs the aws command line (`pip install awscli`)")
def test_the_aws_command_line(served: Served, tmp_path: Path) -> None:
    command = aws_cli()
    assert command is not None
    environ = {
        **os.environ,
        **{name.upper(): value for name, value in CREDENTIALS.items()},
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    out = tmp_path / "out.json"

    def run(*arguments: str) -> dict[str, Any]:
        line = [*command, "lambda", *arguments, "--endpoint-url", served.url, "--output", "json"]
        done = subprocess.run(line, capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    event = tmp_path / "event.json"
    event.write_text('{"from": "the command line"}')
    payload = f"fileb://{event}"  # read alike by both major versions
    answer = run("invoke", "--function-name", "Echo", "--payload", payload, "--log-type", "Tail", str(out))
    assert answer["StatusCode"] == 200
    assert b"REPORT" in base64.b64decode(answer["LogResult"])
    assert json.loads(out.read_text()) == {"from": "the command line"}
    assert run("invoke", "--function-name", "Raises", str(out))["FunctionError"] == "Unhandled"
    assert run("invoke", "--function-name", "Says", "--invocation-type", "Event", str(out))["StatusCode"] == 202
    assert len(run("list-functions")["Functions"]) == 12


# -- who may call it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "rebound.example"},
    ],
)
@pytest.mark.parametrize("path", ["/2015-03-31/functions/Notes/invocations", "/2015-03-31/functions/"])
def test_a_page_that_somebody_visits_invokes_nothing(served: Served, path: str, headers: dict[str, str]) -> None:
    # As a form or `fetch` sends it without asking first: text/plain.
    method = "POST" if path.endswith("invocations") else "GET"
    before = served.functions()["Notes"]["invocations"]
    request = urllib.request.Request(
        served.url + path, b"{}" if method == "POST" else None, {"Content-Type": "text/plain", **headers}, method=method
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
        assert "emulator's" in json.load(answer)["message"]
    assert served.functions()["Notes"]["invocations"] == before


def test_the_emulators_own_page_may_invoke(served: Served) -> None:
    url = served.url + "/2015-03-31/functions/Echo/invocations"
    request = urllib.request.Request(url, b"1", {"Origin": served.url, "Sec-Fetch-Site": "same-origin"})
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == b"1"
