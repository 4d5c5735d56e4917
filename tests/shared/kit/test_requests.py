"""Requests: what is an Idempotency-Key, and which versions conditional headers name."""

import pytest

from shared.kit.problems import Invalid, KeyRequired
from shared.kit.requests import etag, idempotency_key, if_match_versions, none_match


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("k" * 255, "k" * 255),
        (" 8e03978e-40d5 ", "8e03978e-40d5"),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        (r'"a \" and a \\"', 'a " and a \\'),
        ('a"b', 'a"b'),
    ],
)
def test_a_key_is_the_same_quoted_as_in_the_draft_and_bare(header: str, key: str) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize(
    "header", ["", "  ", "k" * 256, "a\x00b", "ключ", '""', '"', '"open', r'"\x"', '"a"; p=1', '"a"b"']
)
def test_what_is_no_key_is_refused_by_name(header: str) -> None:
    with pytest.raises(Invalid) as refused:
        idempotency_key(header)
    assert refused.value.members["errors"][0]["parameter"] == "Idempotency-Key"


def test_without_a_key_the_refusal_says_what_to_send() -> None:
    with pytest.raises(KeyRequired, match="UUID") as refused:
        idempotency_key(None)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ('"3"', [3]),
        ("*", None),
        (' "3" , "4"', [3, 4]),
        ('W/"3"', []),
        ("3", []),
        ('"three"', []),
        ("", []),
        ('"99999999999999999999"', []),
    ],
)
def test_if_match_names_versions_and_weak_or_foreign_tags_name_none(header: str, versions: list[int] | None) -> None:
    assert if_match_versions(header) == versions


@pytest.mark.parametrize(
    ("header", "known"),
    [(None, False), ('"3"', True), ('"2", W/"3"', True), ("*", True), ('"2"', False), ("3", False), ("", False)],
)
def test_if_none_match_knows_the_version_that_the_client_has(header: str | None, known: bool) -> None:
    assert none_match(header, etag(3)) is known
