"""`warmfront serve` and `warmfront invoke` as a person uses them: the start-up table, one-line errors, reload, logs, the end."""

import io
import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from warmfront.backing import reaper
from warmfront.backing.watcher import reset_watcher
from warmfront.cli.main import main
from warmfront.emulator.lambda_service.logs.sinks import as_json, for_people

from tests.emulator.harness import HANDLERS, in_thread
from tests.emulator.serving import TEMPLATES, TOKEN, Served, serve


def template(folder: Path, **properties: str) -> Path:
    """One function F; its code is that of the fixture handlers unless CodeUri says otherwise."""
    properties = {"Runtime": "python3.13", "CodeUri": str(HANDLERS), **properties}
    lines = [f"      {name}: {value}" for name, value in properties.items()]
    head = [
        "Transform: AWS::Serverless-2016-10-31",
        "Resources:",
        "  F:",
        "    Type: AWS::Serverless::Function",
        "    Properties:",
    ]
    path = folder / "template.yaml"
    path.write_text("\n".join([*head, *lines]) + "\n")
    return path


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def warmfront(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """The command in this process: what it prints, and its exit status."""

    def run(*arguments: str) -> Done:
        status = main(arguments)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    yield run
    reset_watcher()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATES / "api.yaml", "--log-format", "text") as emulator:
        yield emulator


# -- start-up ----------------------------------------------------------------------------------------------------------


def test_the_table_names_functions_routes_and_what_cannot_run(served: Served) -> None:
    table = "\n".join(served.lines)
    assert "Echo" in table
    assert "GET /pid" in table
    assert "not runnable: runtime nodejs22.x is not on this machine" in table
    assert f"aws lambda invoke --endpoint-url {served.url}" in table


def test_a_request_is_served_and_its_lines_come_to_the_terminal(served: Served) -> None:
    since = len(served.lines)
    with urllib.request.urlopen(served.url + "/pid") as answer:
        assert answer.status == 200
    served.wait_for("REPORT RequestId", since=since)
    assert [line.split()[0] for line in served.lines[since:]] == ["INIT_START", "START", "END", "REPORT"]


def port_of_somebody_else() -> socket.socket:
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    return other


API, SOURCES = str(TEMPLATES / "api.yaml"), str(TEMPLATES / "sources.yaml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-t", "nowhere.yaml"], "nowhere.yaml"),
        (["-t", API, "--debug", "Nobody"], "--debug Nobody: no such function; the template has Echo"),
        (["-t", API, "--debug", "Echo=x"], "--debug Echo=x: 'x' is no port; write Echo=5678"),
        (["-t", API, "--env-vars", "nowhere.json"], "--env-vars nowhere.json"),
        (["-t", API, "--log-file", "/nowhere/x.log"], "--log-file /nowhere/x.log: No such file or directory"),
        (["-t", API, "--state-dir", "/dev/null/x"], "--state-dir /dev/null/x: Not a directory"),
        (
            ["-t", SOURCES, "--aws", "none", "--parameter-overrides", "When=cron(1)"],
            "Clock: event Once: cron(1): has 1 fields",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(warmfront: Callable[..., Done], arguments: list[str], said: str) -> None:
    done = warmfront("serve", "--port", "0", *arguments)
    assert done.status == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("warmfront: ")
    assert said in done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken_is_said_in_one_line(warmfront: Callable[..., Done]) -> None:
    with port_of_somebody_else() as other:
        port = other.getsockname()[1]
        done = warmfront("serve", "-t", API, "--port", str(port))
    assert done.status == 2
    assert (
        done.stderr
        == f"warmfront: 127.0.0.1:{port} cannot be used (Address already in use); choose another with --port\n"
    )


def test_a_debugger_that_is_not_installed_is_said_in_one_line(
    warmfront: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = metadata.distribution

    def without(name: str) -> metadata.Distribution:
        if name == "debugpy":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr("warmfront.emulator.lambda_service.environments.staging.metadata.distribution", without)
    done = warmfront("serve", "-t", API, "--port", "0", "--debug", "Echo")
    assert done.status == 2
    assert "--debug needs debugpy" in done.stderr
    assert "pip install 'warmfront[debug]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


DEBUGGER = """
import socket

def listen(address):
    global server
    server = socket.create_server(address)

def wait_for_client():
    server.accept()
"""


def test_a_function_waits_for_its_debugger_and_does_not_time_out(tmp_path: Path) -> None:
    """With a debugger that only listens: what it does once somebody has come is its own affair."""
    (tmp_path / "debugpy.py").write_text(DEBUGGER)
    (tmp_path / "debugpy-1.0.dist-info").mkdir()
    (tmp_path / "debugpy-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: debugpy\nVersion: 1.0\n")
    (tmp_path / "debugpy-1.0.dist-info/RECORD").write_text("debugpy.py,,\n")
    with port_of_somebody_else() as other:
        port = other.getsockname()[1]
    path = template(tmp_path, Handler="outcomes.sleeps", Timeout="1")
    with serve(path, "--debug", f"F={port}", environ={"PYTHONPATH": str(tmp_path)}) as served:
        assert any(f"F waits for a debugger on 127.0.0.1:{port}" in line for line in served.lines)
        answer = in_thread(lambda: invoke(served, "F", 1.2))
        served.wait_for(f"waiting for a debugger on 127.0.0.1:{port}")
        socket.create_connection(("127.0.0.1", port)).close()
        assert answer.join() == "awake", "longer than the function's timeout"


# -- comfort -----------------------------------------------------------------------------------------------------------


def invoke(served: Served, name: str, event: object = None) -> Any:
    return json.load(served.client().invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


RELOADED = """import os
import time

from deeper.word import WORD


def handler(event, context):
    while event and not os.path.exists(event):
        time.sleep(0.01)
    return f"{WORD} %d"
"""


def test_a_saved_file_is_taken_by_the_next_environment_and_one_in_flight_finishes(tmp_path: Path) -> None:
    app, word, go = tmp_path / "code/app.py", tmp_path / "code/deeper/word.py", tmp_path / "go"
    word.parent.mkdir(parents=True)
    app.write_text(RELOADED % 1)
    word.write_text("WORD = 'old'\n")
    path = template(tmp_path, Handler="app.handler", CodeUri="code/", Timeout="20")
    with serve(path, "--no-private-mounts") as served:  # it looks for a file of this machine's
        assert invoke(served, "F") == "old 1"
        in_flight = in_thread(lambda: invoke(served, "F", str(go)))
        served.until(lambda: served.functions()["F"]["environments"][0]["phase"] == "invoke")
        app.write_text(
            RELOADED % 2 + "\n"
        )  # another size: Python's cache tells one second's versions apart by nothing else
        served.wait_for("app.py has changed: new environments of F take it")
        assert invoke(served, "F") == "old 2"
        go.touch()
        assert in_flight.join() == "old 1"
        word.write_text("WORD = 'new'\n\n")
        served.wait_for("word.py has changed")
        assert invoke(served, "F") == "new 2"
        (tmp_path / "code/.app.py.swp").write_text("an editor's own")
        path.write_text(re.sub(r"(Timeout\W+)20", r"\g<1>21", path.read_text()))
        served.wait_for("template.yaml has changed: stop and start `warmfront serve` to take F")
        assert not [line for line in served.lines if ".swp" in line]


def test_started_ahead_logged_as_json_into_a_file_and_ended_by_a_signal(tmp_path: Path) -> None:
    log = tmp_path / "functions.log"
    path = template(tmp_path, Handler="outcomes.says")
    with serve(path, "--warm", "2", "--log-format", "json", "--log-file", str(log)) as served:
        assert len(served.functions()["F"]["environments"]) == 2
        answer = served.client().invoke(FunctionName="F")
        assert served.functions()["F"]["cold_starts"] == 0
        family = processes_of(served)
        assert len(family) >= 4, "the emulator, its watcher and two environments"
        assert served.stop(signal.SIGINT) == 0
        assert reaper.wait_until_gone(family, 5)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    words = [str(entry["message"]).split()[0] for entry in entries]
    assert words == ["INIT_START", "INIT_START", "START", "one", "two", "END", "REPORT"]
    assert {entry["function"] for entry in entries} == {"F"}
    assert {entry.get("requestId") for entry in entries[2:]} == {answer["ResponseMetadata"]["RequestId"]}
    assert not [line for line in served.lines if line.startswith(("START", "{"))]


def test_a_small_account_and_logs_in_colour(tmp_path: Path) -> None:
    path = template(tmp_path, Handler="outcomes.raises")
    with serve(path, "--account-concurrency", "1", "--log-format", "color") as served:
        client = served.client()

        def reason() -> str | None:
            try:
                client.invoke(FunctionName="F")
            except client.exceptions.TooManyRequestsException as error:
                return str(error.response["Reason"])
            return None

        reasons = {call.join() for call in [in_thread(reason), in_thread(reason)]}
        assert reasons == {None, "ConcurrentInvocationLimitExceeded"}
        served.wait_for("REPORT RequestId")
    shown = [line for line in served.lines if "\x1b[" in line]
    assert all("mF\x1b[0m " in line for line in shown), "each line names its function"
    assert any("\x1b[31m[ERROR] ValueError: boom" in line for line in shown)


def test_for_people_one_event_is_several_lines() -> None:
    shown = for_people(
        "F", 0.0, b"[ERROR] ValueError: boom\rTraceback:\r  File\nREPORT RequestId: x\tStatus: timeout\n"
    ).decode()
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in shown.splitlines()] == [
        "F [ERROR] ValueError: boom", "F Traceback:", "F   File", "F REPORT RequestId: x\tStatus: timeout"
    ]  # fmt: skip
    assert shown.count("\x1b[31m") == 2, "what failed is red"


def test_json_lines_of_a_handler_stay_objects() -> None:
    (entry,) = (json.loads(line) for line in as_json("F", 0.0, b'{"level": "INFO", "n": 1}\n').splitlines())
    assert entry == {"time": "1970-01-01T00:00:00.000Z", "function": "F", "message": {"level": "INFO", "n": 1}}


# -- control -----------------------------------------------------------------------------------------------------------


def test_state_and_retirement(served: Served) -> None:
    invoke(served, "Echo")
    about = served.functions()["Echo"]
    (environment,) = about["environments"]
    assert environment["invocations"] == 1
    assert environment["init_duration_ms"] > 0
    (init,) = served.get("/_warmfront/functions/Echo/inits")["inits"]
    order = ["spawned_ns", "bootstrap_ns", "imports_done_ns", "ready_ns", "first_invoke_ns", "first_response_ns"]
    assert [init[name] for name in order] == sorted(init[name] for name in order)
    request = urllib.request.Request(f"{served.url}/_warmfront/functions/Echo/retire", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="403") as error:
        urllib.request.urlopen(request)
    error.value.close()
    request.add_header("X-Warmfront-Token", TOKEN)
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer) == {"retired": 1}
    served.until(lambda: not served.functions()["Echo"]["environments"])
    invoke(served, "Echo")
    assert served.functions()["Echo"]["cold_starts"] == 2


# -- the end -----------------------------------------------------------------------------------------------------------


def processes_of(served: Served) -> set[reaper.Identity]:
    """The emulator with all that it started: environments, the watcher, backing services."""
    leader = reaper.process(served.process.pid)
    assert leader is not None
    return reaper.family(set(), {(leader.pid, leader.started)})


def test_a_kill_leaves_nothing() -> None:
    """Frozen environments, one in the middle of an invocation, one in its init: none outlives the emulator for two seconds."""
    with serve(TEMPLATES / "api.yaml") as served:
        invoke(served, "Echo")
        served.client().invoke(FunctionName="Sleeps", Payload=b"0.9", InvocationType="Event")
        served.until(lambda: [each["phase"] for each in served.functions()["Sleeps"]["environments"]] == ["invoke"])
        family = processes_of(served)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        assert reaper.wait_until_gone(family, 2)


# -- invoke ------------------------------------------------------------------------------------------------------------


def test_one_shot_prints_the_payload_and_keeps_logs_apart(warmfront: Callable[..., Done], tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text('{"a": 1}')
    done = warmfront("invoke", "Echo", "-t", API, "--event", str(event))
    assert (done.status, done.stdout) == (0, '{"a": 1}\n')
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["INIT_START", "START", "END", "REPORT"]


def test_a_state_directory_may_be_relative(
    warmfront: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = warmfront("invoke", "Echo", "-t", API, "--state-dir", "kept/here")
    assert (done.status, done.stdout) == (0, "{}\n")
    assert (tmp_path / "kept/here/runtime/boto3").is_symlink()


def test_one_shot_reads_standard_input(warmfront: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'"typed"')))
    assert warmfront("invoke", "Echo", "-t", API, "--event", "-").stdout == '"typed"\n'


def test_one_shot_fails_with_its_function(warmfront: Callable[..., Done]) -> None:
    done = warmfront("invoke", "Raises", "-t", API)
    assert done.status == 1
    assert json.loads(done.stdout)["errorType"] == "ValueError"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Nobody"], "Function not found"),
        (["Node"], "nodejs22.x is not on this machine"),
        (["Echo", "--event", "nowhere.json"], "nowhere.json"),
    ],
)
def test_one_shot_says_what_is_wrong_in_one_line(
    warmfront: Callable[..., Done], arguments: list[str], said: str
) -> None:
    done = warmfront("invoke", *arguments, "-t", API)
    assert done.status == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
