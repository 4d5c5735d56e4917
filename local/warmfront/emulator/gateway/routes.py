"""Finds the route of an API that a request takes, by its method and path below the stage."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

ANY: Final = "ANY"
DEFAULT: Final = "$default"
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


@dataclass(slots=True)
class _Leaf[T]:
    """A route at its place in the tree, and which segments its parameters are."""

    target: T
    names: tuple[str, ...]
    """Parameter names in the order of `_Node.param` steps; a greedy one comes last."""


@dataclass(slots=True)
class _Node[T]:
    static: "dict[str, _Node[T]]" = field(default_factory=dict)
    param: "_Node[T] | None" = None
    leaves: dict[str, _Leaf[T]] = field(default_factory=dict)
    """Method -> the route that ends here."""
    greedy: dict[str, _Leaf[T]] = field(default_factory=dict)
    """Method -> the route whose {name+} begins here."""


class Router[T]:
    """Finds the most specific route: a full match (static before {param}), then the longest {name+}, then $default.

    docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
    REST APIs (`rest`) choose the resource by path alone and then look at the method, ignore a trailing slash, and leave
    path parameters percent-encoded (recorded on AWS: localstack's snapshot invocation-payload-with-path-encoded-email).
    """

    def __init__(self, routes: Iterable[tuple[str, str, T]], *, rest: bool = False) -> None:
        self._root: _Node[T] = _Node()
        self._static: dict[str, dict[str, T]] = {}
        self._default: T | None = None
        self._rest = rest
        for method, path, target in routes:
            if path == DEFAULT:
                self._default = target
            else:
                self._add(method, path, target)

    def _add(self, method: str, path: str, target: T) -> None:
        if "{" not in path:
            self._static.setdefault(path, {})[method] = target
        node, names = self._root, list[str]()
        for segment in _segments(path):
            if segment.startswith("{") and segment.endswith("+}"):
                node.greedy.setdefault(method, _Leaf(target, (*names, segment[1:-2])))
                return
            if segment.startswith("{") and segment.endswith("}"):
                names.append(segment[1:-1])
                node.param = node.param or _Node()
                node = node.param
            else:
                node = node.static.setdefault(segment, _Node())
        node.leaves.setdefault(method, _Leaf(target, tuple(names)))

    def match(self, method: str, path: str) -> tuple[T, dict[str, str] | None] | None:
        """The route and its path parameters, or None.

        Args:
            method: The request's method, in capitals.
            path: The path below the stage, as the client sent it. HTTP APIs decode what they match; REST APIs do not.
        """
        static = self._static.get(path)
        if static is not None:
            target = static.get(method) or static.get(ANY)
            if target is not None:
                return target, None
        if self._rest and len(path) > 1 and path.endswith("/"):
            path = path.rstrip("/") or "/"
        segments = _segments(path)
        if not self._rest and "%" in path:  # split first, decode after: an encoded slash does not separate segments
            segments = [unquote(segment) for segment in segments]
        values: list[str] = []
        leaf = self._straight(method, segments, values) or self._full(self._root, method, segments, 0, values)
        if leaf is None and not (self._rest and self._names_resource(self._root, segments, 0)):
            leaf = self._greedy(self._root, method, segments, 0, values)
        if leaf is not None:
            names = leaf.names
            if len(names) == 1:
                return leaf.target, {names[0]: values[0]}
            return leaf.target, dict(zip(names, values, strict=True)) if names else None
        return (self._default, None) if self._default is not None else None

    def methods(self, path: str) -> list[str]:
        """The methods that have a route at this path."""
        return [method for method in _METHODS if self.match(method, path) is not None]

    def _straight(self, method: str, segments: list[str], values: list[str]) -> _Leaf[T] | None:
        """`_full`'s first try without recursion: nearly every request is found by it. Leaves no values when it fails."""
        node = self._root
        for segment in segments:
            child = node.static.get(segment)
            if child is None:
                child = node.param
                if child is None or not segment:
                    values.clear()
                    return None
                values.append(segment)
            node = child
        leaf = node.leaves.get(method) or node.leaves.get(ANY)
        if leaf is None:
            values.clear()
        return leaf

    def _full(self, node: _Node[T], method: str, segments: list[str], at: int, values: list[str]) -> _Leaf[T] | None:
        """Depth first, static before parameter; `values` holds the parameters of the branch that matched."""
        if at == len(segments):
            return node.leaves.get(method) or node.leaves.get(ANY)
        segment = segments[at]
        child = node.static.get(segment)
        if child is not None:
            leaf = self._full(child, method, segments, at + 1, values)
            if leaf is not None or (self._rest and self._names_resource(child, segments, at + 1)):
                return leaf
        if node.param is not None and segment:
            values.append(segment)
            leaf = self._full(node.param, method, segments, at + 1, values)
            if leaf is not None:
                return leaf
            values.pop()
        return None

    def _names_resource(self, node: _Node[T], segments: list[str], at: int) -> bool:
        """Whether some route, whatever its method, ends exactly here."""
        if at == len(segments):
            return bool(node.leaves)
        child = node.static.get(segments[at])
        if child is not None and self._names_resource(child, segments, at + 1):
            return True
        return node.param is not None and bool(segments[at]) and self._names_resource(node.param, segments, at + 1)

    def _greedy(self, node: _Node[T], method: str, segments: list[str], at: int, values: list[str]) -> _Leaf[T] | None:
        """The deepest greedy route on the way; it wants at least one character."""
        if at == len(segments):
            return None
        segment = segments[at]
        child = node.static.get(segment)
        if child is not None and (leaf := self._greedy(child, method, segments, at + 1, values)) is not None:
            return leaf
        if node.param is not None and segment:
            values.append(segment)
            leaf = self._greedy(node.param, method, segments, at + 1, values)
            if leaf is not None:
                return leaf
            values.pop()
        leaf = node.greedy.get(method) or node.greedy.get(ANY)
        if leaf is None or not any(segments[at:]):
            return None
        values.append("/".join(segments[at:]))
        return leaf


def _segments(path: str) -> list[str]:
    return path[1:].split("/") if path != "/" else [""]


class StageRouter[T]:
    """Finds the route of a request to an API's stage, with or without the stage's name in the path.

    AWS puts a named stage first in the path. The emulator also serves a request without it, as a custom domain that
    maps its root to the stage would. A path that begins with the stage's name is looked for below the stage, and only
    then among the routes that have this name as their own first segment: a path variable never takes the name, for on
    AWS the stage's root is `/`, which neither {name} nor {name+} matches (logandk/serverless-wsgi issue 20).
    """

    def __init__(self, routes: Iterable[tuple[str, str, T]], stage: str, *, rest: bool = False) -> None:
        listed = list(routes)
        self._prefix = "" if stage == DEFAULT else f"/{stage}"
        self._router = Router(listed, rest=rest)
        namesakes = [each for each in listed if self._prefix and _is_below(each[1], self._prefix)]
        self._namesakes = Router(namesakes, rest=rest)

    def match(self, method: str, path: str) -> tuple[T, dict[str, str] | None, str] | None:
        """The route, its path parameters and the path below the stage, or None.

        Args:
            method: The request's method, in capitals.
            path: The path as the client sent it.
        """
        if not self._prefix or not _is_below(path, self._prefix):
            match, below = self._router.match(method, path), path
        else:
            below = path[len(self._prefix) :] or "/"
            match = self._router.match(method, below)
            if match is None:
                match, below = self._namesakes.match(method, path), path
        return None if match is None else (*match, below)


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
