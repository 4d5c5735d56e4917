"""docs/settings.md against shared/shop/settings.py: the page has the table that the generator makes of the code."""

import pytest

from shared.shop.settings import VARIABLES
from tools import settings as generator
from tools.blocks import replace_block


def test_the_page_has_the_generated_table() -> None:
    text = generator.PAGE.read_text(encoding="utf-8")
    assert replace_block(text, generator.BLOCK, generator.render()) == text, "run: python -m tools.settings --write"


def test_a_setting_without_a_description_and_a_description_without_a_setting_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(generator.SECTIONS["API"], "SHOP_INVENTED", "Nothing.")
    monkeypatch.delitem(generator.SECTIONS["API"], "SHOP_STAGE")
    with pytest.raises(ValueError, match=r"differ in SHOP_INVENTED, SHOP_STAGE$"):
        generator.render()


def test_defaults_and_ranges_are_those_of_the_code() -> None:
    lines = generator.render().splitlines()
    (pool_max,) = [line for line in lines if "`SHOP_POOL_MAX`" in line]
    (cursor_key,) = [line for line in lines if "`SHOP_CURSOR_KEY`" in line]
    assert pool_max.endswith("| 1 | 1 to 20 | connections |")
    assert "| must be set |" in cursor_key
    assert generator.accepted("one of off, on") == "`off`, `on`"


def test_every_number_has_a_unit() -> None:
    numbers = [name for name, variable in VARIABLES.items() if variable.accepts.startswith("a whole number")]
    assert numbers
    assert [name for name in numbers if not generator.unit(name)] == []
