"""Every page: for everybody to use, on every screen, with whatever names there are."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import ClusterProcess
from tests.dashboard.browser import WEB, Tab, tab_of
from tests.dashboard.contents import HOSTILE, Contents

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]

PANELS = sorted(folder.name for folder in (WEB / "src" / "panels").iterdir())
PLACES: list[tuple[str, ...]] = [
    *((panel,) for panel in PANELS),
    ("services", "orders"),
    ("keys", "key", "config/billing"),
    ("keys", "hex", "ff00"),
    ("topics", "orders.created"),
]
THEMES = ("light", "dark")


def settled(tab: Tab) -> None:
    """Wait until nothing on the page is still being read."""
    expect(tab.content.locator("h1")).to_be_visible()
    expect(tab.page.locator("[aria-busy='true']")).to_have_count(0)


@pytest.mark.parametrize("theme", THEMES)
def test_pages_are_for_everybody(
    browser: Browser, cluster: ClusterProcess, contents: Contents, theme: str
) -> None:
    """axe-core finds no violation on any page, in this theme."""
    found = {}
    with tab_of(browser, cluster.urls[0], color_scheme=theme, bypass_csp=True) as tab:
        tab.open()
        for place in PLACES:
            tab.go(*place)
            settled(tab)
            found["/".join(place)] = tab.violations()
        tab.open("locks", query=f"?rev={contents.revision}")
        settled(tab)
        found["the past"] = tab.violations()
        tab.open("locks")
        tab.page.get_by_role("button", name="Release…").first.click()
        found["a dialog"] = tab.violations()
        tab.page.keyboard.press("Escape")
        tab.page.keyboard.press("Control+k")
        expect(tab.page.get_by_role("combobox", name="Command")).to_be_visible()
        found["the palette"] = tab.violations()
        tab.page.keyboard.press("Escape")
        tab.page.keyboard.press("?")
        expect(tab.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
        found["the sheet of keys"] = tab.violations()
        tab.open("keys", "key", "config/billing")
        tab.content.get_by_role("button", name="Compare").first.click()
        expect(tab.fact("diff")).to_be_visible()
        found["a comparison"] = tab.violations()
        tab.content.get_by_role("button", name="Edit…").click()
        found["an edit"] = tab.violations()
        tab.page.keyboard.press("Escape")
        tab.page.set_viewport_size({"width": 360, "height": 780})
        tab.page.get_by_role("button", name="Menu").click()
        expect(tab.page.get_by_role("link", name="Locks")).to_be_visible()
        found["the menu of a phone"] = tab.violations()
    assert {place: faults for place, faults in found.items() if faults} == {}


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_pages_fit_the_screen(
    browser: Browser, cluster: ClusterProcess, contents: Contents, client: Client, width: int
) -> None:
    """Nothing sticks out to the side, not even a long name without spaces."""
    name = "n" * 120
    options = {"viewport": {"width": width, "height": 800}}
    with (
        client.locks.lock(name, owner=name),
        client.services.register(name, address=name, tags=["t" * 60]),
        tab_of(browser, cluster.urls[0], **options) as tab,
    ):
        client.kv.put(name, name.encode())
        client.topics.publish("x" * 100, b"1")
        wide = {}
        tab.open()
        for place in (*PLACES, ("services", name), ("keys", "key", name), ("topics", "x" * 100)):
            tab.go(*place)
            settled(tab)
            shown = tab.page.evaluate("document.documentElement.scrollWidth")
            if shown > width:
                wide["/".join(place)] = shown
        assert wide == {}


def test_a_tail_begins_with_what_is_kept(tab: Tab, client: Client) -> None:
    """The page of a topic shows its newest messages, then those that come, each of them once."""
    for number in range(3):
        client.topics.publish("tailed", f"early-{number}".encode())
    tab.open("topics", "tailed")
    tail = tab.fact("tail").get_by_role("listitem")
    expect(tail).to_have_count(3)
    client.topics.publish("tailed", b"late")
    expect(tail).to_have_count(4)
    expect(tail.first).to_contain_text("late")
    expect(tail.last).to_contain_text("early-0")


def test_hostile_names_are_only_text_everywhere(tab: Tab, client: Client) -> None:
    """Names with markup make no element and run nothing, on any page."""
    client.kv.put(HOSTILE, HOSTILE.encode())
    tab.open()
    for place in (
        *PLACES,
        ("services", HOSTILE),
        ("keys", "key", HOSTILE),
        ("topics", HOSTILE),
        ("access", "user", HOSTILE),
    ):
        tab.go(*place)
        settled(tab)
        assert tab.page.locator("main img, main script, main b").count() == 0
    tab.open("services", HOSTILE)
    tab.shows(HOSTILE)
    tab.complaints.clear()


def test_keys_lead_everywhere(tab: Tab) -> None:
    """`g` and a letter go to each page; the palette goes by name; `?` tells about both."""
    tab.open()
    letters = {}
    tab.page.keyboard.press("?")
    sheet = tab.page.get_by_role("dialog", name="Keyboard")
    for row in sheet.locator("dl div").all():
        keys = [key.inner_text() for key in row.locator("kbd").all()]
        if keys[0] == "g":
            letters[row.locator("dd").inner_text()] = keys[1]
    assert len(letters) == len(PANELS)
    tab.page.keyboard.press("Escape")
    for title, letter in letters.items():
        tab.page.keyboard.press("g")
        tab.page.keyboard.press(letter)
        current = tab.page.locator("nav [aria-current='page']")
        expect(current).to_have_text(title)
    tab.page.keyboard.press("Control+k")
    tab.page.keyboard.type("lock")
    tab.page.keyboard.press("Enter")
    expect(tab.content.locator("h1")).to_have_text("Locks")


def test_there_is_a_word_for_nothing(browser: Browser, cluster: ClusterProcess) -> None:
    """In an empty namespace every page says what is missing, and how to make one."""
    with tab_of(browser, cluster.urls[0]) as tab:
        tab.open(query="?namespace=nobody-is-here")
        for panel, words in {
            "services": "No instance is registered",
            "locks": "No lock is held",
            "elections": "No election has a leader",
            "topics": "There is no topic",
        }.items():
            tab.go(panel)
            tab.shows(words, "coordctl ")
