"""A saved cold result in the terminal, as a page and as pictures: parts that it has are shown, missing ones are omitted."""

from pathlib import Path

import msgspec
from warmfront.bench.statistics import summary
from warmfront.report.html import render_html, render_png
from warmfront.report.terminal import render
from warmfront.results import Advice, Anatomy, Cold, Comparison, FirstSpan, ImportNode, Result, Series, Summary, Variant

STAGES = {"process_start": 20.0, "runtime_client": 40.0, "imports": 100.0, "runtime": 2.0, "dispatch": 1.0}
INVOKE = {"connect": 1.0, "authentication": 8.0, "prepare": 2.0, "query": 3.0, "handler": 6.0, "answer": 1.0}
BRANCH = ImportNode("heavy", "package", 60.0, 90.0, 40, 2048.0, (ImportNode("json", "standard", 30.0, 30.0, 9, 512.0),))


def cold(way: str, stages: dict[str, float]) -> Cold:
    whole = sum(stages.values())
    return Cold("Shop", "Shop", 20, ({"spawn_to_first_byte": whole, **stages},) * 20, way=way)


def a_result() -> Result:
    found = (cold("on-demand", STAGES | INVOKE), cold("snap-start", {"process_start": 3.0, "restore": 1.0} | INVOKE))
    rows, comparisons = summary.summarise_cold(found)
    ratio = Comparison("interpreter", "cold_p50", "ms", "Shop", "python -c pass", 184.0, 16.0, 11.5, 11.0, 12.0)
    crowd = [
        Comparison("crowd Shop", "ready", "ms", "on-demand", "snap-start", 9000.0, 300.0, 30.0, 28.0, 31.0),
        Comparison("crowd Shop", "memory", "B", "on-demand", "snap-start", 2e9, 1e8, 20.0, 19.0, 21.0),
    ]
    ramps = tuple(
        Series("p99 in a quarter of a second", "ms", (0.0, 1.0, 2.0), values, "Shop", f"ramp {way}")
        for way, values in (("on-demand", (2000.0, 900.0, 5.0)), ("snap-start", (90.0, 5.0, 5.0)))
    )
    figures = [
        Summary("ready on-demand", "Shop", "p50", "ms", 162.0, 160.0, 165.0, 20),
        Summary("warm on-demand", "Shop", "p50", "ms", 1.5, 1.4, 1.6, 200),
        Summary("thaw on-demand after 1 s", "Shop", "p50", "ms", 2.5, 2.4, 2.6, 10),
        Summary("ramp on-demand", "Shop", "delayed", "", 50.0, n=1),
    ]
    anatomy = Anatomy(
        function="Shop",
        event="GET /1",
        runs=5,
        imports=(ImportNode("handler", "own", 0.0, 100.0, 41, 3000.0, (BRANCH,)),),
        module_code_ms=4.0,
        spans=(FirstSpan("connect (Postgres)", 0.0, 9.0, 0, "127.0.0.1:5432"),),
        advice=Advice("heavy", ("app line 3",), 90.0, 80.0, 38, 1500.0),
        n_modules=41,
    )
    return Result(
        kind="cold",
        created="2026-11-22T20:00:00+00:00",
        command="warmfront cold Shop",
        machine={},
        versions={},
        settings={"crowd": 50},
        variants=(Variant("Shop", function="Shop", description="GET /1, payload 2.0"),),
        summaries=(*rows, *figures),
        cold=found,
        comparisons=(*comparisons, ratio, *crowd),
        anatomies=(anatomy,),
        series=ramps,
    )


def line(text: str, *words: str) -> str:
    return next(each for each in text.splitlines() if all(word in each for word in words))


def test_the_terminal_answers_each_question_in_one_line() -> None:
    text = render(a_result())
    assert line(text, "Shop on-demand", "20").split()[2:5] == ["20", "184", "[184,"]
    assert line(text, "  connect ", "1.00")
    assert line(text, "fork", "3.00")
    assert "ready                            162" in text
    assert line(text, "spawn to first byte   ", "11.5 [11.0, 12.0] x `python -c pass` (16.0 ms)")
    assert line(text, "a warm invocation", "takes 20.5 ms more")
    assert line(text, "look first at heavy (app line 3)", "90.0 ms with all it needs", "saves 80.0 ms, 38 modules")
    assert line(text, "50 environments ready 30.0", "9,000 -> 300 ms")
    assert line(text, "0.050 of the memory of on-demand")
    assert line(text, "connect (Postgres) 9.00 ms 127.0.0.1:5432")
    assert line(text, "first after a thaw", "after 1 s")
    assert line(text, "0 to 50 callers", "delayed")


def test_stages_and_branches_stand_in_the_order_in_which_they_pass() -> None:
    lines = render(a_result()).splitlines()
    places = [next(i for i, each in enumerate(lines) if each.startswith(f"  {name} ")) for name in
              ("process start", "runtime client", "imports and module code", "ready", "connect", "first query")]  # fmt: skip
    assert places == sorted(places)
    tree = [each for each in lines if "─ heavy" in each or "─ json" in each]
    assert [each.index("─") for each in tree] == [1, 4]


def test_what_was_not_measured_is_left_out() -> None:
    bare = msgspec.structs.replace(a_result(), anatomies=(), series=(), comparisons=(), summaries=(), variants=())
    text = render(bare)
    assert not any(word in text for word in ("look first", "callers", "thaw", "times sooner"))
    assert "imports of" not in render_html(bare)


def test_the_page_and_the_pictures_show_the_same_in_light_and_dark(tmp_path: Path) -> None:
    page = render_html(a_result())
    assert "look first at heavy" in page
    assert 'id="imports-shop"' in page
    assert 'id="cold-ways"' in page
    light = {path.name: path.read_bytes() for path in render_png(a_result(), tmp_path / "light")}
    dark = {path.name: path.read_bytes() for path in render_png(a_result(), tmp_path / "dark", dark=True)}
    assert light.keys() == dark.keys() >= {"cold-ways.png", "imports-shop.png", "ramp-p99-in-a-quarter-of-a-second.png"}
    assert all(light[name] != dark[name] for name in light)
