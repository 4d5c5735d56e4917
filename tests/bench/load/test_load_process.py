"""The generator in a process of its own: blocks over the pipe, walked cursors, and an end with its session."""

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from warmfront.bench.load.load_process import LoadError, LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Target

from tests.bench.http_server import Answer, Got, serving

FILE = """
headers = { X-Token = "t" }
[[variant]]
name = "offset"
prefix = "/offset"
cursor_at_depth = "{page_depth}"
[[variant]]
name = "keyset"
prefix = "/keyset"
[walk]
start = "/p?limit=10"
next = "/p?limit=10&cursor={cursor}"
cursor = "page.next"
rows = 10
[[workload]]
name = "one"
[[workload.request]]
path = "/x/{id:1..1000}"
[[workload]]
name = "page"
[[workload.request]]
path = "/p?cursor={page_depth:10..99}"
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "w.toml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture(scope="module")
def load() -> Iterator[LoadProcess]:
    with LoadProcess.start() as process:
        yield process


def test_samples_come_back_whole(load: LoadProcess, file: str) -> None:
    with serving(lambda _: Answer(b"abc")) as server:
        order = Order(
            file=file,
            workload="one",
            variant="keyset",
            target=Target("127.0.0.1", server.port),
            plan=Plan(workers=4, requests=50),
        )
        load.prepare(order)
        recording = load.run()
    assert len(recording) == len(server.got) == 50
    assert recording.errors == 0
    assert set(recording.size) == {3}
    assert {got.headers["x-token"] for got in server.got} == {"t"}
    assert all(got.path.startswith("/keyset/x/") for got in server.got)


def test_what_ran_around_the_counted_requests_comes_back_too(load: LoadProcess, file: str) -> None:
    with serving(lambda _: Answer()) as server:
        plan = Plan(workers=4, requests=50, lead=4)
        target = Target("127.0.0.1", server.port)
        load.prepare(Order(file=file, workload="one", variant="keyset", target=target, plan=plan))
        recording = load.run()
    assert (len(recording), len(recording.around), len(server.got)) == (50, 7, 57)
    assert recording.began_ns is not None
    assert recording.began_ns < min(recording.done_ns)


def test_an_open_block_brings_its_lateness(load: LoadProcess, file: str) -> None:
    with serving(lambda _: Answer()) as server:
        plan = Plan(workers=4, requests=40, rate=400, arrivals="constant")
        load.prepare(
            Order(file=file, workload="one", variant="keyset", target=Target("127.0.0.1", server.port), plan=plan)
        )
        recording = load.run()
    assert len(recording.late_ns) == len(recording) == 40


def paged(got: Got) -> Answer:
    """A hundred rows; the cursor behind row n is `after-n`, and the last page has none."""
    cursor = parse_qs(urlsplit(got.path).query).get("cursor", ["after-0"])[0]
    following = int(cursor.removeprefix("after-")) + 10 if cursor.startswith("after-") else 0
    return Answer(json.dumps({"page": {"next": f"after-{following}" if following < 100 else None}}).encode())


def test_both_variants_read_the_same_depths_and_the_walk_is_done_once(load: LoadProcess, file: str) -> None:
    with serving(paged) as server:
        target = Target("127.0.0.1", server.port)
        depths = {}
        for variant in ("offset", "keyset"):
            order = Order(
                file=file, workload="page", variant=variant, target=target, plan=Plan(workers=2, requests=300)
            )
            assert load.walk(order) == (9 if variant == "keyset" else 0)
            assert load.walk(order) == 0
            server.got.clear()
            load.prepare(order)
            assert load.run().errors == 0
            depths[variant] = Counter(got.path.partition("cursor=")[2].removeprefix("after-") for got in server.got)
    assert depths["offset"] == depths["keyset"]
    assert set(depths["offset"]) == {str(depth) for depth in range(10, 100, 10)}


def test_a_walk_past_the_last_row_says_so(load: LoadProcess, tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(FILE.replace("10..99", "10..500"))
    with serving(paged) as server:
        order = Order(
            file=str(path),
            workload="page",
            variant="keyset",
            target=Target("127.0.0.1", server.port),
            plan=Plan(workers=1, requests=1),
        )
        with pytest.raises(
            LoadError,
            match=r"page 10 of the walk\) has no 'page.next'; lower page_depth: it exceeds the number of rows",
        ):
            load.walk(order)


def test_a_walk_that_is_refused_says_by_what(load: LoadProcess, tmp_path: Path) -> None:
    path = tmp_path / "refused.toml"
    path.write_text(FILE)
    with serving(lambda _: Answer(b"no such page", status=404)) as server:
        order = Order(
            file=str(path),
            workload="page",
            variant="keyset",
            target=Target("127.0.0.1", server.port),
            plan=Plan(workers=1, requests=1),
        )
        with pytest.raises(LoadError, match="answered 404: no such page"):
            load.walk(order)


def test_a_server_that_is_gone_is_counted_and_the_process_goes_on(load: LoadProcess, file: str) -> None:
    with serving(lambda _: Answer()) as server:
        gone = server.port
    order = Order(
        file=file, workload="one", variant="keyset", target=Target("127.0.0.1", gone), plan=Plan(workers=2, requests=4)
    )
    load.prepare(order)
    recording = load.run()
    assert list(recording.outcome) == [Outcome.CONNECT] * 4
    with pytest.raises(LoadError, match="variant 'none' does not exist"):
        load.prepare(
            Order(
                file=file,
                workload="one",
                variant="none",
                target=Target("127.0.0.1", gone),
                plan=Plan(workers=1, requests=1),
            )
        )
    with pytest.raises(LoadError, match="no block is prepared"):
        load.run()


def test_it_ends_with_its_session_even_in_the_middle_of_a_block(file: str) -> None:
    """The session is killed while a block waits for answers that never come."""
    source = """
import sys
from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Plan, Target
load = LoadProcess.start()
load.prepare(Order(file=sys.argv[1], workload="one", variant="keyset", target=Target("127.0.0.1", int(sys.argv[2])),
                   plan=Plan(workers=1, requests=1)))
print(load.pid, flush=True)
load.run()
"""

    async def never(_: Got) -> Answer:
        import asyncio

        await asyncio.sleep(60)  # an answer that never comes; the test kills the session long before
        return Answer()

    root = Path(__file__).parents[3]
    with serving(never) as server:
        session = subprocess.Popen(
            [sys.executable, "-c", source, file, str(server.port)], stdout=subprocess.PIPE, text=True, cwd=root
        )
        assert session.stdout is not None
        generator = os.pidfd_open(int(session.stdout.readline()))
        try:
            session.send_signal(signal.SIGKILL)
            session.wait(10)
            ended, _, _ = select.select([generator], [], [], 10)
            assert ended
        finally:
            os.close(generator)
            session.stdout.close()
