"""The router against a slow one that tries every route and compares how specific they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warmfront.emulator.gateway.routes import ANY, DEFAULT, Router, StageRouter

SEGMENTS = st.sampled_from(["a", "b", "{p}", "{q}"])
METHODS = st.sampled_from(["GET", "POST", ANY])


@st.composite
def paths(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENTS, max_size=4))
    # A name fills one segment of a path only.
    unique = [f"{{r{i}}}" if s.startswith("{") and s in segments[:i] else s for i, s in enumerate(segments)]
    if draw(st.integers(0, 3)) == 0:
        unique.append("{proxy+}")
    return "/" + "/".join(unique)


ROUTES = st.lists(st.one_of(st.tuples(METHODS, paths()), st.just((ANY, DEFAULT))), max_size=12, unique=True)
REQUESTS = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)


def fits(route_path: str, path: str) -> tuple[int, ...] | None:
    """How specific the route is for this path (smaller is more), None if it does not fit. The doc's three steps, in order."""
    if route_path == DEFAULT:
        return (2,)
    wanted, given_parts = route_path[1:].split("/"), path[1:].split("/")
    kinds: list[int] = []
    for index, segment in enumerate(wanted):
        if segment.endswith("+}"):
            if not any(given_parts[index:]):
                return None
            return (1, *kinds, 9)
        if index >= len(given_parts):
            return None
        if segment.startswith("{"):
            if not given_parts[index]:
                return None
            kinds.append(1)
        elif segment == given_parts[index]:
            kinds.append(0)
        else:
            return None
    return (0, *kinds) if len(wanted) == len(given_parts) else None


def slow_match(routes: list[tuple[str, str]], method: str, path: str) -> set[tuple[str, str]]:
    """Every route that may win: the most specific path, and there the own method before ANY."""
    candidates = [
        (specific, route_method == ANY, (route_method, route_path))
        for route_method, route_path in routes
        if route_method in (method, ANY, ) or route_path == DEFAULT
        if (specific := fits(route_path, path)) is not None
    ]  # fmt: skip
    if not candidates:
        return set()
    best = min((specific, any_method) for specific, any_method, _ in candidates)
    return {route for specific, any_method, route in candidates if (specific, any_method) == best}


@given(ROUTES, REQUESTS, st.sampled_from(["GET", "POST", "PUT"]))
def test_the_router_agrees_with_one_that_tries_every_route(
    routes: list[tuple[str, str]], path: str, method: str
) -> None:
    match = Router((m, p, (m, p)) for m, p in routes).match(method, path)
    expected = slow_match(routes, method, path)
    if match is None:
        assert expected == set()
        return
    (route, parameters) = match
    assert route in expected
    filled = route[1]
    for name, value in (parameters or {}).items():
        filled = filled.replace(f"{{{name}}}", value).replace(f"{{{name}+}}", value)
    assert route[1] == DEFAULT or filled == path


@pytest.mark.parametrize(
    ("path", "stage", "expected"),
    [
        ("/dev/items", "dev", "/items"),
        ("/dev", "dev", "/"),
        ("/dev/", "dev", "/"),
        ("/items", "dev", "/items"),
        ("/developers", "dev", "/developers"),
        ("/dev/items", DEFAULT, "/dev/items"),
    ],
)
def test_the_stage_is_a_whole_first_segment(path: str, stage: str, expected: str) -> None:
    assert StageRouter([(ANY, DEFAULT, 1)], stage).match("GET", path) == (1, None, expected)


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("route", ["/{proxy+}", "/{id}", "/{id}/{kind}", "/Prod/{id}"])
@pytest.mark.parametrize("path", ["/Prod", "/Prod/"])
def test_no_path_variable_takes_the_stage_s_name(route: str, path: str, *, rest: bool) -> None:
    assert StageRouter([("GET", route, 1)], "Prod", rest=rest).match("GET", path) is None


def test_a_route_s_first_segment_may_have_the_stage_s_name() -> None:
    router = StageRouter([("GET", "/dev/{id}", 1), ("GET", "/dev", 2), ("GET", "/{proxy+}", 3)], "dev")
    assert router.match("GET", "/dev") == (2, None, "/dev")
    assert router.match("GET", "/dev/7") == (3, {"proxy": "7"}, "/7")
    assert router.match("GET", "/dev/dev/7") == (1, {"id": "7"}, "/dev/7")
    assert StageRouter([("GET", "/dev/{id}", 1)], "dev").match("GET", "/dev/7") == (1, {"id": "7"}, "/dev/7")


def test_methods_of_a_path() -> None:
    router = Router([("GET", "/a", 1), ("POST", "/{x}", 2)])
    assert router.methods("/a") == ["GET", "POST"]
    assert router.methods("/b/c") == []


def test_three_hundred_routes_are_found_without_trying_them_all() -> None:
    """API Gateway's limit of routes; a path of fifty segments that nearly matches must not explode."""
    routes = [("GET", "/" + "/".join(f"{{p{i}}}" for i in range(depth)), depth) for depth in range(1, 40)]
    routes += [("GET", f"/static{i}", 100 + i) for i in range(260)]
    router = Router(routes)
    assert router.match("GET", "/static259") == (359, None)
    assert router.match("POST", "/" + "/".join(["x"] * 39)) is None
