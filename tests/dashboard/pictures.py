"""``python -m tests.dashboard.pictures [DIRECTORY]``: take the pictures that the pages show.

Three members with a small shop in them, looked at in the system's browser; docs/img by default.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from playwright.sync_api import Browser, expect

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import running_cluster
from tests.dashboard.browser import ROOT, Tab, headless, tab_of
from tests.dashboard.contents import wait_in_line

IMAGES = ROOT / "docs" / "img"
SCREEN = {"width": 1280, "height": 860}
PHONE = {"width": 360, "height": 760}
ORDERS_EVERY_S = 0.02
SERVICES = {"billing": 6, "ingest": 9, "mailer": 2, "search": 4}
CHART_MS = 25_000
"""How long the charts of the Overview are given to fill."""


def take(directory: Path, chart_ms: int = CHART_MS) -> None:
    """Take all of them.

    Args:
        directory: Where they go.
        chart_ms: How much of the past its charts show, in milliseconds.
    """
    with (
        running_cluster() as cluster,
        Client(*cluster.urls) as client,
        headless() as browser,
        _shop(client) as past,
        _orders(cluster.urls),
    ):
        url = cluster.urls[0]
        with _looking(browser, url, "dark") as tab:
            tab.open()
            tab.page.wait_for_timeout(chart_ms)
            _keep(tab, directory, "overview-dark")
            tab.go("services")
            tab.shows("billing", "search")
            _keep(tab, directory, "services-dark")
            tab.go("topics", "shop.orders")
            tab.shows('"order"')
            _keep(tab, directory, "topic-dark")
        with _looking(browser, url, "light") as tab:
            tab.open("locks")
            tab.shows("ci-runner-7", "release-bot")
            _keep(tab, directory, "locks-light")
            tab.open("keys", "key", "config/billing/limits", query=f"?rev={past}")
            tab.shows("You are viewing the past")
            tab.page.get_by_role("button", name="Compare").nth(1).click()
            expect(tab.fact("diff")).to_be_visible()
            _keep(tab, directory, "keys-past-light")
        with _looking(browser, url, "light", viewport=PHONE, device_scale_factor=2) as tab:
            tab.open("elections")
            tab.shows("scheduler")
            _keep(tab, directory, "phone-light")


@contextmanager
def _looking(browser: Browser, url: str, theme: str, **options: object) -> Iterator[Tab]:
    options.setdefault("viewport", SCREEN)
    with tab_of(browser, url, color_scheme=theme, **options) as tab:
        yield tab


def _keep(tab: Tab, directory: Path, name: str) -> None:
    expect(tab.page.locator("[aria-busy='true']")).to_have_count(0)
    tab.page.evaluate("document.fonts.ready")
    tab.page.screenshot(path=directory / f"dashboard-{name}.png")


@contextmanager
def _shop(client: Client) -> Iterator[int]:
    """Fill a cluster; gives a revision worth going back to."""
    with ExitStack() as stack:
        past = 0
        for number, limit in enumerate((120, 200, 350, 300)):
            value = json.dumps({"max_inflight": limit, "retry": "2s"}, indent=1)
            written = client.kv.put("config/billing/limits", value.encode()).revision
            past = written if number == 2 else past
            for shards in range(300 + 150 * number):
                client.kv.put("config/search/shards", str(shards).encode())
        client.kv.put("config/billing/currency", b"EUR")
        for service, instances in SERVICES.items():
            for number in range(instances):
                made = stack.enter_context(
                    client.services.register(
                        service,
                        instance=f"{service}-{number}",
                        address=f"10.0.3.{number + 10}",
                        port=8080,
                        zone="ab"[number % 2],
                        version="4.2.0",
                        tags=["http"],
                    )
                )
                if (service, number) == ("mailer", 1):
                    made.drain()
                if (service, number) == ("search", 3):
                    made.maintenance("disk is replaced")
        for name, owner, waiting in (
            ("deploy/prod", "ci-runner-7", ("ci-runner-2", "ci-runner-9", "release-bot")),
            ("db/migrate", "migrator-0", ("migrator-1",)),
            ("cron/nightly-report", "scheduler-1", ()),
        ):
            stack.enter_context(client.locks.lock(name, owner=owner, reason="release 4.2"))
            for one in waiting:
                wait_in_line(client, name, one)
        for election in ("scheduler", "invoices"):
            leading = client.elections.lead(election, value=b"10.0.3.11:8080", owner="host-1")
            stack.enter_context(leading)
        yield past


@contextmanager
def _orders(urls: list[str]) -> Iterator[None]:
    """Have orders come in until the end of the block."""
    is_over = Event()

    def come() -> None:
        with Client(*urls) as client:
            number = 0
            while not is_over.wait(ORDERS_EVERY_S):
                number += 1
                order = json.dumps({"order": number, "items": 1 + number % 5})
                client.topics.publish("shop.orders", order.encode())
                client.kv.get("config/billing/limits")

    thread = Thread(target=come)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
