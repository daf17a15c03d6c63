"""What the dashboard tells when members die, and how it goes on."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import running, running_cluster
from tests.dashboard.browser import tab_of

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]


def test_a_killed_leader_is_seen_and_survived(browser: Browser) -> None:
    """The page of a killed leader goes on through another member and shows who leads then."""
    with running_cluster() as cluster:
        leader = cluster.leader()
        others = [member.name for member in cluster.members if member is not leader]
        with tab_of(browser, leader.url) as tab:
            tab.open()
            row = tab.page.locator(f'[data-member="{leader.name}"]')
            expect(row).to_have_attribute("data-role", "leader")
            expect(tab.page.locator("html")).to_have_attribute("data-complete", "true")
            leader.kill()
            expect(tab.fact("member")).to_have_text(re.compile("|".join(others)))
            tab.is_live()
            expect(row).to_have_attribute("data-reached", "false")
            leads = tab.page.locator('[data-role="leader"][data-reached="true"]')
            expect(leads).to_have_attribute("data-member", re.compile("|".join(others)))
            tab.shows("2 of 3 members reached, quorum 2; none may fail without an outage.")
            with Client(*(one.url for one in cluster.members if one is not leader)) as client:
                client.kv.put("afterwards", b"1")
            tab.shows("afterwards")
            tab.go("locks")
            tab.shows("No lock is held")
            leader.start()
            tab.go("overview")
            expect(row).to_have_attribute("data-reached", "true")


def test_a_lagging_page_is_told_of_a_new_leader_at_once(browser: Browser) -> None:
    """At a follower, the Overview shows the new leader when the old one dies."""
    with running_cluster() as cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]
        with tab_of(browser, follower.url) as tab:
            tab.open()
            before = tab.fact("leader")
            expect(before).to_have_text(leader.name)
            leader.kill()
            expect(before).not_to_have_text(re.compile(f"none|{leader.name}"))
            tab.shows("leads in term")


def test_an_outage_keeps_what_was_known(browser: Browser) -> None:
    """Without any member the page says so and keeps what it knew; then it goes on by itself."""
    with running() as server:
        with Client(server.url) as client, tab_of(browser, server.url) as tab:
            client.topics.publish("before", b"1")
            tab.open("topics")
            tab.shows("before")
            server.kill()
            state = tab.page.locator(".state")
            expect(state).to_have_attribute("data-state", "disconnected")
            expect(tab.page.locator("header").first).to_contain_text("last update")
            tab.shows("before")
            server.start()
            tab.is_live()
            client.topics.publish("after", b"1")
            tab.shows("after", "before")
