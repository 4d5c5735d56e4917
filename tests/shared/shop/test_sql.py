"""The shop's statements are whole, plain SQL: what Python, Node and Go run is the same text."""

import re
from pathlib import Path

import pytest

from shared.kit import idempotency
from shared.shop import sql

FILES = sorted(Path(sql.__file__).parent.glob("*.sql"))


def plain(text: str) -> str:
    return " ".join(re.sub(r"--[^\n]*", "", text).split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_statement_has_numbered_parameters_and_nothing_to_fill_in(path: Path) -> None:
    text = plain(sql.statement(path.stem))
    assert text
    assert not re.search(r"[{}%;]", text)
    numbers = {int(number) for number in re.findall(r"\$(\d+)", text)}
    assert numbers == set(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("order_place", "NULL"),
        ("order_place_with_event", "(SELECT json_object_agg(product_id, version)::text FROM taken)"),
    ],
)
def test_placing_an_order_stands_in_the_frame_of_the_kit(name: str, note: str) -> None:
    text = plain(sql.statement(name))
    effect = text[text.index("wanted AS") : text.index(", record AS")]
    assert text == plain(idempotency.once(effect, note=note))


def test_the_two_ways_to_place_an_order_differ_in_the_event_alone() -> None:
    without, with_event = (plain(sql.statement(name)) for name in ("order_place", "order_place_with_event"))
    event = re.search(r", event AS \(.*?\) , record|, event AS \(.*?\), record", with_event)
    assert event is not None
    note = "(SELECT json_object_agg(product_id, version)::text FROM taken) AS note"
    assert with_event.replace(event[0], ", record").replace(note, "NULL AS note") == without
