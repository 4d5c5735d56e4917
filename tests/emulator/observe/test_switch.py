"""Observation turned off and on while the emulator runs: nothing is noted while it is off, and what was noted stays."""

import contextlib
import http.client
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from warmfront.bench.load.load_process import LoadProcess
from warmfront.bench.overhead import observe as cost
from warmfront.bench.run.pulse import BeatHistory

from tests.emulator.harness import PATIENCE_S
from tests.emulator.observe.watched import TEMPLATE, ask
from tests.emulator.serving import TOKEN, Served, serve

PATH = "/_warmfront/observe"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(TEMPLATE, "--log-file", str(tmp_path / "log")) as served:
        yield served


def turn(served: Served, body: str, token: str = TOKEN) -> tuple[int, dict[str, object]]:
    with contextlib.closing(http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=PATIENCE_S)) as connection:
        connection.request("PUT", PATH, body, {"x-warmfront-token": token})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def counted(served: Served) -> dict[str, float]:
    """Requests, invocations and the handlers' own metrics, each with all its labels added up."""
    found = dict.fromkeys(("warmfront_requests_total", "warmfront_invocation_duration_seconds_count", "emf"), 0.0)
    for family in text_string_to_metric_families(ask(served, "/_warmfront/metrics")[2]):
        for sample in family.samples:
            name = "emf" if sample.name.startswith("emf_") and sample.name.endswith("_count") else sample.name
            if name in found:
                found[name] += sample.value
    return found


def test_what_happens_while_it_is_off_is_told_nobody(served: Served, tmp_path: Path) -> None:
    assert ask(served, "/powertools")[0] == 200
    before = counted(served)
    assert all(before.values()), before
    assert turn(served, '{"on": false}') == (200, {"on": False})
    assert json.loads(ask(served, PATH)[2]) == {"on": False}
    for _ in range(3):
        status, headers, _ = ask(served, "/powertools")
        assert status == 200
        assert "x-amzn-trace-id" not in headers
    assert counted(served) == before
    assert turn(served, '{"on": true}') == (200, {"on": True})
    assert "x-amzn-trace-id" in ask(served, "/powertools")[1]
    after = counted(served)
    assert after["warmfront_requests_total"] == before["warmfront_requests_total"] + 1
    assert all(after[name] > before[name] for name in before)
    served.stop()
    lines = [each for each in (tmp_path / "log").read_text(encoding="utf-8").splitlines() if "access: GET" in each]
    assert len(lines) == 2


def test_a_body_that_says_neither_or_comes_without_the_token_is_refused_and_turns_nothing(served: Served) -> None:
    for body in ("", "off", "[]", "{}", '{"on": 1}', '{"on": "false"}', "\xff"):
        status, told = turn(served, body)
        assert status == 400, body
        assert '{"on": true}' in str(told["message"])
        assert json.loads(ask(served, PATH)[2]) == {"on": True}
    assert turn(served, '{"on": false}', token="wrong")[0] == 403
    assert json.loads(ask(served, PATH)[2]) == {"on": True}


def test_without_observation_there_is_nothing_to_turn() -> None:
    with serve(TEMPLATE, "--no-observe") as served:
        assert ask(served, PATH)[0] == 404


def test_the_cost_is_measured_off_beside_on_and_over_the_limit_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the emulator and the load as they are; that a cost is found is shown by one that is planted.

    The machine stalls where it is told to: in one slice of the first pair of each mode and handler.
    """
    slices = itertools.count()
    monkeypatch.setattr(BeatHistory, "stalled", lambda *_: 0.2 if next(slices) % 6 == 1 else 0.0)
    monkeypatch.setattr(cost, "SUBJECTS", cost.SUBJECTS[1:])
    options = cost.ObserveOptions(pairs=3, slice=0.05, connections=4)
    modes = [cost.Mode("closed"), cost.Mode("open", watched=True)]
    with LoadProcess.start() as load:
        cost._measure(modes, load, random.Random(1), options)
    for mode in modes:
        assert mode.errors == 0
        assert set(mode.rates) == {(name, on) for name in ("silent", "measuring") for on in (True, False)}
        assert all(len(rates) == 2 and min(rates) > 0 for rates in mode.rates.values())
        assert mode.stalled == 2
    for mode in modes:
        for name in ("silent", "measuring"):
            mode.rates[name, False] = [1000.0, 2000.0, 3000.0]
            mode.rates[name, True] = [980.0, 1970.0, 2940.0]
    assert cost.show(modes) == 0
    modes[0].rates["measuring", True] = [900.0, 1790.0, 2730.0]
    assert cost.show(modes) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "9.8" in shown[-3]
    assert "left out because the machine stalled: 4" in shown[-1]
