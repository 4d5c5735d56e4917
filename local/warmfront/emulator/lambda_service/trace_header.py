"""The X-Amzn-Trace-Id header as Lambda hands it to a function: whose trace, under which segment, sampled or not. Sends nothing.

Form: docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

import random
import time
from collections.abc import Callable

PER_SECOND = 10
"""X-Ray's default rule takes one request a second and 5 % of the others. Here ten: whoever tries out by hand wants each traced."""
SHARE = 0.05
_ENDS_AT_ONCE = 256


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
        self._left = 0
        self._next_second_s = 0.0
        self._ends: list[str] = []

    def header(self, given: str) -> str:
        """`Root=...;Parent=<the function's segment>;Sampled=0|1` for an invocation that came with `given`."""
        if not self._ends:
            self._ends = self._new_ends()
        end = self._ends.pop()
        if "Sampled=" in given:
            return f"Root={root(given)}{end[:-1]}{'1' if 'Sampled=1' in given else '0'}"
        if (self._left or self._clock() >= self._next_second_s) and self._is_among_the_first():
            end = end[:-1] + "1"
        if ";" not in given and given.startswith("Root="):  # our own gateway's
            return given + end
        return f"Root={root(given)}{end}"

    def _new_ends(self) -> list[str]:
        """Several at once: ids are cut from one draw."""
        ids, chance, share = self._random.randbytes(8 * _ENDS_AT_ONCE).hex(), self._random.random, self._share
        return [
            f";Parent={ids[start : start + 16]};Sampled={'1' if chance() < share else '0'}"
            for start in range(0, len(ids), 16)
        ]

    def _is_among_the_first(self) -> bool:
        """Of its second: those are all traced."""
        now_s = self._clock()
        if now_s >= self._next_second_s:
            self._next_second_s, self._left = now_s // 1 + 1, self._per_second
        if not self._left:
            return False
        self._left -= 1
        return True


def root(header: str) -> str:
    """The trace id: what follows `Root=`, else the whole of a header that has no fields."""
    start = header.find("Root=")
    if start < 0:
        return header.partition(";")[0]
    return header[start + 5 :].partition(";")[0]
