"""Alert rules and the template's alarms say the same, and a real Prometheus that scrapes the emulator acts on them."""

import copy
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.emulator.serving import Served, serve
from tools.rules import RULES, RulesError, main, make_rules, read_alarms, read_resources, render

HERE = Path(__file__).parent
TEMPLATE = HERE / "templates/watched/template.yaml"
PERIOD_S, FOR_S = 5, 2
PATIENCE_S = 60.0


def test_the_rules_are_those_of_the_template() -> None:
    assert RULES.read_text(encoding="utf-8") == render(make_rules(read_alarms(read_resources()))), (
        "an alarm has changed: python -m tools.rules --write"
    )


def test_the_thresholds_are_the_three_that_were_asked_for() -> None:
    latency, errors, pools = read_alarms(read_resources())
    assert (latency.threshold, errors.threshold, pools.threshold) == (500, 1, 90)
    assert errors.requests_min == 20


@pytest.mark.parametrize(
    ("alarm", "rule", "says"), [("ApiLatency", 0, "> 42"), ("ApiErrors", 1, "> 42"), ("PooledConnections", 2, "> 42")]
)
def test_a_threshold_that_changes_changes_its_rule(alarm: str, rule: int, says: str) -> None:
    resources = copy.deepcopy(read_resources())
    resources[alarm]["Properties"]["Threshold"] = 42
    if alarm == "PooledConnections":
        resources["DistributedConnections"]["Properties"]["Threshold"] = 42
    rules = make_rules(read_alarms(resources))["groups"][0]["rules"]
    assert [says in each["expr"] for each in rules] == [index == rule for index in range(3)]


def test_alarms_that_contradict_each_other_make_no_rules() -> None:
    resources = copy.deepcopy(read_resources())
    resources["DistributedConnections"]["Properties"]["Threshold"] = 42
    with pytest.raises(RulesError, match="differ"):
        read_alarms(resources)
    del resources["ApiErrors"]
    resources["DistributedConnections"]["Properties"]["Threshold"] = 90
    with pytest.raises(RulesError, match="no alarm ApiErrors"):
        read_alarms(resources)


def test_a_trial_shortens_the_rules_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--period-s", "5", "--for-s", "2"]) == 0
    short, kept = capsys.readouterr().out, RULES.read_text(encoding="utf-8")
    assert short != kept
    assert short.replace("[5s]", "[60s]").replace("for: 2s", "for: 180s") == kept


@pytest.mark.prometheus
def test_promtool_finds_no_fault_in_the_rules() -> None:
    assert "3 rules found" in run_promtool("check", "rules", str(RULES))


@pytest.mark.prometheus
def test_each_rule_fires_above_its_threshold_and_not_at_it() -> None:
    run_promtool("test", "rules", str(HERE / "alerts_test.yaml"))


def run_promtool(*arguments: str) -> str:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not on PATH (Debian: apt-get install prometheus)"
    return found


@pytest.mark.prometheus
def test_a_real_prometheus_fires_every_rule_for_an_ill_service_and_none_for_a_well_one(tmp_path: Path) -> None:
    with serve(TEMPLATE, "--log-file", str(tmp_path / "functions.log")) as served:
        for path in ("/well", "/slow", "/failing"):
            call(served, path)  # cold starts, before anybody counts
        with prometheus(tmp_path, served.url) as prometheus_url:
            with calling(served, "/well"):
                until(lambda: query(prometheus_url, f"sum(rate(warmfront_requests_total[{PERIOD_S}s])) > 5"))
                seen = watch(prometheus_url, (PERIOD_S + FOR_S) * 1.5)
            assert seen == set(), "a well service fires nothing"
            with calling(served, "/well", "/slow", "/failing", "/greedy"):
                until(lambda: len(firing(prometheus_url)) == 3)
    assert seen == set()


@contextmanager
def prometheus(folder: Path, target_url: str) -> Iterator[str]:
    """Debian's, on a loopback port, with the rules shortened to seconds."""
    (folder / "alerts.yaml").write_text(
        render(make_rules(read_alarms(read_resources()), period_s=PERIOD_S, for_s=FOR_S)), encoding="utf-8"
    )
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "alerts.yaml")],
        "scrape_configs": [
            {
                "job_name": "warmfront",
                "metrics_path": "/_warmfront/metrics",
                "static_configs": [{"targets": [target_url.removeprefix("http://")]}],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: process.poll() is not None or query(url, "up == 1"))
            assert process.poll() is None, (folder / "prometheus.log").read_text(encoding="utf-8")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def query(url: str, expression: str) -> list[Any]:
    """The result; empty also before Prometheus answers."""
    with suppress(OSError):
        return list(ask(f"{url}/api/v1/query?query={quote(expression)}")["result"])
    return []


def firing(url: str) -> set[str]:
    return {each["labels"]["alertname"] for each in ask(f"{url}/api/v1/alerts")["alerts"] if each["state"] == "firing"}


def watch(url: str, duration_s: float) -> set[str]:
    """Names of alerts that fired at any time of it."""
    seen: set[str] = set()
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        seen |= firing(url)
        time.sleep(0.2)
    return seen


def ask(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = json.load(answer)["data"]
    return found


def call(served: Served, path: str) -> None:
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(served.url + path, timeout=PATIENCE_S) as answer:
        answer.read()


@contextmanager
def calling(served: Served, *paths: str) -> Iterator[None]:
    """A caller for each path, a request after the other, with a pause that leaves the machine to others."""
    over = threading.Event()

    def repeat(path: str) -> None:
        while not over.wait(0.02):
            call(served, path)

    callers = [threading.Thread(target=repeat, args=(path,), daemon=True) for path in paths]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join(PATIENCE_S)


def until(condition: Callable[[], object]) -> None:
    """Ask until it holds: Prometheus tells nobody when it fires."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "did not come about in time"
        time.sleep(0.1)
