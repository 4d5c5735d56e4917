import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from warmfront.report import theme
from warmfront.report.figures import number
from warmfront.report.html import render_html, render_png, write_html
from warmfront.report.pictures import pictures
from warmfront.results import Cold, Comparison, Result, Series, Variant

from tests.report.samples import bench_result, cold_result, full_result, lab_result

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects the elements of a page, and rejects tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "data") and value and not value.startswith("#"):
                self.loads.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def full() -> str:
    return render_html(full_result())


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_a_page_loads_nothing_and_runs_nothing(full: str) -> None:
    page = Page(full)
    assert page.loads == []
    assert not {"script", "link", "iframe", "img"} & page.tags
    assert "@import" not in full
    assert "url(http" not in full
    assert "default-src 'none'" in full


def test_ids_are_unique_so_that_no_picture_borrows_from_another(full: str) -> None:
    ids = Page(full).ids
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r"(?:url\(#|xlink:href=\"#)([^)\"]+)", full))
    assert referred <= set(ids)


def test_a_page_stays_far_below_a_megabyte() -> None:
    result = bench_result(
        workloads=("product", "products", "order", "place_order", "update", "mix"),
        variants=("naive", "pooled", "distributed"),
        rounds=30,
        requests=100,
    )
    assert len(render_html(result).encode()) < 700_000


def test_every_part_of_a_full_result_has_its_section(full: str) -> None:
    assert headings(full) == [
        "Requests",
        "Latency by percentile",
        "Cold starts",
        "Load and the knee",
        "Cost at equal offered load",
        "When it is worth it",
        "Growth",
        "Experiments",
        "Through time",
        "Noise floor",
        "The run",
    ]
    words = Page(full).words
    assert "To run it again warmfront bench --workers 50 --requests 10000" in words
    assert "n = 1,600" in words
    assert "Prices of 2026-01-01" in words
    assert "net of the emulator" in words
    assert "a pool and its settings" in words
    assert "At 1,000/s pooled saves" in words
    assert "G/G/c, 2 cores" in words


def test_the_trade_off_says_what_a_core_of_postgres_carries(full: str) -> None:
    result = full_result()
    used = next(row for row in result.summaries if row.variant == "naive" and row.metric == "cpu_per_request/postgres")
    words = Page(full).words
    assert "requests/s per core of Postgres" in words
    assert number(1000 / used.value) in words


def test_a_result_shows_only_what_it_has() -> None:
    assert headings(render_html(cold_result())) == ["Cold starts", "The run"]
    assert headings(render_html(lab_result())) == ["Experiments", "The run"]
    bare = Result(kind="bench", created="?", command="x", machine={}, versions={})
    assert headings(render_html(bare)) == ["The run"]


def test_an_experiment_ends_with_what_it_teaches() -> None:
    result = lab_result()
    long = {"measures": {"pooled": list(range(1000))}}
    words = Page(render_html(msgspec.structs.replace(result, settings={"seed": 7, "experiments": long}))).words
    assert "broke every caller waited held the breaker opened file shared/kit/breaker.py" in words
    assert "seed 7 experiments in the result file" in words


def test_what_a_result_says_cannot_become_markup() -> None:
    nasty = '<script>alert("x")</script>'
    result = bench_result(workloads=("product",), rounds=3, requests=40)
    blocks = tuple(msgspec.structs.replace(block, workload=nasty) for block in result.blocks)
    hostile = msgspec.structs.replace(
        result,
        blocks=blocks,
        command=nasty,
        warnings=(nasty,),
        machine={nasty: nasty, "cpu": nasty},
        variants=(Variant(nasty),),
        comparisons=(Comparison(nasty, "p50", nasty, nasty, nasty + "2", 2.0, 1.0, 2.0, 1.5, 2.5, "better"),),
        series=(Series(nasty, nasty, (0.0, 1.0), (1.0, 2.0), nasty),),
        cold=(Cold(nasty, nasty, 2, ({"spawn_to_first_byte": 5.0}, {"spawn_to_first_byte": 6.0})),),
    )
    page = render_html(hostile)
    assert "<script" not in page
    assert 'alert("x")' in Page(page).words


def test_dollars_and_math_signs_in_names_are_plain_text() -> None:
    result = bench_result(workloads=("a $x_1$ and $",), rounds=3, requests=40)
    page = render_html(msgspec.structs.replace(result, command="run $HOME ${title}"))
    assert "run $HOME ${title}" in page
    assert "a $x_1$ and $" in Page(page).words


def test_a_run_that_is_not_valid_says_so_before_any_figure() -> None:
    words = Page(render_html(bench_result(valid=False))).words
    assert words.index("not valid") < words.index("latency, median")
    assert words.index("close other programs and run again") < words.index("latency, median")


def test_pictures_follow_the_page_from_light_to_dark(full: str) -> None:
    assert "#5eed" not in full
    svgs = re.findall(r"<svg.*?</svg>", full, flags=re.DOTALL)
    assert len(svgs) == len(pictures(full_result()))
    for svg in svgs:
        assert "var(--ink)" in svg
        assert 'aria-label="' in svg
        # A clip path is always black; any other fixed colour would be invisible on the light or the dark page.
        assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{3,6})", svg)) == set()
    for role in theme.PALETTE:
        assert full.count(f"--{role}:") == 3, "light, dark and print"


def test_the_same_result_gives_the_same_page(full: str) -> None:
    assert render_html(full_result()) == full


def test_pictures_are_written_as_png(tmp_path: Path) -> None:
    shown = msgspec.structs.replace(cold_result(), kind="bench")
    paths = render_png(shown, tmp_path / "pictures")
    assert [path.name for path in paths] == ["cold-warm.png", "cold-stages.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
    light = paths[0].read_bytes()
    assert render_png(shown, tmp_path / "dark", dark=True)[0].read_bytes() != light


def test_a_page_is_written_to_a_new_folder(tmp_path: Path) -> None:
    write_html(lab_result(), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_latencies_of_zero_and_single_requests_can_be_drawn() -> None:
    result = bench_result(workloads=("product",), rounds=3, requests=40)
    blocks = [msgspec.structs.replace(block, latency_us=(0,), requests=1) for block in result.blocks]
    render_html(msgspec.structs.replace(result, blocks=tuple(blocks), cold=()))


def test_a_percentile_curve_shows_the_sample_of_its_rank() -> None:
    result = bench_result(workloads=("product",), rounds=3, requests=400)
    (picture,) = [own for own in pictures(result) if own.name == "percentiles-product"]
    axes = picture.draw(theme.FOR_SVG).axes[0]
    whole = np.sort(np.concatenate([block.latency_us for block in result.blocks if block.variant == "naive"])) / 1000
    nines, ms = axes.lines[0].get_data()
    place = int(np.argmin(np.abs(np.asarray(nines) - 1.0)))  # 90 %
    q = 1 - 10 ** -np.asarray(nines)[place]
    assert np.asarray(ms)[place] == whole[int(np.ceil(q * whole.size)) - 1]
