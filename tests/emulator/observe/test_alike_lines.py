"""EMF lines that are decoded together give the same series as one by one, whatever other output stands among them."""

import json
import sys
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warmfront.emulator.observe import emf
from warmfront.emulator.observe.emf import ALIKE_MIN, Emf

NAMES = ("ConnectionsOpen", "ConnectionBudget", "AcquireWait", "CircuitRejected")


def line(names: tuple[str, ...] = NAMES, *, service: object = "shop", value: object = None, **also: object) -> bytes:
    directive = {"Namespace": "N", "Dimensions": [["service"]], "Metrics": [{"Name": name} for name in names]}
    values = {name: [place] if value is None else value for place, name in enumerate(names, 1)}
    about = {"Timestamp": 1, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": about, "service": service, **values, **also}).encode() + b"\n"


PLAIN = line()
KINDS = [
    PLAIN,
    PLAIN,
    line(value=[3, 4]),
    line(value=[]),
    line(value=7),
    line(value={"Values": [1, 2], "Counts": [2, 1]}),
    line(value={"Values": [1], "Counts": [20_000]}),
    line(value="no number"),
    line(service="other"),
    line(service=["no", "word"]),
    line().replace(b'"service": "shop", ', b""),
    line(NAMES[:2]),
    line(AcquireWait=None),
    line(circuit="postgres", to_state="open"),
    b'{"message": "no metric"}\n',
    b'{"message": "quotes \\"_aws\\""}\n',
    b"START RequestId: 1\n" + PLAIN,
    PLAIN + PLAIN,
    PLAIN[:-1],
    PLAIN[:40],
    PLAIN[:-2] + b', "x": [{}\n',
    PLAIN[:-1] + b"," + PLAIN,
    b'{"_aws": }\n',
]


def state(found: Emf) -> dict[str, Any]:
    return {
        "series": {
            key: (key.unit, each.histogram.counts, each.histogram.total, each.last)
            for key, each in found.series.items()
        },
        "open": found._open,
        "budget": found._budget,
        "waits": {name: (each.counts, each.total) for name, each in found._wait.items()},
        "circuits": found._circuits,
        "rejected": found.rejected,
        "dropped": found.dropped_values,
        "unreadable": found.unreadable_lines,
    }


def both(chunks: list[tuple[str, str, bytes]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read together, and one by one; what the functions print is known before."""
    together, apart = Emf(), Emf()
    for found in (together, apart):
        found.read([("F", "e1", PLAIN), ("G", "e1", PLAIN)])
    together.read(chunks)
    with mock.patch.object(emf, "ALIKE_MIN", sys.maxsize):
        apart.read(chunks)
    return state(together), state(apart)


@pytest.mark.parametrize("kind", KINDS)
def test_many_of_a_kind_are_what_each_of_them_is(kind: bytes) -> None:
    together, apart = both([("F", "e1", kind)] * (2 * ALIKE_MIN))
    assert together == apart


@given(
    st.lists(
        st.tuples(st.sampled_from("FG"), st.sampled_from(["e1", "e2"]), st.sampled_from(KINDS)), max_size=6 * ALIKE_MIN
    )
)
@settings(max_examples=300, deadline=None)
def test_together_is_what_one_by_one_is(chunks: list[tuple[str, str, bytes]]) -> None:
    together, apart = both(chunks)
    assert together == apart


@pytest.mark.parametrize(
    ("strange", "alike"),
    [(PLAIN, True), (line(value=[3, 4]), True), (line(service="other"), False), (PLAIN[:-1] + b"," + PLAIN, False)],
)
def test_only_lines_that_are_alike_are_taken_together(strange: bytes, alike: bool) -> None:
    found = Emf()
    found.read([("F", "e1", PLAIN)])
    before = state(found)
    assert found._take_alike("F", [("e1", PLAIN)] * ALIKE_MIN + [("e2", strange)]) is alike
    assert (found._touched == []) is not alike
    if not alike:
        assert state(found) == before
