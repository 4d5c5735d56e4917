"""The ways to start as a client of `warmfront serve` sees them, and that none of their processes outlives it."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from warmfront.backing import reaper

from .serving import TEMPLATES, TOKEN, Served, serve


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATES / "ways.yaml", "--no-reload") as emulator:
        yield emulator


def post(served: Served, path: str, body: object, token: str = TOKEN) -> Any:
    request = urllib.request.Request(
        served.url + path, data=json.dumps(body).encode(), headers={"X-Warmfront-Token": token}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/restored", "snap-start"),
        ("/ahead", "provisioned-concurrency"),
        ("/managed", "lambda-managed-instances"),
    ],
)
def test_a_route_reaches_the_function_the_way_its_template_asks_for(served: Served, path: str, kind: str) -> None:
    assert served.get(path)["type"] == kind


def test_a_route_invokes_the_alias(served: Served) -> None:
    assert served.get("/restored")["arn"].endswith(":function:Restored:live")
    assert served.get("/managed")["arn"].endswith(":function:Managed")


def test_a_failed_restore_is_lambdas_exception_to_one_client_and_a_500_to_the_other(served: Served) -> None:
    with pytest.raises(ClientError, match="The runtime restore hook encountered an error") as caught:
        served.client().invoke(FunctionName="Broken", Qualifier="live")
    assert caught.value.response["Error"]["Code"] == "SnapStartException"
    with pytest.raises(urllib.error.HTTPError, match="500"):
        served.get("/broken")


def test_the_state_says_how_everything_started(served: Served) -> None:
    served.get("/restored")
    functions = served.functions()
    assert {name: each["start"] for name, each in functions.items() if ":" not in name} == {
        "Restored": "snap-start",
        "Ahead": "provisioned",
        "Managed": "managed",
        "Broken": "snap-start",
    }
    assert functions["Restored"]["snapshot"]["state"] == "ready"
    assert len(functions["Managed"]["environments"][0]["pids"]) == 3


def test_environments_are_started_on_request_and_say_how_long_it_took(served: Served) -> None:
    made = post(served, "/_warmfront/functions/Restored/start", {"count": 3})
    assert (made["started"], made["failed"], len(made["inits"])) == (3, 0, 3)
    for each in made["inits"]:
        order = ["restore_began_ns", "forked_ns", "client_ns", "restored_ns", "ready_ns"]
        assert sorted(order, key=lambda name: each[name]) == order
        assert made["began_ns"] <= each["spawned_ns"]
        assert each["ready_ns"] <= made["ready_ns"]
    snapshot = served.get("/_warmfront/functions/Restored/inits")["snapshot"]
    assert snapshot["bootstrap_ns"] < snapshot["imports_done_ns"] < snapshot["ready_ns"]


@pytest.mark.parametrize("body", [{"count": 0}, {"count": "5"}, [], {"count": 10_000}])
def test_a_senseless_count_is_refused(served: Served, body: object) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(served, "/_warmfront/functions/Restored/start", body)


def test_starting_wants_the_token(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        post(served, "/_warmfront/functions/Restored/start", {"count": 1}, token="guessed")


def test_a_kill_leaves_no_snapshot_no_restore_and_no_managed_process() -> None:
    with serve(TEMPLATES / "ways.yaml", "--no-reload") as served:
        post(served, "/_warmfront/functions/Restored/start", {"count": 4})
        served.client().invoke(FunctionName="Managed", Payload=b'{"sleep_s": 9}', InvocationType="Event")
        served.until(lambda: served.functions()["Managed"]["environments"][0]["phase"] == "invoke")
        leader = reaper.process(served.process.pid)
        assert leader is not None
        family = reaper.family(set(), {(leader.pid, leader.started)})
        assert len(family) >= 12
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        assert reaper.wait_until_gone(family, 2)
