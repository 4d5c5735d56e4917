"""A headless Chromium, and an emulator to look at."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.emulator.serving import TOKEN, Served, serve

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
ColorScheme = Literal["light", "dark"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(Path(__file__).parent / "template.yaml") as served:
        yield served


@dataclass
class Look:
    """One page, and whatever its console said."""

    page: Page
    served: Served
    said: list[str] = field(default_factory=list)

    def go(self, *, token: str | None = TOKEN) -> Page:
        self.page.goto(f"{self.served.url}/_warmfront/{'#token=' + token if token else ''}")
        self.page.get_by_text("Live", exact=True).wait_for()
        self.page.locator('[data-function="Items"]').wait_for()
        return self.page


@pytest.fixture
def look(browser: Browser, served: Served) -> Iterator[Callable[..., Look]]:
    """Opens the dashboard in a browser context of its own; at the end no console may have said anything."""
    looks = []
    contexts = []

    def open_one(width: int = 1280, scheme: ColorScheme = "light", *, still: bool = False) -> Look:
        motion: str = "reduce" if still else "no-preference"
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion=motion,  # type: ignore[arg-type]
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        one = Look(context.new_page(), served)
        one.page.on("console", lambda message: one.said.append(message.text))
        one.page.on("pageerror", lambda error: one.said.append(str(error)))
        looks.append(one)
        return one

    yield open_one
    said = [line for one in looks for line in one.said]
    for context in contexts:
        context.close()
    assert said == []
