"""At a past revision every page shows what the SDK reads there."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from coordinator_sdk.sync import Client
from tests.dashboard.browser import Tab
from tests.dashboard.contents import Contents

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

LIVE_ONLY = ("sessions", "watchers", "metrics", "access", "operations")


def test_pages_show_the_past_as_the_sdk_reads_it(
    tab: Tab, client: Client, contents: Contents
) -> None:
    """Services, locks, elections, topics and keys are those of the revision, not those of now."""
    then = contents.revision
    client.kv.put("config/billing", b'{"limit": 999}')
    client.kv.put("config/new", b"1")
    client.topics.publish("orders.created", b'{"id": "later"}')
    client.topics.publish("brand.new", b"1")
    with (
        client.services.register("newcomer", address="10.9.9.9"),
        client.elections.lead("late", value=b"x"),
        client.locks.lock("late", owner="x"),
    ):
        tab.open("overview", query=f"?rev={then}")
        tab.shows(f"at revision {then}")
        expect(tab.page.get_by_role("slider", name="Revision")).to_have_value(str(then))
        counted = client.kv.range(prefix=b"", revision=then, count_only=True).count
        expect(tab.fact("keys")).to_have_text(str(counted))
        expect(tab.fact("locks")).to_have_text(str(len(client.locks.list(revision=then))))
        topics = client.topics.list(revision=then)
        expect(tab.fact("topics")).to_have_text(str(len(topics)))

        tab.go("services")
        tab.shows("orders")
        tab.lacks("newcomer")
        tab.go("services", "orders")
        for one in client.services.discover("orders", statuses=["*"], revision=then):
            tab.shows(one.instance, f"{one.address}:{one.port}")
        tab.go("locks")
        tab.shows("nightly", "second")
        tab.lacks("late")
        tab.go("elections")
        leader = client.elections.get("scheduler", revision=then).leader
        assert leader is not None
        tab.shows("scheduler", f"{leader.token:,}", "host-1")
        tab.lacks("late")
        tab.go("topics")
        tab.shows("orders.created", f"1 – {topics[0].last_sequence}")
        tab.lacks("brand.new")
        tab.go("topics", "orders.created")
        tab.shows('{"id": 4}')
        tab.lacks("later")
        tab.go("keys", "key", "config/billing")
        expect(tab.fact("value")).to_contain_text("300")
        tab.go("keys", "key", "config/new")
        tab.shows("There is no such key at revision")


def test_pages_that_know_no_past_say_so(tab: Tab, contents: Contents) -> None:
    """Pages of what is not kept say that they show the present, and change nothing meanwhile."""
    tab.open(query=f"?rev={contents.revision}")
    for panel in LIVE_ONLY:
        tab.go(panel)
        tab.shows("known for the present only")
        expect(tab.content.locator("h1")).to_be_visible()
        expect(tab.content.locator("button.danger")).to_have_count(0)


def test_the_slider_goes_by_keyboard(tab: Tab, client: Client, contents: Contents) -> None:
    """Arrow keys and brackets step through revisions; the address keeps the place."""
    head = client.kv.put("slider", b"1").revision
    tab.open("keys")
    expect(tab.fact("revision")).to_have_text(f"{head:,}")
    tab.page.get_by_role("slider", name="Revision").focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.shows("You are viewing the past")
    assert f"rev={head - 1}" in tab.page.url
    tab.page.keyboard.press("[")
    expect(tab.content.locator(".banner strong")).to_have_text(f"{head - 2:,}")
    tab.page.get_by_role("button", name="Back to live").click()
    tab.lacks("You are viewing the past")
    assert "rev=" not in tab.page.url


def test_brackets_go_from_change_to_change_of_a_key(tab: Tab, client: Client) -> None:
    """While a key is shown the slider marks its changes, and brackets stop at each of them."""
    changes = [client.kv.put("stepped", text).revision for text in (b"1", b"2", b"3")]
    client.kv.put("stepped/behind", b"1")
    tab.open("keys", "key", "stepped")
    expect(tab.content.locator(".scale i")).to_have_count(len(changes))
    for revision, value in zip(reversed(changes), "321", strict=True):
        tab.page.keyboard.press("[")
        expect(tab.content.locator(".banner strong")).to_have_text(f"{revision:,}")
        expect(tab.fact("value")).to_have_text(value)
    tab.page.keyboard.press("[")
    tab.page.keyboard.press("]")
    expect(tab.content.locator(".banner strong")).to_have_text(f"{changes[1]:,}")


def test_a_time_is_a_revision(tab: Tab, client: Client, contents: Contents) -> None:
    """A time that is chosen leads to the newest revision of then; one before all says so."""
    tab.open("keys")
    field = tab.page.get_by_label("Revision at a time")
    field.fill("2001-01-01T00:00:00")
    tab.shows("The history does not reach back so far")
    second = "new Date(Date.now() + 5000 - new Date().getTimezoneOffset() * 60000)"
    field.fill(tab.page.evaluate(f"{second}.toISOString().slice(0, 19)"))
    tab.lacks("does not reach back", "You are viewing the past")


def test_a_former_value_is_compared_and_restored(tab: Tab, client: Client) -> None:
    """The history of a key tells deletions too; an old value is compared and written again."""
    first = client.kv.put("restored", b'{"a": 1, "b": 2}').revision
    client.kv.delete("restored")
    last = client.kv.put("restored", b'{"a": 1, "b": 3}').revision
    tab.open("keys", "key", "restored")
    tab.shows("deleted", "written")
    old = tab.page.locator(f'[data-revision="{first}"]')
    old.get_by_role("button", name="Compare").click()
    diff = tab.fact("diff")
    expect(diff).to_contain_text('"b": 2')
    expect(diff).to_contain_text('"b": 3')
    expect(tab.content).to_contain_text(f"− revision {first}")
    old.get_by_role("button", name="Restore").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Write").click()
    expect(tab.fact("mod-revision")).not_to_have_text(f"{last:,}")
    assert client.kv.range("restored").kvs[0].value == b'{"a": 1, "b": 2}'


def test_an_edit_overwrites_nobody_unseen(tab: Tab, client: Client) -> None:
    """A value that somebody else has changed meanwhile is not written over."""
    client.kv.put("contested", b"first")
    tab.open("keys", "key", "contested")
    tab.page.get_by_role("button", name="Edit…").click()
    dialog = tab.page.get_by_role("dialog")
    dialog.get_by_label("Value").fill("mine")
    client.kv.put("contested", b"theirs")
    dialog.get_by_role("button", name="Write").click()
    expect(dialog).to_contain_text("Somebody else has changed the key")
    assert client.kv.range("contested").kvs[0].value == b"theirs"
