"""Data that `warmfront serve` keeps between runs, its lock, and the template's set-up invocations."""

import json
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.data_directory import DataDirectory
from warmfront.emulator.options import StartError
from warmfront.emulator.template import SetUpCall, TemplateError, load_template

from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import ROOT, Served, serve

OPTIONS = ("--aws", "none", "--no-event-sources", "--no-reload")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The shop's template with its code, in a folder of its own."""
    for name in ("functions", "shared"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path / "template.yaml"


def place_order(served: Served, key: str) -> Any:
    request = urllib.request.Request(
        f"{served.url}/pooled/orders",
        data=json.dumps({"customer_id": 1, "lines": [{"product_id": 7, "quantity": 1}]}).encode(),
        headers={"content-type": "application/json", "idempotency-key": f'"{key}"'},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_killed_emulator_loses_no_acknowledged_order_and_the_set_up_runs_once(shop: Path) -> None:
    with serve(shop, *OPTIONS, kept=True) as served:
        assert served.get("/pooled/products/42")["id"] == 42
        assert any("set-up" in line and "Migrate" in line for line in served.lines)
        placed = [place_order(served, f"order-number-{n}")["id"] for n in range(20)]
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(PATIENCE_S)
    with serve(shop, *OPTIONS, kept=True) as served:
        assert not any("set-up" in line for line in served.lines)
        for order in placed:
            assert served.get(f"/pooled/orders/{order}")["id"] == order
    with serve(shop, *OPTIONS, "--reset", kept=True) as served:
        assert any("set-up" in line for line in served.lines)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            served.get(f"/pooled/orders/{placed[-1]}")


def test_two_emulators_on_one_folder_are_refused(tmp_path: Path) -> None:
    first = DataDirectory.open(tmp_path / ".warmfront")
    with pytest.raises(StartError, match=r"is used by another emulator \(process \d+\).*--ephemeral"):
        DataDirectory.open(tmp_path / ".warmfront")
    first.close()
    DataDirectory.open(tmp_path / ".warmfront").close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="use --ephemeral"):
        DataDirectory.open(tmp_path / "file" / ".warmfront")


def test_reset_removes_the_data_and_what_was_noted_of_it(tmp_path: Path) -> None:
    calls = (SetUpCall("Migrate", b"{}"),)
    with_data = DataDirectory.open(tmp_path)
    with_data.note_set_up(calls)
    with_data.folder("postgres").mkdir(parents=True)
    assert with_data.set_up_done(calls)
    assert not with_data.set_up_done((SetUpCall("Migrate", b'{"other": 1}'),))
    with_data.close()
    anew = DataDirectory.open(tmp_path, reset=True)
    assert not anew.set_up_done(calls)
    assert not anew.folder("postgres").exists()
    anew.close()


SET_UP = """
Metadata: {Warmfront: {SetUp: SETUP}}
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: .}}
"""


def test_set_up_is_read_with_its_parameters_resolved(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(SET_UP.replace("SETUP", "[{Function: F, Event: {region: !Ref AWS::Region}}, {Function: F}]"))
    template = load_template(path, region="eu-west-1")
    assert [(call.function, json.loads(call.event)) for call in template.set_up] == [
        ("F", {"region": "eu-west-1"}),
        ("F", {}),
    ]


@pytest.mark.parametrize("wrong", ["[{Function: G}]", "{Function: F}", "[F]"])
def test_a_wrong_set_up_is_named_with_its_line(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(SET_UP.replace("SETUP", wrong))
    with pytest.raises(TemplateError, match=r"template.yaml:2: .*SetUp"):
        load_template(path)


def test_a_set_up_that_fails_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(SET_UP.replace("SETUP", "[{Function: F, Event: {a: 1}}]"))
    (tmp_path / "app.py").write_text('def handler(event, context):\n    raise ValueError(f"no {event}")\n')
    with serve(path, kept=True, ready="warmfront: set-up") as served:
        assert served.process.wait(PATIENCE_S) == 2
    assert "no {'a': 1}" in "\n".join(served.lines)
    with serve(path, "--no-setup", kept=True) as served:
        assert served.url


def test_requests_wait_until_the_set_up_is_done(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    event = "Events: {E: {Type: HttpApi, Properties: {Path: /x, Method: GET}}}"
    text = SET_UP.replace("SETUP", "[{Function: F, Event: {set: up}}]").replace("CodeUri: .}", f"CodeUri: ., {event}}}")
    path.write_text(text)
    (tmp_path / "app.py").write_text(
        "import time\nDONE = []\n"
        "def handler(event, context):\n"
        "    if 'set' in event:\n        time.sleep(1)\n        DONE.append(1)\n"
        "    return {'statusCode': 200, 'body': str(len(DONE))}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(first_answer, port)
        with serve(path, "--port", str(port), kept=True):
            assert early.result(PATIENCE_S) == b"1"


def first_answer(port: int) -> bytes:
    """Ask from the moment the port is open."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=PATIENCE_S) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.01)
    raise AssertionError("nobody listened")
