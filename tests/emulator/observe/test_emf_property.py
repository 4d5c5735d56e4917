"""Whatever EMF documents CloudWatch takes: the exposition parses strictly and holds every value, or says that it was dropped."""

import asyncio
import json
import math
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warmfront.emulator.observe.emf import Emf
from warmfront.emulator.observe.emf_rules import UNITS, VALUE_MAX
from warmfront.emulator.observe.metrics import registry_of
from warmfront.emulator.observe.observatory import Observatory
from warmfront.emulator.template import load_template

from tests.emulator.observe.exposition import Sample, strictly_read
from tests.emulator.observe.watched import TEMPLATE

NAMES: Final = st.one_of(
    st.sampled_from(
        [
            *("server.cost", "server_cost", "Server Cost", "成功", "失败", "größe", "a b", "a.b", "A"),
            *("Orders", "Orders_count", "Orders_total", "Orders_bucket", "Orders_sum", "Orders_last", "Orders_created"),
            *("wait_milliseconds", "Wait", "wait_last", "orders_signed_sum", "x_info", "1st", "__x", "🎉"),
        ]
    ),
    st.text(min_size=1, max_size=12).filter(lambda text: text.strip() and "_aws" not in text),
)
DIMENSION_NAMES: Final = st.one_of(
    st.sampled_from(["user-id", "user_id", "user id", "user.id", "function", "le", "dimension_le", "quantile", "名"]),
    NAMES,
)
WORDS: Final = st.one_of(
    st.sampled_from(["7", "a", 'say "x"', "back\\slash", "two\nlines", "x=1,y=2", "}"]),
    st.text(min_size=1, max_size=8).filter(lambda text: text.strip()),
)
NUMBERS: Final = st.one_of(
    st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e100, -1e100, VALUE_MAX])
)
VALUES: Final = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, max_size=5),
    st.lists(st.tuples(NUMBERS, st.integers(0, 4)), max_size=3).map(
        lambda pairs: {"Values": [value for value, _ in pairs], "Counts": [count for _, count in pairs]}
    ),
    st.tuples(st.integers(1, 5), st.floats(0, 10), st.floats(10, 20)).map(
        lambda given: {"Min": given[1], "Max": given[2], "Count": given[0], "Sum": given[0] * 10.0}
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """An EMF document that CloudWatch takes."""
    values = draw(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
    dimensions = draw(st.dictionaries(DIMENSION_NAMES.filter(lambda name: name not in values), WORDS, max_size=4))
    sets: list[list[str]] | None = None
    if not dimensions:
        empty: list[str] = []
        sets = [empty] if draw(st.booleans()) else None
    else:
        names = st.lists(st.sampled_from(sorted(dimensions)), max_size=4)
        sets = draw(st.one_of(st.none(), st.lists(names, min_size=1, max_size=3)))
    units = draw(st.lists(st.sampled_from([None, *sorted(UNITS)]), min_size=len(values), max_size=len(values)))
    directive: dict[str, Any] = {
        "Namespace": draw(st.sampled_from(["Shop", "shop", "Some/Shop", "商店", "A B"])),
        "Metrics": [
            {"Name": name, **({"Unit": unit} if unit else {})} for name, unit in zip(values, units, strict=True)
        ],
    }
    if sets is not None:
        directive["Dimensions"] = sets
    return {"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}, **dimensions, **values}


def scraped(emf: Emf) -> dict[Sample, float]:
    async def main() -> dict[Sample, float]:
        observatory = Observatory(load_template(TEMPLATE))
        observatory.emf = emf
        try:
            return strictly_read(registry_of(observatory))
        finally:
            observatory.close()

    return asyncio.run(main())


def count_of(value: Any) -> int:
    if isinstance(value, dict):
        return int(sum(value["Counts"])) if "Counts" in value else int(value["Count"])
    return len(value) if isinstance(value, list) else 1


@given(st.lists(documents(), min_size=1, max_size=40), st.booleans())
@settings(max_examples=250, deadline=None)
def test_every_document_becomes_valid_exposition_and_no_value_is_lost(
    lines: list[dict[str, Any]], ascii_only: bool
) -> None:
    notes: list[str] = []
    emf = Emf(notes.append)
    emf.read(("F", "e1", json.dumps(line, ensure_ascii=ascii_only).encode() + b"\n") for line in lines)
    assert (emf.unreadable_lines, notes) == (0, [])
    samples = scraped(emf)
    infinite = {key: value for key, value in samples.items() if key[0].startswith("emf_") and ("le", "+Inf") in key[1]}
    assert len(infinite) == len(emf.series)
    expected = 0
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        sets = {frozenset(names) for names in directive.get("Dimensions") or [[]]}
        expected += len(sets) * sum(count_of(line[metric["Name"]]) for metric in directive["Metrics"])
    assert sum(infinite.values()) + emf.dropped_values == expected
    sums = [value for (name, _), value in samples.items() if name.startswith("emf_") and name.endswith("_sum")]
    assert sorted(sums) == pytest.approx(sorted(each.histogram.total for each in emf.series.values()), nan_ok=False)
    assert all(math.isfinite(value) for value in samples.values())


DIRECTIVE: Final = {"Namespace": "Shop", "Dimensions": [["service"]], "Metrics": [{"Name": "a"}]}


def document(*, line: dict[str, Any] | None = None, **directive: Any) -> bytes:
    about = {"Timestamp": 1, "CloudWatchMetrics": [{**DIRECTIVE, **directive}]}
    return json.dumps({"_aws": about, "service": "s", "a": 1, **(line or {})}).encode() + b"\n"


REFUSED: Final = {
    "no namespace": (document(Namespace=None), "Namespace is missing"),
    "empty namespace": (document(Namespace=" "), "Namespace is empty"),
    "long namespace": (document(Namespace="n" * 256), "256 characters"),
    "101 metrics": (document(Metrics=[{"Name": f"m{n}"} for n in range(101)]), "101 metrics"),
    "nameless metric": (document(Metrics=[{"Unit": "Count"}]), "Name is missing"),
    "unknown unit": (document(Metrics=[{"Name": "a", "Unit": "Parsecs"}]), "no unit"),
    "resolution": (document(Metrics=[{"Name": "a", "StorageResolution": 5}]), "StorageResolution"),
    "31 dimensions": (document(Dimensions=[[f"d{n}" for n in range(31)]]), "31 dimensions"),
    "no such dimension": (document(Dimensions=[["absent"]]), "dimension absent is missing"),
    "empty dimension": (document(line={"service": ""}), "dimension service is empty"),
    "long dimension": (document(line={"service": "s" * 1025}), "1025 characters"),
    "numeric dimension": (document(line={"service": 7}), "dimension service is no string"),
    "101 values": (document(line={"a": [1] * 101}), "101 values"),
    "too large": (document(line={"a": 1e300}), "beyond 2^360"),
    "word": (document(line={"a": "many"}), "cannot be read"),
    "nan": (document().replace(b'"a": 1', b'"a": NaN'), "cannot be read"),
    "long line": (document(line={"more": "x" * 1024 * 1024}), "bytes"),
    "cut off": (document()[:-9] + b"\n", "cannot be read"),
}


@pytest.mark.parametrize(("refused", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("alike", [False, True])
def test_what_cloudwatch_would_refuse_is_refused_with_one_line_in_the_log(
    refused: bytes, reason: str, alike: bool
) -> None:
    notes: list[str] = []
    emf = Emf(notes.append)
    with mock.patch("warmfront.emulator.observe.emf.ALIKE_MIN", 2 if alike else 1000):
        emf.read([("F", "e1", document())])
        emf.read([("F", "e1", refused)] * 6)
    assert emf.unreadable_lines == 6
    assert len(notes) == 1
    assert reason in notes[0]
    assert "F: " in notes[0]
    assert [series.histogram.count for series in emf.series.values()] == [1]


def test_metrics_and_labels_that_would_have_one_name_keep_their_values_apart() -> None:
    def one(names: dict[str, Any], **metrics: Any) -> bytes:
        directive = {"Namespace": "Shop", "Dimensions": [list(names)], "Metrics": [{"Name": name} for name in metrics]}
        return json.dumps({"_aws": {"CloudWatchMetrics": [directive]}, **names, **metrics}).encode() + b"\n"

    emf = Emf()
    emf.read(
        ("F", "e1", each)
        for each in (
            one({"service": "a"}, **{"server.cost": 7, "server_cost": 9, "成功": 3, "失败": 4}),
            one({"user-id": "1", "user_id": "7"}, Orders=1),
            one({"user-id": "2", "user_id": "7"}, Orders=10),
            one({"user id": "7"}, Orders=100),
            one({"user.id": "7"}, Orders=200),
            one({"function": "f", "le": "x", "dimension_le": "y"}, Orders=1000),
            one({}, Orders=2000, Orders_count=4000),
        )
    )
    samples = scraped(emf)
    sums = sorted(value for (name, _), value in samples.items() if name.startswith("emf_") and name.endswith("_sum"))
    assert sums == [1, 3, 4, 7, 9, 10, 100, 200, 1000, 2000, 4000]
    assert samples["emf_shop_server_cost_sum", frozenset({("function", "F"), ("service", "a")})] == 7


def test_names_stay_the_same_at_every_scrape() -> None:
    emf = Emf()
    emf.read([("F", "e1", document(Metrics=[{"Name": "a.b"}, {"Name": "a_b"}], line={"a.b": 1, "a_b": 2}))])

    async def main() -> tuple[dict[Sample, float], dict[Sample, float]]:
        observatory = Observatory(load_template(TEMPLATE))
        observatory.emf = emf
        registry = registry_of(observatory)
        first = strictly_read(registry)
        emf.read([("F", "e1", document(Metrics=[{"Name": "a b"}], line={"a b": 3}))])
        second = strictly_read(registry)
        observatory.close()
        return first, second

    first, second = asyncio.run(main())
    kept = {key: value for key, value in first.items() if key[0].startswith("emf_")}
    assert {key: second[key] for key in kept} == kept
