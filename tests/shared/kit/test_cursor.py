"""Cursors: only what was given out comes back in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kit import cursor
from shared.kit.problems import Invalid

KEY = b"0123456789abcdef"


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_opens_to_what_was_sealed(after_id: int) -> None:
    sealed = cursor.seal("products", after_id, KEY)
    assert cursor.open_sealed("products", sealed, KEY) == after_id
    assert str(after_id) not in sealed or after_id < 1_000  # opaque: a reader finds no number in it to depend on


@pytest.mark.parametrize("position", range(len(cursor.seal("products", 42, KEY))))
def test_a_cursor_with_one_character_changed_is_refused(position: int) -> None:
    sealed = cursor.seal("products", 42, KEY)
    for character in "AZaz09-_":
        forged = sealed[:position] + character + sealed[position + 1 :]
        if forged != sealed:
            with pytest.raises(Invalid):
                cursor.open_sealed("products", forged, KEY)


@pytest.mark.parametrize("text", ["", "42", "=", "ä", "AAAA" * 100, "💥", "AQ==", "A" * 33])
def test_what_is_no_cursor_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        cursor.open_sealed("products", text, KEY)
    assert refused.value.members["errors"][0]["parameter"] == "cursor"


def test_a_cursor_of_another_listing_or_another_key_is_refused() -> None:
    sealed = cursor.seal("products", 42, KEY)
    for listing, key in (("orders", KEY), ("products", KEY[::-1])):
        with pytest.raises(Invalid):
            cursor.open_sealed(listing, sealed, key)


def test_a_cursor_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = cursor.seal("products", 42, KEY)
    monkeypatch.setattr(cursor, "VERSION", cursor.VERSION + 1)
    with pytest.raises(Invalid):
        cursor.open_sealed("products", sealed, KEY)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    sealed = cursor.seal("products", 42, KEY)
    for spelling in (sealed + "==", sealed[:4] + "!" + sealed[4:], sealed + "\n"):
        with pytest.raises(Invalid):
            cursor.open_sealed("products", spelling, KEY)
