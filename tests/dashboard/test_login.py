"""Logins and roles, as people meet them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from coordinator_sdk import Password
from coordinator_sdk.sync import Client
from coordinator_sdk.testing import ClusterProcess, running, running_cluster
from tests.dashboard.browser import Tab, tab_of

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]

ROOT_PASSWORD = "correct horse battery staple"
VIEWER_PASSWORD = "only looking around"
VIEWS = ("lock:read", "service:read", "election:read", "topic:subscribe", "cluster:read")


@pytest.fixture(scope="module")
def guarded() -> Iterator[ClusterProcess]:
    """Three members with authentication on: root, and a viewer."""
    with running_cluster() as cluster:
        with Client(*cluster.urls) as client:
            client.auth.init(ROOT_PASSWORD)
        with Client(*cluster.urls, auth=Password("root", ROOT_PASSWORD)) as root:
            root.auth.add_role("viewing")
            for action in VIEWS:
                root.auth.allow("viewing", action)
            root.auth.allow_keys("viewing", "read", prefix="config/")
            root.kv.put("config/limit", b"100")
            root.kv.put("hidden/limit", b"200")
            root.auth.add_user("viewer", VIEWER_PASSWORD)
            root.auth.grant_role("viewer", "viewing")
            with (
                root.locks.lock("nightly", owner="deployer"),
                root.services.register("orders", instance="one", address="10.0.0.1"),
                root.elections.lead("scheduler"),
            ):
                yield cluster


@pytest.fixture
def tab(browser: Browser, guarded: ClusterProcess) -> Iterator[Tab]:
    """A tab of somebody who has not logged in."""
    with tab_of(browser, guarded.urls[0]) as made:
        yield made


def log_in(tab: Tab, user: str, password: str) -> None:
    """Fill in the form."""
    dialog = tab.page.get_by_role("dialog", name="Log in")
    dialog.get_by_label("User").fill(user)
    dialog.get_by_label("Password").fill(password)
    dialog.get_by_role("button", name="Log in").click()


def test_nothing_shows_before_the_login(tab: Tab) -> None:
    """Who has not logged in is asked to; a wrong password says so and shows nothing."""
    tab.page.goto(f"{tab.url}/#/locks")
    expect(tab.page.get_by_role("dialog", name="Log in")).to_be_visible()
    tab.lacks("nightly")
    log_in(tab, "viewer", "wrong")
    expect(tab.page.get_by_role("alert")).to_contain_text("authentication failed")
    tab.lacks("nightly")
    tab.complaints.clear()  # the browser notes the status 401


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_login_is_for_everybody(browser: Browser, guarded: ClusterProcess, theme: str) -> None:
    """axe-core finds no violation in the login, nor in what somebody with few rights sees."""
    options = {"color_scheme": theme, "bypass_csp": True}
    with tab_of(browser, guarded.urls[0], **options) as tab:
        tab.page.goto(f"{tab.url}/#/keys")
        expect(tab.page.get_by_role("dialog", name="Log in")).to_be_visible()
        assert tab.violations() == []
        log_in(tab, "viewer", VIEWER_PASSWORD)
        tab.is_live()
        tab.shows("You may see these keys")
        assert tab.violations() == []
        tab.go("access")
        tab.shows("You are not allowed to see this")
        assert tab.violations() == []


def test_a_login_keeps_the_place_and_hides_its_token(tab: Tab) -> None:
    """The page asked for comes up after the login; scripts see no token; a new tab is logged in."""
    tab.page.goto(f"{tab.url}/#/locks")
    log_in(tab, "root", ROOT_PASSWORD)
    tab.is_live()
    tab.shows("nightly", "deployer")
    expect(tab.page.locator("nav")).to_contain_text("root")
    (cookie,) = tab.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"]) == ("coordinator_session", True)
    assert cookie["sameSite"] == "Strict"
    assert tab.page.evaluate("document.cookie") == ""
    kept = "JSON.stringify([Object.values(localStorage), Object.values(sessionStorage)])"
    assert cookie["value"] not in tab.page.evaluate(kept)
    tab.page.reload()
    tab.is_live()
    tab.shows("nightly")
    tab.page.get_by_role("button", name="Log out").click()
    expect(tab.page.get_by_role("dialog", name="Log in")).to_be_visible()


def test_a_viewer_sees_no_dead_buttons(tab: Tab) -> None:
    """Who may only look is shown what there is, and offered nothing that would be refused."""
    tab.page.goto(f"{tab.url}/#/locks")
    log_in(tab, "viewer", VIEWER_PASSWORD)
    tab.is_live()
    tab.shows("nightly", "deployer")
    expect(tab.page.locator("nav")).to_contain_text("viewing")
    navigation = tab.page.get_by_role("navigation", name="Pages")
    expect(navigation.get_by_role("link", name="Access")).to_have_count(0)
    for panel, text in {
        "locks": "nightly",
        "services": "orders",
        "elections": "scheduler",
        "operations": "Members",
    }.items():
        tab.go(panel)
        tab.shows(text)
        expect(tab.content.locator("button.danger")).to_have_count(0)
    tab.go("services", "orders")
    tab.shows("10.0.0.1")
    expect(tab.content.get_by_role("button", name="Drain")).to_have_count(0)
    tab.go("access")
    tab.shows("You are not allowed to see this")


def test_a_viewer_sees_the_keys_that_are_allowed(tab: Tab) -> None:
    """Who may read some keys is led to them, and is offered no writing."""
    tab.page.goto(f"{tab.url}/#/keys")
    log_in(tab, "viewer", VIEWER_PASSWORD)
    tab.is_live()
    tab.content.get_by_role("link", name="config/…").click()
    tab.lacks("hidden")
    tab.content.get_by_role("link", name="limit").click()
    expect(tab.fact("value")).to_have_text("100")
    tab.shows("written")
    for name in ("New key…", "Edit…", "Delete…", "Restore…"):
        expect(tab.content.get_by_role("button", name=name)).to_have_count(0)


def test_a_right_that_is_taken_away_ends_what_it_showed(tab: Tab, guarded: ClusterProcess) -> None:
    """A page whose right is taken away says so instead of showing what is old."""
    with Client(*guarded.urls, auth=Password("root", ROOT_PASSWORD)) as root:
        root.auth.add_user("brief", VIEWER_PASSWORD)
        root.auth.grant_role("brief", "viewing")
        tab.page.goto(f"{tab.url}/#/services/orders")
        log_in(tab, "brief", VIEWER_PASSWORD)
        tab.is_live()
        tab.shows("10.0.0.1")
        root.auth.revoke_role("brief", "viewing")
        tab.shows("You are not allowed to see this")


def test_a_login_is_renewed_while_the_page_is_open(browser: Browser) -> None:
    """A page that stays open has its cookie renewed before it runs out, and goes on unasked."""
    with (
        running(options=["--auth-token", "jwt,ttl=6s"]) as server,
        tab_of(browser, server.url) as tab,
    ):
        with Client(server.url) as client:
            client.auth.init(ROOT_PASSWORD)
        tab.page.goto(f"{tab.url}/#/topics")
        log_in(tab, "root", ROOT_PASSWORD)
        tab.is_live()
        seen = {tab.page.context.cookies()[0]["value"]}
        for number in range(3):
            with tab.page.expect_response("**/v1/auth/renew") as renewed:
                pass
            assert renewed.value.status == 200
            seen.add(tab.page.context.cookies()[0]["value"])
            with Client(server.url, auth=Password("root", ROOT_PASSWORD)) as root:
                root.topics.publish(f"after.renewal.{number}", b"1")
            tab.shows(f"after.renewal.{number}")
            tab.is_live()
        assert len(seen) == 4
        expect(tab.page.get_by_role("dialog", name="Log in")).to_have_count(0)


def test_a_login_that_has_run_out_is_asked_for(browser: Browser) -> None:
    """Without renewal the password is asked for over the page, which then goes on in its place."""
    with (
        running(options=["--auth-token", "jwt,ttl=3s"]) as server,
        tab_of(browser, server.url) as tab,
    ):
        with Client(server.url) as client:
            client.topics.publish("kept", b"1")
            client.auth.init(ROOT_PASSWORD)
        tab.page.route("**/v1/auth/renew", lambda route: route.fulfill(status=401))
        tab.page.goto(f"{tab.url}/#/topics")
        log_in(tab, "root", ROOT_PASSWORD)
        tab.shows("kept")
        expect(tab.page.get_by_role("dialog", name="Log in")).to_be_visible()
        tab.page.unroute("**/v1/auth/renew")
        log_in(tab, "root", ROOT_PASSWORD)
        tab.is_live()
        tab.shows("kept")
        expect(tab.page.get_by_role("dialog", name="Log in")).to_have_count(0)
        tab.complaints.clear()  # the browser notes the status 401


def test_a_member_that_serves_everybody_says_so(browser: Browser) -> None:
    """With --insecure-open every page tells what that means, until authentication is on."""
    with (
        running(options=["--insecure-open"]) as server,
        tab_of(browser, server.url, bypass_csp=True) as tab,
    ):
        tab.open()
        banner = tab.page.get_by_role("region", name="Unguarded")
        expect(banner).to_be_visible()
        expect(tab.page.get_by_role("heading", level=1)).to_be_visible()  # The page comes later.
        assert tab.violations() == []
        expect(banner).to_contain_text("Everybody may do everything here")
        expect(banner).to_contain_text("coordctl auth init")
        banner.get_by_role("link", name="turn authentication on").click()
        tab.page.get_by_role("button", name="Turn on…").click()
        dialog = tab.page.get_by_role("dialog")
        dialog.get_by_label("Password for root").fill(ROOT_PASSWORD)
        dialog.get_by_role("button", name="Turn on").click()
        expect(banner).to_have_count(0)
        expect(tab.page.locator("nav")).to_contain_text("root")


def test_a_login_survives_its_member(browser: Browser, guarded: ClusterProcess) -> None:
    """When the member that gave the page is gone, the page goes on at another one, logged in."""
    member = guarded.members[2]
    with tab_of(browser, member.url) as tab:
        tab.page.goto(f"{tab.url}/#/locks")
        log_in(tab, "root", ROOT_PASSWORD)
        tab.is_live()
        expect(tab.page.locator("html")).to_have_attribute("data-complete", "true")
        member.kill()
        expect(tab.fact("member")).not_to_have_text(member.name)
        tab.is_live()
        tab.shows("nightly")
        member.start()
