"""The dashboard as somebody uses it: in a real Chromium, against a real emulator."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import PATIENCE_MS, ColorScheme, Look
from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import Served

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE_MS)

OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1) && !node.closest(".unseen, .skip, pre, svg, dialog:not([open])");
}).map((node) => node.tagName + "." + node.className + ": " + node.textContent.slice(0, 40))"""

TOLD_TWICE = """() => new Promise((done) => {
  let told = 0;
  const stream = new EventSource("events");
  stream.onmessage = (event) => {
    told += JSON.parse(event.data).snapshot.functions[0].invocations === 1;
    if (told === 2) {
      stream.close();
      done();
    }
  };
})"""

FAINT = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.getClientRects().length || node.closest(":disabled, .unseen, .skip")) continue;
    const text = node instanceof SVGElement ? getComputedStyle(node).fill : getComputedStyle(node).color;
    const [a, b] = [light(text), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.fixture
def brief() -> Iterator[None]:
    """For what is expected not to come."""
    expect.set_options(timeout=PATIENCE_MS / 10)
    yield
    expect.set_options(timeout=PATIENCE_MS)


def request(served: Served, path: str) -> int:
    try:
        with urllib.request.urlopen(served.url + path, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def row(page: Page, name: str = "Items") -> Locator:
    return page.locator(f'[data-function="{name}"]')


def figure(page: Page, label: str, name: str = "Items") -> Locator:
    return row(page, name).locator(f'.counts div:has(dt:text-is("{label}")) dd')


def inject(page: Page, name: str, kind: str, **fields: str) -> None:
    row(page, name).get_by_role("button", name="Inject a fault").click()
    page.get_by_role("radio", name=kind).check()
    for label, value in fields.items():
        page.locator(f"#{label}").fill(value)
    page.get_by_role("button", name="Inject", exact=True).click()
    expect(row(page, name).locator(".fault")).to_contain_text(kind)


def test_a_cold_start_and_a_warm_request_show_live_with_log_report_and_waterfall(
    look: Callable[..., Look], served: Served
) -> None:
    page = look().go()
    expect(page.locator("#nothing")).to_be_visible()
    expect(row(page).locator(".tile")).to_have_count(0)
    assert request(served, "/items/7") == 200
    expect(page.locator("#cold .call")).to_have_count(1)
    expect(row(page).locator(".tile")).to_have_count(1)
    expect(figure(page, "cold")).to_have_text("1")
    assert request(served, "/items/8") == 200
    expect(page.locator("#warm .call")).to_have_count(1)
    expect(figure(page, "invoked")).to_have_text("2")
    expect(row(page).locator(".tiles")).to_have_attribute("aria-label", "1 environment: 1 frozen")
    expect(page.locator("#chart-rate svg path.line")).to_have_attribute("d", re.compile("L"))

    page.locator("#cold .call > button").click()
    spans = page.locator("#cold .fall li")
    expect(spans.filter(has_text="GET /items/7")).to_have_count(1)
    expect(page.locator("#cold .fall li.init")).to_have_count(1)
    expect(page.locator("#cold .fall li.invoke")).to_contain_text("Items")
    expect(page.get_by_label("Report", exact=True)).to_contain_text("Init Duration")
    expect(page.get_by_label("Log", exact=True)).to_contain_text("START RequestId")
    page.locator("#warm .call > button").click()
    expect(page.locator("#warm .fall li.invoke")).to_have_count(1)
    expect(page.locator("#warm .fall li.init")).to_have_count(0)


def force_a_cold_start(page: Page, served: Served) -> None:
    request(served, "/items/1")
    expect(figure(page, "cold")).to_have_text("1")
    row(page).get_by_role("button", name="Force a cold start").click()
    expect(row(page).locator(".tile")).to_have_count(0)
    expect(page.locator("#status")).to_have_text(
        "1 environment of Items shut down; its next invocation is a cold start."
    )
    request(served, "/items/1")
    expect(figure(page, "cold")).to_have_text("2")
    expect(page.locator("#cold .call")).to_have_count(2)


def throttle_and_clear(page: Page, served: Served) -> None:
    inject(page, "Items", "Throttle")
    expect(page.locator("#faulty")).to_have_text("Fault in Items")
    assert request(served, "/items/1") == 503
    expect(figure(page, "throttled")).to_have_text("1")
    row(page).get_by_role("button", name="Clear the fault").click()
    expect(row(page).locator(".fault")).to_be_hidden()
    expect(page.locator("#faulty")).to_be_hidden()
    assert request(served, "/items/1") == 200


def test_the_button_forces_a_cold_start(look: Callable[..., Look], served: Served) -> None:
    force_a_cold_start(look().go(), served)


def test_a_fault_is_injected_seen_at_work_and_cleared(look: Callable[..., Look], served: Served) -> None:
    throttle_and_clear(look().go(), served)


@pytest.mark.parametrize(
    ("check", "method", "ending", "answer", "fails_at"),
    [
        (force_a_cold_start, "POST", "retire", {"retired": 1}, "tile"),
        (throttle_and_clear, "PUT", "fault", {"function": "Items", "kind": "throttle"}, "fault"),
        (throttle_and_clear, "DELETE", "fault", {"cleared": True}, "fault"),
    ],
    ids=["cold start", "throttle", "clear"],
)
def test_a_button_that_only_says_so_is_found_out(
    look: Callable[..., Look],
    served: Served,
    brief: None,  # noqa: ARG001
    check: Callable[[Page, Served], None],
    method: str,
    ending: str,
    answer: object,
    fails_at: str,
) -> None:
    """The planted mistake: the emulator answers as ever and does nothing."""
    page = look().go()

    def answer_only(route: Route) -> None:
        if route.request.method == method:
            route.fulfill(json=answer)
        else:
            route.continue_()

    page.route(f"**/functions/Items/{ending}", answer_only)
    with pytest.raises(AssertionError, match=fails_at):
        check(page, served)


def test_a_fault_ends_by_itself(look: Callable[..., Look]) -> None:
    page = look().go()
    inject(page, "Items", "Latency", seconds="1", amount="50")
    expect(row(page).locator(".fault")).to_be_hidden()


def test_failed_invocations_come_first_and_say_why(look: Callable[..., Look], served: Served) -> None:
    page = look().go()
    request(served, "/items/1")
    inject(page, "Items", "Crash")
    assert request(served, "/items/2") == 500
    request(served, "/careless")
    expect(page.locator("#failed .call")).to_have_count(2)
    expect(page.locator("#failed .call").first).to_contain_text("ValueError")
    expect(page.locator("#failed .call").last).to_contain_text("Runtime.ExitError")
    assert page.evaluate("failed.compareDocumentPosition(cold) & Node.DOCUMENT_POSITION_FOLLOWING")
    page.locator("#failed .call > button").first.click()
    expect(page.get_by_label("Log", exact=True)).to_contain_text("<b>never thought of that</b>")  # text, not markup


def test_a_function_is_invoked_with_an_edited_sample(look: Callable[..., Look]) -> None:
    page = look().go()
    row(page).get_by_role("button", name="Invoke").click()
    assert page.locator("#sample option").all_inner_texts() == ["GET /items/{id}", "PUT /items/{id}", "Empty event"]
    event = json.loads(page.locator("#event").input_value())
    assert event["routeKey"] == "GET /items/{id}"
    page.locator("#event").fill("{nonsense")
    expect(page.locator("#event")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("button", name="Invoke", exact=True)).to_be_disabled()
    event["pathParameters"]["id"] = "edited"
    page.locator("#event").fill(json.dumps(event))
    page.keyboard.press("Control+Enter")
    expect(page.locator("#answer-line")).to_contain_text("Succeeded")
    expect(page.locator("#answer-body")).to_contain_text('"id": "edited"')


def test_pool_and_breaker_are_those_of_the_metrics(look: Callable[..., Look], served: Served) -> None:
    page = look().go()
    expect(page.locator("#pools")).to_contain_text("No function has reported")
    client = served.client()
    client.invoke(FunctionName="Items", Payload=b"{}")
    expect(page.locator("#pools")).to_contain_text("3 of 12 open")
    expect(page.get_by_role("meter")).to_have_attribute("aria-valuenow", "25")
    client.invoke(FunctionName="Items", Payload=b'{"circuit": "open"}')
    expect(page.locator(".circuit.open")).to_contain_text("database open in 1 of 1 environment")
    client.invoke(FunctionName="Items", Payload=b'{"circuit": "closed"}')
    expect(page.locator(".circuit.open")).to_have_count(0)


def test_without_the_token_it_shows_and_does_nothing(look: Callable[..., Look], served: Served) -> None:
    page = look().go(token=None)
    expect(page.locator("#banner")).to_contain_text("Read-only")
    request(served, "/items/1")
    expect(figure(page, "invoked")).to_have_text("1")
    for name in ("Invoke", "Force a cold start", "Inject a fault"):
        expect(row(page).get_by_role("button", name=name)).to_be_disabled()


def test_the_token_leaves_the_address_and_outlives_a_reload(look: Callable[..., Look]) -> None:
    page = look().go()
    assert "token" not in page.url
    page.reload()
    expect(row(page).get_by_role("button", name="Inject a fault")).to_be_enabled()


def test_a_wrong_token_is_said_to_be_wrong(look: Callable[..., Look], served: Served) -> None:
    one = look()
    page = one.go(token="somebody-elses")
    request(served, "/items/1")
    row(page).get_by_role("button", name="Force a cold start").click()
    expect(page.locator("#banner")).to_contain_text("not this emulator's")
    expect(row(page).get_by_role("button", name="Inject a fault")).to_be_disabled()
    assert all("403" in line for line in one.said)  # the browser's own note of the refusal
    one.said.clear()


def test_everything_is_reached_and_left_by_keyboard(look: Callable[..., Look], served: Served) -> None:
    page = look().go()
    request(served, "/items/1")
    expect(page.locator("#cold .call")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to functions")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    opener = row(page).get_by_role("button", name="Invoke")
    expect(opener).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(opener).to_be_focused()
    page.locator("#cold .call > button").focus()
    page.keyboard.press("Space")
    expect(page.locator("#cold .fall li.init")).to_have_count(1)
    request(served, "/items/2")  # a list that somebody is in does not move
    expect(page.locator("#recent-count")).to_have_text("1 more when you leave the list")
    expect(page.locator("#cold .call > button")).to_be_focused()


def test_paused_it_stands_still_and_resumed_it_catches_up(look: Callable[..., Look], served: Served) -> None:
    page = look().go()
    page.get_by_role("button", name="Pause").click()
    request(served, "/items/1")
    page.evaluate(TOLD_TWICE)
    assert figure(page, "invoked").inner_text() == "0"
    page.get_by_role("button", name="Resume").click()
    expect(figure(page, "invoked")).to_have_text("1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off_or_faint(
    look: Callable[..., Look], served: Served, width: int, scheme: ColorScheme
) -> None:
    page = look(width, scheme).go()
    client = served.client()
    client.invoke(FunctionName="Items", Payload=b'{"circuit": "half_open"}')
    for path in ("/items/1", "/items/2", "/careless"):
        request(served, path)
    inject(page, "Careless", "Latency")
    expect(page.locator("#failed .call")).to_have_count(1)
    page.locator("#failed .call > button").click()
    expect(page.locator("#failed .fall li")).not_to_have_count(0)
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(FAINT) == []
    for button, heading in (("Invoke", "Invoke Items"), ("Inject a fault", "Inject a fault into Items")):
        row(page).get_by_role("button", name=button).click()
        expect(page.get_by_role("dialog", name=heading)).to_be_visible()
        assert page.evaluate(OUTSIDE) == []
        page.keyboard.press("Escape")


def test_landmarks_headings_and_names_are_there(look: Callable[..., Look], served: Served) -> None:
    page = look(still=True).go()
    request(served, "/items/1")
    expect(row(page).locator(".tile")).to_have_count(1)
    assert page.locator("h1").all_inner_texts() == ["Warmfront"]
    assert page.get_by_role("heading", level=2).count() >= 4
    for landmark in ("banner", "main", "contentinfo"):
        expect(page.locator(f"role={landmark}")).to_have_count(1)
    nameless = "[...document.querySelectorAll('button, select, input, textarea, svg[role=img]')]"
    assert (
        page.evaluate(
            f"{nameless}.filter((n) => !(n.ariaLabel || n.textContent.trim() || n.labels?.length)).map((n) => n.outerHTML)"
        )
        == []
    )
    moving = "document.getAnimations().filter((a) => a.playState === 'running').length"
    assert page.evaluate(moving) == 0


def test_it_says_when_the_emulator_is_gone_and_does_not_keep_it(look: Callable[..., Look], served: Served) -> None:
    one = look()
    page = one.go()
    assert served.stop() == 0
    expect(page.locator("#link")).to_contain_text("Emulator gone")
    one.said.clear()  # the browser's own note of the lost connection
    assert not [line for line in served.lines if "Traceback" in line or "Exception" in line or "Cancel" in line]
