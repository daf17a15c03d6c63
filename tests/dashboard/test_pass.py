"""One quick pass through the dashboard: what `make test` looks at wherever there is a browser."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from playwright.sync_api import expect

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import ClusterProcess
from tests.dashboard.browser import WEB, Tab, needed
from tests.dashboard.contents import HOSTILE, Contents

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

OVERVIEW_BYTES_MAX = 120_000


def test_the_overview_tells_how_the_cluster_is(tab: Tab, cluster: ClusterProcess) -> None:
    """Members with their roles, the verdict, what is stored: all of it is there."""
    tab.open()
    tab.shows("3 of 3 members reached, quorum 2; 1 more may fail.", "Raft log")
    for member in cluster.members:
        expect(tab.page.locator(f'[data-member="{member.name}"]')).to_have_attribute(
            "data-reached", "true"
        )
    expect(tab.page.locator('[data-role="leader"]')).to_have_attribute(
        "data-member", cluster.leader().name
    )
    expect(tab.page.locator(".state")).to_have_text(re.compile("Live"))


def test_a_change_shows_by_itself(tab: Tab, client: Client) -> None:
    """A key, a lock and its queue show without loading the page again."""
    tab.open()
    written = client.kv.put("greeting", b"hello")
    tab.shows("greeting", "created, 5 bytes")
    expect(tab.fact("revision")).not_to_have_text("0")
    tab.go("locks")
    tab.shows("nightly", "deployer", "second", "Reason: release")
    with client.locks.lock("brief", owner="somebody") as lock:
        tab.shows("brief", "somebody", f"{lock.token:,}")
    tab.lacks("brief")
    tab.go("overview")
    tab.shows("greeting", "brief")
    assert written.revision > 0


def test_the_past_is_read_as_it_was(tab: Tab, client: Client, contents: Contents) -> None:
    """At a past revision the page shows what the SDK reads there, and nothing can be changed."""
    with client.locks.lock("later", owner="x"):
        tab.open("locks")
        tab.shows("later")
        expect(tab.page.get_by_role("button", name="Release…").first).to_be_visible()
        tab.open("locks", query=f"?rev={contents.revision}")
        tab.shows("You are viewing the past", "nightly", "second")
        tab.lacks("later", "Release…")
        tab.page.get_by_role("button", name="Back to live").click()
        tab.shows("later")


def test_hostile_names_are_only_text(tab: Tab) -> None:
    """Names with markup are shown as they are, and run nothing."""
    tab.open()
    for panel in ("overview", "locks", "services", "elections"):
        tab.go(panel)
        tab.shows(HOSTILE)
        assert tab.page.locator("main img").count() == 0


def test_looking_writes_nothing(tab: Tab, client: Client) -> None:
    """An open page takes no revision."""
    tab.open()
    before = client.kv.range("nothing").revision
    sample = tab.page.locator('[data-role="leader"]')
    for panel in ("locks", "keys", "services", "topics", "overview"):
        tab.go(panel)
        expect(tab.content.locator("h1")).to_be_visible()
    expect(sample).to_be_visible()
    assert client.kv.range("nothing").revision == before


def test_a_lock_is_released_by_force(tab: Tab, client: Client) -> None:
    """The dialog says what will happen, wants a reason and the name, and does it."""
    lock = client.locks.lock("stuck", owner="sleeper")
    lock.acquire()
    tab.open("locks", filters="?filter=stuck")
    tab.page.get_by_role("button", name="Release…").click()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog).to_contain_text("This takes the lock from sleeper")
    button = dialog.get_by_role("button", name="Release lock")
    expect(button).to_be_disabled()
    dialog.get_by_label("Why?").fill("it sleeps")
    expect(button).to_be_disabled()
    dialog.get_by_label("Type stuck to confirm").fill("stuck")
    button.click()
    tab.shows("No lock that is held fits")
    assert client.locks.get("stuck").holder is None


def test_the_overview_is_small() -> None:
    """HTML, scripts and styles that the Overview loads are at most 120 kB, compressed."""
    manifest = WEB / "dist" / ".vite" / "manifest.json"
    if not manifest.is_file():
        needed("dashboards/web/dist is not built (`make dashboard`)")
    chunks = json.loads(manifest.read_text(encoding="utf-8"))
    wanted, seen = ["index.html", "src/panels/overview/Page.svelte"], set()
    files = {"index.html"}
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        chunk = chunks[name]
        wanted += chunk.get("imports", [])
        files |= {chunk["file"], *chunk.get("css", [])}
    sizes = {file: len(gzip.compress((WEB / "dist" / file).read_bytes(), 6)) for file in files}
    assert 10_000 < sum(sizes.values()) <= OVERVIEW_BYTES_MAX, sizes
