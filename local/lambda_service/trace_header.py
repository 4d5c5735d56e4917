"""The X-Amzn-Trace-Id header as Lambda hands it to a function: whose trace, under which segment, sampled or not. Sends nothing.

Form: docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

import random
import time
from collections.abc import Callable

PER_SECOND = 10
"""X-Ray's default rule takes one request a second and 5 % of the others. Here ten: whoever tries out by hand wants each traced."""
SHARE = 0.05
_IDS_AT_ONCE = 256


class Sampler:
    """Decides, where the caller has not, which invocations are traced; gives each a segment id of its own."""

    def __init__(
        self,
        *,
        per_second: int = PER_SECOND,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
        generator: random.Random | None = None,
    ) -> None:
        self._per_second = per_second
        self._share = share
        self._clock = clock
        self._random = generator or random.Random()
        self._second = -1
        self._left = 0
        self._ids: list[str] = []

    def header(self, given: str) -> str:
        """`Root=...;Parent=<the function's segment>;Sampled=0|1` for an invocation that came with `given`."""
        if not self._ids:
            draw = self._random.getrandbits
            self._ids = [f";Parent={draw(64):016x};Sampled=" for _ in range(_IDS_AT_ONCE)]
        if ";" not in given and given.startswith("Root="):  # our own gateway's
            return f"{given}{self._ids.pop()}{'1' if self._decide() else '0'}"
        sampled = self._decide() if "Sampled=" not in given else "Sampled=1" in given
        return f"Root={root(given)}{self._ids.pop()}{int(sampled)}"

    def _decide(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._left = second, self._per_second
        if self._left:
            self._left -= 1
            return True
        return self._random.random() < self._share


def root(header: str) -> str:
    """The trace id: what follows `Root=`, else the whole of a header that has no fields."""
    start = header.find("Root=")
    if start < 0:
        return header.partition(";")[0]
    return header[start + 5 :].partition(";")[0]
