"""The checker against histories with one planted mistake each, and against clean ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.order_history import LAWS, NO_ANSWER, Final, Order, Post, Told, violations


def posts() -> list[Post]:
    """Two keys with two posts each: one answered and replayed, one whose first answer got lost."""
    return [
        Post(0, "a", 1, {7: 2}, [Told(201, 100)]),
        Post(1, "a", 1, {7: 2}, [Told(409), Told(201, 100, replayed=True)]),
        Post(2, "b", 2, {7: 1, 8: 1}, [Told(NO_ANSWER), Told(201, 101, replayed=True)]),
        Post(3, "b", 2, {7: 1, 8: 1}, [Told(503), Told(201, 101, replayed=True)]),
    ]


FINAL = Final(
    orders={100: Order(1, {7: 2}, 40, 40), 101: Order(2, {7: 1, 8: 1}, 50, 50)},
    stock_before={7: 10, 8: 1},
    stock_after={7: 7, 8: 0},
    events={1: 100, 2: 101},
    delivered=[(2, 101), (1, 100), (1, 100)],
)
ORDERS = dict(FINAL.orders)
EVENTS = dict(FINAL.events or {})

type Plant = Callable[[], tuple[list[Post], Final]]


def final(**changes: object) -> Plant:
    return lambda: (posts(), replace(FINAL, **changes))  # type: ignore[arg-type]


def told(post: int, *answers: Told) -> Plant:
    def plant() -> tuple[list[Post], Final]:
        changed = posts()
        changed[post].told = list(answers)
        return changed, FINAL

    return plant


PLANTED: dict[str, list[Plant]] = {
    "every key took effect at most once": [
        final(orders={**ORDERS, 102: ORDERS[100]}, stock_after={7: 5, 8: 0}, events={**EVENTS, 3: 102},
              delivered=[(1, 100), (2, 101), (3, 102)]),
    ],
    "every acknowledged order is there": [
        final(orders={100: ORDERS[100]}, stock_after={7: 8, 8: 1}, events={1: 100}, delivered=[(1, 100)]),
    ],
    "all answers to a key name one order": [told(1, Told(201, 101, replayed=True))],
    "only one answer to a key is no replay": [told(1, Told(201, 100))],
    "every order was asked for and is whole": [
        final(orders={**ORDERS, 101: Order(2, {7: 1, 8: 1}, 0, 50)}),
        final(orders={**ORDERS, 102: Order(3, {}, 0, 0)}, events={**EVENTS, 3: 102},
              delivered=[(1, 100), (2, 101), (3, 102)]),
    ],
    "stock is conserved": [
        final(stock_after={7: 8, 8: 0}),
        final(stock_before={7: 2, 8: 1}, stock_after={7: -1, 8: 0}),
    ],
    "every order has one event and every event was delivered": [
        final(delivered=[(1, 100)]),
        final(delivered=[(1, 100), (2, 100)]),
        final(delivered=[(1, 100), (2, 101), (9, 100)]),
        final(events={1: 100}, delivered=[(1, 100)]),
        final(events={**EVENTS, 3: 101}, delivered=[(1, 100), (2, 101), (3, 101)]),
        final(events={**EVENTS, 3: 999}, delivered=[(1, 100), (2, 101), (3, 999)]),
    ],
}  # fmt: skip


def test_a_clean_history_breaks_no_law() -> None:
    assert violations(posts(), FINAL) == []


def test_a_lost_answer_may_or_may_not_have_happened() -> None:
    asked = [Post(0, "a", 1, {7: 2}, [Told(NO_ANSWER)])]
    nothing = Final({}, {7: 10}, {7: 10}, {}, [])
    once = Final({100: ORDERS[100]}, {7: 10}, {7: 8}, {1: 100}, [(1, 100)])
    assert violations(asked, nothing) == violations(asked, once) == []


def test_a_variant_that_tells_nobody_needs_no_events() -> None:
    assert violations(posts(), replace(FINAL, events=None, delivered=[])) == []


def test_every_law_has_a_mistake_planted_against_it() -> None:
    assert PLANTED.keys() == LAWS.keys()


@pytest.mark.parametrize(("law", "number"), [(law, n) for law, plants in PLANTED.items() for n in range(len(plants))])
def test_a_planted_mistake_is_found_by_its_law(law: str, number: int) -> None:
    found = violations(*PLANTED[law][number]())
    assert law in {each.law for each in found}


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.integers(0, 3)), max_size=25))
def test_whatever_an_exact_shop_does_breaks_no_law(asked: list[tuple[int, bool, int]]) -> None:
    """A shop that places each key once, tells of it once, and loses answers at will."""
    stock, orders, events, history = {7: 100}, dict[int, Order](), dict[int, int](), list[Post]()
    placed: dict[int, int] = {}
    for number, (customer, answered, losses) in enumerate(asked):
        post = Post(number, f"k{customer}", customer, {7: 1}, [Told(NO_ANSWER)] * losses)
        replayed = customer in placed
        if losses or answered:
            if not replayed:
                placed[customer] = 100 + len(orders)
                orders[placed[customer]] = Order(customer, {7: 1}, 5, 5)
                events[len(events)] = placed[customer]
                stock[7] -= 1
            if answered:
                post.told.append(Told(201, placed[customer], replayed=replayed or losses > 0))
        history.append(post)
    end = Final(orders, {7: 100}, stock, events, [*events.items()] * 2)
    assert violations(history, end) == []
