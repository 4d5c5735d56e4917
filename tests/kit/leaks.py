"""What must never be told: secrets, addresses, SQL, the inside of the code. A pure search over text."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

EVERYWHERE: Mapping[str, str] = {
    "a DSN": r"\b(?:postgres(?:ql)?|rediss?)://",
    "SQL": r"(?i)\b(?:FROM|INTO|UPDATE|JOIN)\s+\"?(?:products|orders|order_lines|idempotency_keys|outbox)\b",
    "a driver's message": r"(?i)syntax error at or near|relation \"|violates \w+ constraint|invalid input syntax",
    "a stack trace": r"Traceback \(most recent call last\)",
}
IN_ANSWERS: Mapping[str, str] = {
    "a source file": r"\b\w+\.py\b",
    "a module": r"\b(?:asyncpg|msgspec|hiredis|shared|functions)\.\w+",
    "a table": r"\b(?:order_lines|idempotency_keys|outbox|pg_\w+)\b",
}
"""Besides; a log may name a line of code, since only its owner reads it."""


@dataclass(frozen=True, slots=True)
class Leak:
    kind: str
    where: str
    text: str


def leaks(said: Iterable[tuple[str, str]], secrets: Mapping[str, str], *, answers: bool) -> Iterator[Leak]:
    """`said` is (where, text); `secrets` are values by their names."""
    patterns = {kind: re.compile(text) for kind, text in {**EVERYWHERE, **(IN_ANSWERS if answers else {})}.items()}
    for where, text in said:
        yield from (Leak(name, where, "(the value)") for name, value in secrets.items() if value in text)
        for kind, pattern in patterns.items():
            if found := pattern.search(text):
                yield Leak(kind, where, text[max(0, found.start() - 40) : found.end() + 40])
