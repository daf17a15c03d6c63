"""Discovery as clients use it: the token's URL, registration, what is refused, past states."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coordinator.domains.discovery import model
from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol.discovery import DiscoveryGet, DiscoveryNew, DiscoveryRegister

NS = "default"
MEMBER = "00000000000000a1"
BODY = {"name": "a", "peer_urls": ["http://10.0.0.5:2380"]}


async def test_curl_gets_a_url(small):
    """A GET of /v1/discovery/new answers with the token's URL alone, as plain text."""
    async with small.http() as http:
        answer = await http.get("/v1/discovery/new?size=3")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert re.fullmatch(r"http://small/v1/discovery/[0-9a-f]{32}", answer.text)
        shown = (await http.get(answer.text)).json()
        assert (shown["size"], shown["members"], shown["complete"]) == (3, [], False)
        assert shown["expires_ms"] - shown["created_ms"] == 86_400_000
        assert (await http.get("/v1/discovery/new")).text != answer.text


async def test_members_come_by_http(small):
    """Members register under the token's URL; the answer and a GET tell who has come, in order."""
    async with small.http() as http:
        url = (await http.get("/v1/discovery/new?size=2")).text
        first = await http.put(f"{url}/{MEMBER}", json=BODY)
        assert (first.status_code, first.json()["complete"]) == (200, False)
        body = {"name": "b", "peer_urls": ["http://10.0.0.6:2380/"]}
        assert (await http.put(f"{url}/00000000000000a0", json=body)).json()["complete"]
        shown = (await http.get(url)).json()
        assert [(one["name"], one["member"], one["peer_urls"]) for one in shown["members"]] == [
            ("a", MEMBER, ["http://10.0.0.5:2380"]),
            ("b", "00000000000000a0", ["http://10.0.0.6:2380"]),
        ]
        body = {"name": "c", "peer_urls": ["http://10.0.0.7:2380"]}
        late = await http.put(f"{url}/00000000000000a2", json=body)
        assert late.status_code == 409
        assert "the cluster of this token is complete" in late.json()["error"]["message"]


async def test_a_namespace_is_part_of_the_url(small):
    """The URL of a token in another namespace says so."""
    async with small.http() as http:
        url = (await http.get("/v1/discovery/new?namespace=blue%2Fgreen")).text
        assert url.endswith("?namespace=blue%2Fgreen")
        assert (await http.get(url)).json()["namespace"] == "blue/green"
        assert (await http.get(url.partition("?")[0])).status_code == 404


async def test_pages_of_other_sites_make_no_tokens(small):
    """A token's URL is refused to a page of another site, which a browser tells of."""
    async with small.http() as http:
        for site, status in (("cross-site", 403), ("same-site", 403), ("none", 200)):
            answer = await http.get("/v1/discovery/new", headers={"sec-fetch-site": site})
            assert answer.status_code == status


@pytest.mark.parametrize("size", ["0", "10", "-1", "x", "2.5", "9223372036854775808"])
async def test_a_wrong_size_is_refused(small, size: str):
    """A size that is no number from 1 to 9 is refused by name, whichever way it comes."""
    async with small.http() as http:
        answer = await http.get(f"/v1/discovery/new?size={size}")
        assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, "size")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a,b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"peer_urls": []}, "peer_urls"),
        ({"peer_urls": ["http://10.0.0.5"]}, "peer_urls[0]"),
        ({"peer_urls": ["ftp://10.0.0.5:1"]}, "peer_urls[0]"),
        ({"peer_urls": ["http://10.0.0.5:1/x"]}, "peer_urls[0]"),
        ({"peer_urls": ["http://h:1", "http://H:1/"]}, "peer_urls[1]"),
        ({"peer_urls": [f"http://h:{port}" for port in range(1, 10)]}, "peer_urls"),
        ({"more": 1}, "more"),
    ],
)
async def test_a_wrong_registration_is_refused(small, change: dict[str, Any], field: str):
    """A registration with a wrong name or URL is refused by the name of the field."""
    async with small.http() as http:
        url = (await http.get("/v1/discovery/new")).text
        answer = await http.put(f"{url}/{MEMBER}", json=BODY | change)
        assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, field)
        assert (await http.get(url)).json()["members"] == []


@pytest.mark.parametrize("token", ["new1", "F" * 32, "0" * 31, "0" * 33, "%00"])
async def test_a_wrong_token_is_refused(small, token: str):
    """What is no token is refused as such; a token that nobody made is not found."""
    async with small.http() as http:
        answer = await http.get(f"/v1/discovery/{token}")
        assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, "token")
        assert (await http.get(f"/v1/discovery/{'0' * 32}")).status_code == 404
        for member in ("x", "0" * 16):
            answer = await http.put(f"/v1/discovery/{'0' * 32}/{member}", json=BODY)
            assert answer.status_code == 400
            assert answer.json()["error"]["details"]["field"] == "member"


async def test_an_expired_token_is_gone(small):
    """A token that has ended is answered with 410 for a day, then with 404."""
    async with small.http() as http:
        url = (await http.get("/v1/discovery/new")).text
        timer = model.timer_key(NS, url.rpartition("/")[2])
        small.node.run_timer(timer)
        answer = await http.get(url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
        assert (await http.put(f"{url}/{MEMBER}", json=BODY)).status_code == 410
        small.node.run_timer(timer)
        assert (await http.get(url)).status_code == 404


async def test_a_retry_gives_the_same_token(small):
    """A client that asks again with the same request gets the token it was given before."""
    connection = small.connect()
    first = connection.send_request(DiscoveryNew(NS, 3), 7)
    token = connection.answers[first][1].token
    connection.answers.clear()
    again = connection.send_request(DiscoveryNew(NS, 3), 7)
    assert connection.answers[again][1].token == token
    with pytest.raises(InvalidRequest):
        connection.ask(DiscoveryNew(NS, 3, "guess me"))


async def test_the_past_can_be_read(small):
    """A token is read as it was at an earlier revision."""
    connection = small.connect()
    token = connection.ask(DiscoveryNew(NS, 2)).token
    connection.ask(DiscoveryRegister(NS, token, 1, "a", ["http://10.0.0.5:2380"]))
    revision = small.node.revision
    connection.ask(DiscoveryRegister(NS, token, 2, "b", ["http://10.0.0.6:2380"]))
    assert connection.ask(DiscoveryGet(NS, token)).complete
    async with small.http() as http:
        shown = (await http.get(f"/v1/discovery/{token}?revision={revision}")).json()
    assert [one["name"] for one in shown["members"]] == ["a"]
