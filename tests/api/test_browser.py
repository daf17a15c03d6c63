"""The boundary of browsers: the cookie of the dashboard, and pages of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from coordinator_sdk.protocol import auth
from tests.api.member import Answer
from tests.api.users import PASSWORD, Guarded, guarded

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """A member with authentication on."""
    async with guarded(tmp_path_factory.mktemp("pages")) as made:
        yield made


class Page:
    """A page in a browser that has logged in.

    Attributes:
        cookie: What the browser keeps.
    """

    def __init__(self, house: Guarded, origin: str = "") -> None:
        self.house = house
        self.host = f"127.0.0.1:{house.member.port}"
        self.origin = origin or f"http://{self.host}"
        self.cookie = ""

    async def login(self, password: str = PASSWORD) -> Answer:
        """Log in, and keep the cookie."""
        body = {"user": "root", "password": password, "cookie": True}
        answer = await self.house.member.ask(
            "POST", "/v1/auth/login", body, self.headers(csrf=False)
        )
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        return answer

    def headers(self, *, csrf: bool = True, origin: bool = True) -> list[tuple[str, str]]:
        """Give what the browser sends along."""
        found = [("host", self.host)]
        if self.cookie:
            found.append(("cookie", f"other=1; {self.cookie}; last=2"))
        if origin:
            found.append(("origin", self.origin))
        if csrf:
            found.append(("x-coordinator-csrf", "1"))
        return found

    async def ask(self, method: str, target: str, body: Any = b"", **told: bool) -> Answer:
        """Make a request."""
        return await self.house.member.ask(method, target, body, self.headers(**told))


async def test_the_cookie(house: Guarded) -> None:
    """A login for a page gives a cookie that no script reads and no other site sends."""
    page = Page(house)
    answer = await page.login()
    assert answer.status == 200
    assert answer.json["token"] == ""
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("coordinator_session=ey")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(attributes)
    assert "Secure" not in attributes
    who = (await page.ask("GET", "/v1/auth/whoami", csrf=False, origin=False)).json
    assert (who["user"], who["roles"], who["enabled"]) == ("root", ["root"], True)
    out = await page.ask("POST", "/v1/auth/logout")
    assert out.status == 204
    assert out.headers["set-cookie"].startswith("coordinator_session=; ")
    assert "Max-Age=0" in out.headers["set-cookie"]


async def test_a_wrong_password_gives_no_cookie(house: Guarded) -> None:
    """A login that is refused sets nothing."""
    answer = await Page(house).login("wrong")
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)


async def test_what_a_cookie_is_not_enough_for(house: Guarded) -> None:
    """With a cookie, a change needs the header and the member's own origin; a read does not."""
    page = Page(house)
    await page.login()
    assert (await page.ask("PUT", "/v1/kv/a", b"1")).status == 200
    for told in ({"csrf": False}, {"origin": False}, {"csrf": False, "origin": False}):
        refused = await page.ask("PUT", "/v1/kv/a", b"2", **told)
        assert refused.status == 403, told
        logged_in = await page.ask("POST", "/v1/auth/logout", **told)
        assert logged_in.status == 403
    assert (await page.ask("GET", "/v1/kv/a", csrf=False, origin=False)).json["value"] == "1"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", "file:"],
)
async def test_another_page(house: Guarded, origin: str) -> None:
    """A page of another origin changes nothing with the cookie, nor opens a WebSocket with it."""
    page = Page(house)
    await page.login()
    page.origin = origin
    assert (await page.ask("PUT", "/v1/kv/a", b"3")).status == 403
    with pytest.raises(InvalidStatus) as refused:
        await upgraded(page, page.headers())
    assert refused.value.response.status_code == 403


async def upgraded(page: Page, headers: list[tuple[str, str]]) -> auth.Identity:
    """Open a WebSocket as a browser does; gives whom the member takes it for."""
    told = {name: text for name, text in headers if name in ("cookie",)}
    origin = dict(headers).get("origin")
    options: dict[str, Any] = {"additional_headers": told, "origin": origin}
    async with page.house.member.web_socket(greet=False, **options) as socket:
        await socket.greet()
        found: auth.Identity = await socket.call(auth.WhoAmI(), auth.Identity)
        return found


async def test_a_websocket_with_the_cookie(house: Guarded) -> None:
    """The dashboard's WebSocket is its user's by the cookie, if its origin is the member's own."""
    page = Page(house)
    await page.login()
    assert (await upgraded(page, page.headers())).user == "root"
    with pytest.raises(InvalidStatus) as refused:
        await upgraded(page, page.headers(origin=False))
    assert refused.value.response.status_code == 403


async def test_an_allowed_origin_is_not_the_same(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Pages of an origin that is allowed may use tokens, not the cookie of the dashboard."""
    folder = tmp_path_factory.mktemp("allowed")
    async with guarded(folder, allowed_origins=("https://tools.example",)) as house:
        page = Page(house)
        await page.login()
        page.origin = "https://tools.example"
        assert (await page.ask("PUT", "/v1/kv/a", b"1")).status == 403
        headers = [("origin", page.origin)]
        assert (await house.ask("PUT", "/v1/kv/a", b"1", headers=headers)).status == 200


async def test_a_foreign_name(house: Guarded) -> None:
    """A name that was made to resolve to this member (DNS rebinding) is refused everywhere."""
    for target in ("/", "/v1/auth/whoami", "/v1/auth/login", "/health", "/v1/ws"):
        for host in ("evil.example", "evil.example:2379", "localhost.evil.example"):
            answer = await house.member.ask("GET", target, b"", [("host", host)])
            assert answer.status == 403, (target, host)


async def test_a_token_comes_before_the_cookie(house: Guarded) -> None:
    """A wrong token is refused although a good cookie lies beside it; two tokens are refused."""
    page = Page(house)
    await page.login()
    headers = [*page.headers(), ("authorization", "Bearer wrong")]
    assert (await house.member.ask("GET", "/v1/users", b"", headers)).status == 401
    good = ("authorization", f"Bearer {house.root}")
    assert (await house.member.ask("GET", "/v1/users", b"", [good, good])).status == 401
    assert (await house.member.ask("GET", "/v1/users", b"", [good])).status == 200


async def test_answers_are_no_pages(house: Guarded) -> None:
    """A hostile name comes back as JSON, with its type told, and never as part of a page."""
    name = "%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    for target in (f"/v1/users/{name}", f"/v1/kv/{name}", f"/{name}"):
        answer = await house.ask("GET", target)
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_behind_a_proxy_that_ends_tls(
    house: Guarded, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A page by another scheme than the connection's is refused, unless its origin is allowed."""
    page = Page(house)
    await page.login()
    page.origin = f"https://{page.host}"
    assert (await page.ask("PUT", "/v1/kv/a", b"1")).status == 403
    with pytest.raises(InvalidStatus) as refused:
        await upgraded(page, page.headers())
    assert refused.value.response.status_code == 403
    folder = tmp_path_factory.mktemp("proxied")
    allowed = ("https://localhost", "https://tools.example")
    async with guarded(folder, allowed_origins=allowed) as behind:
        page = Page(behind, "https://localhost")
        page.host = "localhost"
        answer = await page.login()
        assert answer.headers["set-cookie"].endswith("; Secure")
        assert (await page.ask("PUT", "/v1/kv/a", b"1")).status == 200
        for other in ("http://tools.example", "https://tools.example"):
            page.origin = other
            assert (await page.ask("PUT", "/v1/kv/a", b"2")).status == 403
