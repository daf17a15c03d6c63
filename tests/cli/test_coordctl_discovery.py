"""coordctl discovery against a real coordinator."""

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest

from coordinator_sdk.discovery import split_url
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.sync import Client
from coordinator_sdk.testing import CoordinatorProcess, running
from tests.cli.ctl import Ctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
def ctl(server: CoordinatorProcess) -> Iterator[Ctl]:
    made = Ctl(f"127.0.0.1:{server.port}")
    yield made
    made.end()


def test_a_token_is_made_and_read(ctl: Ctl, server: CoordinatorProcess) -> None:
    """`discovery new` prints a URL; `discovery status` tells who has come and who is awaited."""
    url = ctl.ok("discovery", "new", "--size", "2").strip()
    assert re.fullmatch(rf"{server.url}/v1/discovery/[0-9a-f]{{32}}", url)
    assert ctl.ok("discovery", "status", url).startswith("0 of 2 have come, 2 awaited; expires in")
    with Client(server.url) as client:
        client.discovery.register(url, 0xA1, "a", ["http://10.0.0.5:2380"])
        found = client.discovery.register(url, 0xA2, "b", ["http://10.0.0.6:2380"])
        assert found == client.discovery.get(url)
    summary, titles, *rows = ctl.ok("discovery", "status", url.rpartition("/")[2]).splitlines()
    assert summary.startswith("2 of 2 have come, complete; expires in ")
    assert titles.split() == ["MEMBER", "ID", "PEER", "URLS", "CAME"]
    assert [row.split()[:3] for row in rows] == [
        ["a", "00000000000000a1", "http://10.0.0.5:2380"],
        ["b", "00000000000000a2", "http://10.0.0.6:2380"],
    ]
    shown = json.loads(ctl.ok("discovery", "status", url, "-w", "json"))
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert shown == json.load(answer)


def test_the_url_alone_is_enough(ctl: Ctl, server: CoordinatorProcess) -> None:
    """`discovery status` asks the coordinator that the URL names, in the URL's namespace."""
    elsewhere = Ctl("127.0.0.1:1")
    url = ctl.ok("discovery", "new", "--namespace", "blue").strip()
    assert url.endswith("?namespace=blue")
    assert elsewhere.ok("discovery", "status", url).startswith("0 of 3")


def test_what_is_wrong_is_named(ctl: Ctl) -> None:
    """A wrong size, a wrong URL and an unknown token each fail with one line that says why."""
    for args, text in (
        (("new", "--size", "10"), "size: from 1 to 9 members"),
        (("status", "http://127.0.0.1:2379/v2/x"), "is not written as http://HOST:PORT/v1/disc"),
        (("status", "0" * 32), "there is no discovery token"),
        (("status",), "discovery status takes the URL of a token"),
    ):
        done = ctl.run("discovery", *args)
        assert done.returncode != 0
        assert text in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["/v1/discovery/t", "http://h:1/v1/discovery/", "http://h:1/t"])
def test_wrong_urls_are_refused(url: str) -> None:
    """What is no URL of a token is refused before anything is sent."""
    with pytest.raises(InvalidRequest):
        split_url(url)
