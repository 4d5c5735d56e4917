"""What clients asked and were told, what database and queue hold in the end, and which laws that breaks. Runs nothing.

A request that was never answered may have happened once or not at all; nothing else is forgiven.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

NO_ANSWER = 0
PLACED = 201


@dataclass(frozen=True, slots=True)
class Told:
    """How one attempt ended for its client."""

    status: int
    order: int | None = None
    replayed: bool = False


@dataclass(slots=True)
class Post:
    """One client's wish to place an order. Several posts with one key are one order; each may take several attempts."""

    number: int
    key: str
    customer: int
    lines: Mapping[int, int]
    """Quantity by product."""
    told: list[Told] = field(default_factory=list)

    @property
    def acknowledged(self) -> set[int | None]:
        return {told.order for told in self.told if told.status == PLACED}


@dataclass(frozen=True, slots=True)
class Order:
    customer: int
    lines: Mapping[int, int]
    total_cents: int
    lines_cents: int
    """What its lines add up to."""


@dataclass(frozen=True, slots=True)
class Final:
    """The state when nobody asks any more."""

    orders: Mapping[int, Order]
    stock_before: Mapping[int, int]
    stock_after: Mapping[int, int]
    events: Mapping[int, int] | None = None
    """The outbox, event -> order; None where nobody is told of orders."""
    delivered: Sequence[tuple[int, int]] = ()
    """What came out of the queue, (event, order)."""


@dataclass(frozen=True, slots=True)
class Violation:
    law: str
    what: str


Law = Callable[[Sequence[Post], Final], Iterator[str]]


def every_key_took_effect_at_most_once(posts: Sequence[Post], final: Final) -> Iterator[str]:
    del posts
    placed = Counter(order.customer for order in final.orders.values())
    for customer, times in placed.items():
        if times > 1:
            yield f"customer {customer} ordered once and has {times} orders"


def every_acknowledged_order_is_there(posts: Sequence[Post], final: Final) -> Iterator[str]:
    for post in posts:
        for identity in post.acknowledged:
            order = final.orders.get(identity) if identity is not None else None
            if order is None:
                yield f"post {post.number} was told of order {identity}, and it is not there"
            elif order.customer != post.customer or order.lines != post.lines:
                yield f"post {post.number} was told of order {identity}, and that is {order}"


def all_answers_to_a_key_name_one_order(posts: Sequence[Post], final: Final) -> Iterator[str]:
    del final
    named: defaultdict[str, set[int | None]] = defaultdict(set)
    for post in posts:
        named[post.key] |= post.acknowledged
    for key, orders in named.items():
        if len(orders) > 1:
            yield f"key {key} was answered with the orders {sorted(map(str, orders))}"


def only_one_answer_to_a_key_is_no_replay(posts: Sequence[Post], final: Final) -> Iterator[str]:
    del final
    first: Counter[str] = Counter()
    for post in posts:
        first[post.key] += sum(told.status == PLACED and not told.replayed for told in post.told)
    yield from (f"key {key} was answered {times} times as the first" for key, times in first.items() if times > 1)


def every_order_was_asked_for_and_is_whole(posts: Sequence[Post], final: Final) -> Iterator[str]:
    asked = {post.customer: post for post in posts}
    for identity, order in final.orders.items():
        if (post := asked.get(order.customer)) is None:
            yield f"order {identity} of customer {order.customer} was never asked for"
        elif order.lines != post.lines or order.total_cents != order.lines_cents:
            yield f"order {identity} is half an order: {order}, asked for were {dict(post.lines)}"


def stock_is_conserved(posts: Sequence[Post], final: Final) -> Iterator[str]:
    del posts
    sold: Counter[int] = Counter()
    for order in final.orders.values():
        sold.update(order.lines)
    for product, before in final.stock_before.items():
        after = final.stock_after.get(product, 0)
        if after < 0:
            yield f"product {product} has {after} in stock"
        if before - after != sold[product]:
            yield f"product {product} lost {before - after} of its stock and sold {sold[product]}"


def every_order_has_one_event_and_every_event_was_delivered(posts: Sequence[Post], final: Final) -> Iterator[str]:
    del posts
    if final.events is None:
        return
    told = Counter(final.events.values())
    yield from (f"order {order} has {told[order]} events" for order in final.orders if told[order] != 1)
    yield from (f"an event tells of order {order}, and there is none" for order in told.keys() - final.orders.keys())
    delivered = dict(final.delivered)
    for event, order in final.events.items():
        if delivered.get(event) != order:
            yield f"event {event} of order {order} was not delivered"
    yield from (f"event {event} was delivered and is in no outbox" for event in delivered.keys() - final.events.keys())


LAWS: Mapping[str, Law] = {
    law.__name__.replace("_", " "): law
    for law in (
        every_key_took_effect_at_most_once,
        every_acknowledged_order_is_there,
        all_answers_to_a_key_name_one_order,
        only_one_answer_to_a_key_is_no_replay,
        every_order_was_asked_for_and_is_whole,
        stock_is_conserved,
        every_order_has_one_event_and_every_event_was_delivered,
    )
}


def violations(posts: Sequence[Post], final: Final) -> list[Violation]:
    """Everything in the end state that what was asked and told cannot explain."""
    return [Violation(name, what) for name, law in LAWS.items() for what in law(posts, final)]
