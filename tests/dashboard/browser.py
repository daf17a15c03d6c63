"""A headless browser, and tabs in it that forgive nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
WEB = ROOT / "dashboards" / "web"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
REQUIRED = "COORDINATOR_REQUIRE_BROWSER"
"""Set where the browser's tests must not be skipped."""
PATIENCE_MS = 15_000
NOISE = ("WebSocket connection to", "net::ERR_CONNECTION_")
"""What the browser itself says when a member is gone."""

expect.set_options(timeout=PATIENCE_MS)


def needed(what: str) -> None:
    """Skip because something is missing, loudly; fail where that is not allowed."""
    text = f"NO BROWSER PASS: {what}; the dashboard is UNTESTED"
    if os.environ.get(REQUIRED):
        pytest.fail(text)
    pytest.skip(text)


def headless_program() -> str:
    """Find the browser of the system; skip the test if there is none, or no dashboard."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        needed(f"none of {', '.join(PROGRAMS)} is installed (`make system-deps`)")
    if not (WEB / "dist" / "index.html").is_file():
        needed("dashboards/web/dist is not built (`make dashboard`)")
    assert program is not None
    return program


@contextmanager
def headless() -> Iterator[Browser]:
    """Run the browser that the system has."""
    program = headless_program()
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One tab.

    Attributes:
        page: Playwright's page.
        complaints: What has gone wrong in it: errors, refused scripts, dialogs.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        is_noise = any(words in message.text for words in NOISE)
        if message.type == "error" and not is_noise:
            self.complaints.append(message.text)

    def open(
        self, panel: str = "overview", *parts: str, query: str = "", filters: str = ""
    ) -> None:
        """Open a page and wait for the connection."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{query}{_fragment(panel, *parts)}{filters}")
        self.is_live()

    def go(self, panel: str, *parts: str, filters: str = "") -> None:
        """Go to another page, as a link does."""
        self.page.evaluate("(to) => { location.hash = to; }", _fragment(panel, *parts) + filters)
        expect(self.page.locator(f"main[data-panel='{panel}']")).to_be_visible()

    def is_live(self) -> None:
        """Wait until it is connected."""
        expect(self.page.locator(".state")).to_have_attribute("data-state", "live")

    def shows(self, *texts: str | re.Pattern[str]) -> None:
        """Wait until the page's content holds all of some texts."""
        for text in texts:
            expect(self.content).to_contain_text(text)

    def lacks(self, *texts: str) -> None:
        """Wait until the page's content holds none of some texts."""
        for text in texts:
            expect(self.content).not_to_contain_text(text)

    @property
    def content(self) -> Locator:
        """What is below the top bar."""
        return self.page.locator("main")

    def fact(self, name: str) -> Locator:
        """Find a figure by its name."""
        return self.page.locator(f'[data-fact="{name}"]').first

    def violations(self) -> list[str]:
        """Let axe-core judge what is shown."""
        if not self.page.evaluate("Boolean(window.axe)"):
            source = (WEB / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
            self.page.evaluate(source)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]


def _fragment(*parts: str) -> str:
    return "#/" + "/".join(quote(part, safe="") for part in parts)


@contextmanager
def tab_of(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """Open a tab of its own session; at the end nothing in it may have gone wrong."""
    options.setdefault("viewport", {"width": 1320, "height": 900})
    context = browser.new_context(**options)
    made = Tab(context.new_page(), url)
    try:
        yield made
    finally:
        context.close()
    assert not made.complaints, made.complaints
