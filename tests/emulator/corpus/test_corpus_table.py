"""The table of tried templates in the documentation is that of the corpus."""

from tools.corpus_table import PAGE, table


def test_the_page_has_the_table_of_today() -> None:
    assert table() in PAGE.read_text(), "run `.venv/bin/python -m tools.corpus_table`"
