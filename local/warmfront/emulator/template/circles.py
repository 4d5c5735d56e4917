"""Refuses to resolve a name while it is being resolved: a circle in the template."""

from collections.abc import Callable


class CircleGuard:
    """Around the resolving of one name; raises what `error` makes of the message where the name is in `resolving`."""

    def __init__(self, resolving: list[str], what: str, error: Callable[[str], Exception]) -> None:
        self._resolving, self._what, self._error = resolving, what, error

    def __enter__(self) -> None:
        if self._what in self._resolving:
            circle = " -> ".join((*self._resolving, self._what))
            raise self._error(f"{self._what} depends on itself ({circle})")
        self._resolving.append(self._what)

    def __exit__(self, *_: object) -> None:
        self._resolving.pop()
