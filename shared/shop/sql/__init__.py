"""The shop's SQL statements, one file each with numbered parameters, so that handlers in any language can run the same."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def statement(name: str) -> str:
    """The text of NAME.sql. Called while modules are imported, never by a request."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
