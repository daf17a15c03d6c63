"""Addresses, their order, and the pauses between attempts."""

from __future__ import annotations

import pytest

from coordinator_sdk import Client, InvalidRequest, RetryPolicy
from coordinator_sdk._endpoints import Rotation, parse_endpoint


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
        ("http://db1", "http://db1:2379"),
        ("https://db1:444/", "https://db1:444"),
        ("db1:99", "http://db1:99"),
        (" wss://db1 ", "https://db1:2379"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_endpoints_are_read(given: str, wanted: str) -> None:
    """An endpoint is a URL or host and port; the port defaults to 2379."""
    assert parse_endpoint(given).url == wanted


@pytest.mark.parametrize(
    "given",
    ["", "ftp://db1", "http://", "http://db1:x", "http://db1/path", "http://db1?x=1", "http://:1"],
)
def test_other_things_are_no_endpoints(given: str) -> None:
    """What is no endpoint is refused with an example of one."""
    with pytest.raises(ValueError, match=r"looks like http://127\.0\.0\.1:2379"):
        parse_endpoint(given)


def test_credentials_do_not_belong_in_an_endpoint() -> None:
    """Credentials in a URL are refused without repeating them."""
    with pytest.raises(InvalidRequest) as caught:
        Client("http://user:hunter2@db1")
    assert "hunter2" not in str(caught.value)
    assert caught.value.details == {"field": "endpoint"}


def test_endpoints_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without endpoints those of COORDINATOR_ENDPOINTS are used, else the local one."""
    monkeypatch.delenv("COORDINATOR_ENDPOINTS", raising=False)
    assert repr(Client()) == "<Client 'http://127.0.0.1:2379' not connected>"
    monkeypatch.setenv("COORDINATOR_ENDPOINTS", "http://a:1, https://b:2,")
    assert repr(Client()) == "<Client 'http://a:1', 'https://b:2' not connected>"
    assert repr(Client("http://c:3")) == "<Client 'http://c:3' not connected>"


def test_endpoints_take_turns() -> None:
    """Endpoints are tried in order; the end of each round is told."""
    rotation = Rotation([parse_endpoint(f"http://db{number}") for number in (1, 2)])
    seen = []
    for _ in range(4):
        seen.append((rotation.current().host, rotation.advance()))
    assert seen == [("db1", False), ("db2", True), ("db1", False), ("db2", True)]


def test_what_the_cluster_tells_comes_last() -> None:
    """Endpoints learned from the cluster are tried after the given ones."""
    rotation = Rotation([parse_endpoint("http://db1")])
    rotation.learn(["http://db2:2379", "http://db1:2379", "nonsense://x", "https://db3"])
    assert [endpoint.url for endpoint in rotation.all] == ["http://db1:2379", "http://db2:2379"]
    assert rotation.current().host == "db1"


def test_the_endpoint_in_use_stays() -> None:
    """What the cluster does not tell of any more is forgotten, but not while it is in use."""
    rotation = Rotation([parse_endpoint("http://db1")])
    rotation.learn(["http://db2", "http://db3"])
    rotation.advance()
    rotation.learn(["http://db4"])
    assert rotation.current().host == "db2"
    assert [endpoint.host for endpoint in rotation.all] == ["db1", "db4", "db2"]
    rotation.advance()
    rotation.learn(["http://db4"])
    assert [endpoint.host for endpoint in rotation.all] == ["db1", "db4"]


def test_tls_is_never_given_up() -> None:
    """A client that was given https endpoints learns no others."""
    rotation = Rotation([parse_endpoint("https://db1")])
    rotation.learn(["http://db2", "https://db3"])
    assert [endpoint.host for endpoint in rotation.all] == ["db1", "db3"]


def test_pauses_grow_to_the_cap() -> None:
    """Pauses double from the base to the cap; jitter draws from zero to the pause."""
    plain = RetryPolicy(base=0.05, cap=5.0, jitter=False)
    pauses = [plain.pause(attempt, lambda: 0.5) for attempt in (1, 2, 3, 7, 8, 1000)]
    assert pauses == [0.05, 0.1, 0.2, 3.2, 5.0, 5.0]
    assert RetryPolicy().pause(8, lambda: 0.5) == 2.5


@pytest.mark.parametrize("arguments", [{"connect_timeout": 0}, {"timeout": -1}])
def test_numbers_are_checked(arguments: dict[str, float]) -> None:
    """Timeouts that are not positive are refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        Client(**arguments)  # type: ignore[arg-type]
    assert caught.value.details == {"field": next(iter(arguments))}
