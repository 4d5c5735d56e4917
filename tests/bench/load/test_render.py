"""Rendering: the same seed asks the same, weights hold, bytes are right HTTP, body checks check."""

from collections import Counter
from pathlib import Path

from warmfront.bench.load.render import Cursors, Renderer, body_is_right
from warmfront.bench.load.workloads import Template, WorkloadFile, load_workloads

TEXT = """
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
cursor = "next"
rows = 10
[[workload]]
name = "one"
[[workload.request]]
path = "/p/{id:1..1000}"
json = { id = "{id}", "list.0.ok" = true }
contains = ["name {id}"]
[[workload]]
name = "page"
[[workload.request]]
path = "/p?cursor={page_depth:10..90}"
[[workload]]
name = "post"
[[workload.request]]
method = "POST"
path = "/p"
headers = { Idempotency-Key = "{uuid}" }
body = '{"n": {n:5..5}}'
[[workload]]
name = "both"
mix = { one = 90, post = 10 }
"""


def read(tmp_path: Path) -> WorkloadFile:
    path = tmp_path / "w.toml"
    path.write_text(TEXT)
    return load_workloads(path)


def renderer(file: WorkloadFile, workload: str, variant: str = "offset", seed: str = "7", **more: object) -> Renderer:
    cursors = more.get("cursors")
    assert cursors is None or isinstance(cursors, Cursors)
    return Renderer(
        file.workload(workload), file.variant(variant).prefix, host="h:1", headers={}, seed=seed, cursors=cursors
    )


def test_one_seed_asks_every_variant_the_same(tmp_path: Path) -> None:
    file = read(tmp_path)
    offset = [exchange.values for exchange in renderer(file, "both").exchanges(200)]
    keyset = [exchange.values for exchange in renderer(file, "both", "keyset").exchanges(200)]
    other = [exchange.values for exchange in renderer(file, "both", seed="8").exchanges(200)]
    assert offset == keyset
    assert offset != other


def test_chunks_go_on_where_the_last_one_ended(tmp_path: Path) -> None:
    file = read(tmp_path)
    whole = [exchange.first for exchange in renderer(file, "one").exchanges(20)]
    parts = renderer(file, "one")
    assert [exchange.first for exchange in parts.exchanges(7) + parts.exchanges(13)] == whole


def test_weights_are_kept(tmp_path: Path) -> None:
    kinds = Counter(exchange.kind for exchange in renderer(read(tmp_path), "both").exchanges(5000))
    assert 4350 < kinds[0] < 4650


def test_draws_cover_their_range_and_do_not_leave_it(tmp_path: Path) -> None:
    drawn = {int(exchange.values["id"]) for exchange in renderer(read(tmp_path), "one").exchanges(20_000)}
    assert min(drawn) == 1
    assert max(drawn) == 1000


def test_a_request_is_http_with_the_variants_prefix(tmp_path: Path) -> None:
    (exchange,) = renderer(read(tmp_path), "post").exchanges(1)
    head, body = exchange.first.split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /offset/p HTTP/1.1"
    assert "Host: h:1" in lines
    assert "Content-Type: application/json" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert f"Idempotency-Key: {exchange.values['uuid']}" in lines
    assert body == b'{"n": 5}'


def test_variants_read_the_same_depths_each_by_its_own_cursor(tmp_path: Path) -> None:
    file = read(tmp_path)
    offset = Cursors((), 10, Template(("", ""), ("page_depth",)))
    keyset = Cursors([f"c{page}+" for page in range(1, 10)], 10)
    depths = [e.values["page_depth"] for e in renderer(file, "page", cursors=offset).exchanges(50)]
    walked = renderer(file, "page", "keyset", cursors=keyset).exchanges(50)
    assert [f"c{int(depth) // 10}+" for depth in depths] == [exchange.values["page_depth"] for exchange in walked]
    assert walked[0].first.startswith(f"GET /keyset/p?cursor={walked[0].values['page_depth'][:-1]}%2B ".encode())


def test_body_checks_compare_values_and_search_text(tmp_path: Path) -> None:
    step = read(tmp_path).workload("one").requests[0].steps[0]
    right = b'{"id": 4, "list": [{"ok": true}], "name": "name 4"}'
    assert body_is_right(step, {"id": "4"}, right)
    assert not body_is_right(step, {"id": "5"}, right)
    assert not body_is_right(step, {"id": "4"}, right.replace(b"true", b"false"))
    assert not body_is_right(step, {"id": "4"}, right.replace(b"name 4", b"name"))
    assert not body_is_right(step, {"id": "4"}, b"name 4 {")
