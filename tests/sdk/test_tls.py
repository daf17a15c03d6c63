"""TLS on the client's side: whom it trusts, what it shows, and what it says when that fails."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from coordinator_sdk import TLS, Client, ConnectFailed, InvalidRequest, RetryPolicy
from coordinator_sdk._endpoints import parse_endpoint
from coordinator_sdk._tls import Trust, explained
from tests.sdk.certificates import Authority
from tests.sdk.server import FakeServer, fake_server

FAST = RetryPolicy(deadline=20.0, base=0.001, cap=0.01)
SECURE = parse_endpoint("https://localhost:1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def works(server: FakeServer, host: str, tls: TLS | None) -> None:
    """A client can connect."""
    async with Client(f"https://{host}:{server.port}", tls=tls, retry=FAST) as client:
        await client.kv.put("a")


async def fails(url: str, tls: TLS | None) -> str:
    """A client can't connect, and needs no time-out to know; gives what it says."""
    with pytest.raises(ConnectFailed) as caught:
        await Client(url, tls=tls, retry=FAST, connect_timeout=50).connect()
    assert str(caught.value).startswith(url)
    return str(caught.value)


async def waits(url: str, ca: Path | None = None) -> str:
    """A client can't connect, which might pass; gives what it says in the end."""
    with pytest.raises(ConnectFailed) as caught:
        await Client(url, tls=TLS(ca=ca), retry=FAST, connect_timeout=0.3).connect()
    return str(caught.value)


async def test_a_server_is_trusted_by_its_ca(authority: Authority) -> None:
    """The CA decides, and the name: the host of the endpoint, or server_name instead."""
    trusted = TLS(ca=authority.ca)
    async with fake_server(context=authority.context("localhost", "db1")) as server:
        await works(server, "localhost", trusted)
        await works(server, "127.0.0.1", TLS(ca=authority.ca, server_name="db1"))
        url = f"https://127.0.0.1:{server.port}"
        assert "for another name" in await fails(url, trusted)
        stranger = TLS(ca=Authority(authority.folder / "other", "other").ca)
        assert "somebody this client does not trust" in await fails(url, stranger)
        assert "somebody this client does not trust" in await fails(url, None)
        await works(server, "127.0.0.1", TLS(verify=False))


async def test_an_expired_certificate_is_named(authority: Authority) -> None:
    """A certificate whose time is over is told apart from one nobody trusts."""
    async with fake_server(context=authority.context("localhost", days=-1)) as server:
        told = await fails(f"https://localhost:{server.port}", TLS(ca=authority.ca))
        assert told.endswith("shows a certificate that has expired")


async def test_a_server_may_want_a_certificate(authority: Authority) -> None:
    """A client shows its certificate where it is asked for; without one it is told so."""
    cert, key = authority.issue("client")
    async with fake_server(context=authority.context("localhost", asks=True)) as server:
        await works(server, "localhost", TLS(ca=authority.ca, cert=cert, key=key))
        url = f"https://localhost:{server.port}"
        assert "certificate of the client, tls=TLS(cert=" in await waits(url, authority.ca)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants to see a certificate of the client"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not accept the certificate of this client"),
        ("WRONG_VERSION_NUMBER", "does not speak TLS: use http://localhost:1"),
        ("SOMETHING_ELSE", "can't be spoken to over TLS: SOMETHING_ELSE"),
    ],
)
def test_what_openssl_says_is_said_in_words(reason: str, text: str) -> None:
    """Alerts of the other side become a sentence that says what mends it."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    told, is_certain = explained(error, SECURE)
    assert f"https://localhost:1 {text}" in str(told)
    assert is_certain


async def test_tls_to_plain_text_is_explained() -> None:
    """An https endpoint that speaks plain text is told apart from one that is not trusted."""
    async with fake_server() as server:
        told = await waits(f"https://127.0.0.1:{server.port}")
        assert f"http://127.0.0.1:{server.port}" in told


async def test_plain_text_to_tls_is_explained(authority: Authority) -> None:
    """An http endpoint that speaks TLS is a hint to use https."""
    async with fake_server(context=authority.context("localhost")) as server:
        assert f"https://127.0.0.1:{server.port}" in await waits(server.url)


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
async def test_a_file_that_is_missing_is_named(authority: Authority, missing: str) -> None:
    """A file that can't be read fails connect() by name."""
    cert, key = authority.issue("client")
    files: dict[str, Any] = {"ca": authority.ca, "cert": cert, "key": key}
    files[missing] = authority.folder / "none"
    with pytest.raises(InvalidRequest, match="none' can't be read: No such file") as caught:
        await Client("https://localhost:1", tls=TLS(**files)).connect()
    assert caught.value.details == {"field": f"tls.{missing}"}


async def test_a_file_that_is_wrong_is_named(authority: Authority) -> None:
    """A file that holds something else fails connect() by name; nothing is asked at a terminal."""
    cert, key = authority.issue("client")
    _, other_key = authority.issue("other")
    for path in (cert, key, other_key, authority.ca):
        os.utime(path, (1, 1))
    for tls, text in (
        (TLS(ca=key), "tls.ca: .* holds no certificate in PEM"),
        (TLS(cert=cert, key=cert), "tls.cert: .* holds no certificate with its key"),
        (TLS(cert=cert, key=other_key), "tls.cert: .* does not belong to the private key"),
    ):
        with pytest.raises(InvalidRequest, match=text):
            await Client("https://localhost:1", tls=tls).connect()


async def test_renewed_files_are_read_at_the_next_connection(authority: Authority) -> None:
    """A client that runs goes on after its own certificate and the CA have been replaced."""
    cert, key = authority.issue("client")
    ca = authority.folder / "trusted.pem"
    ca.write_bytes(authority.ca.read_bytes())
    later = Authority(authority.folder / "later", "later")
    tls = TLS(ca=ca, cert=cert, key=key)
    async with fake_server(context=authority.context("localhost", asks=True)) as server:
        async with Client(f"https://localhost:{server.port}", tls=tls, retry=FAST) as client:
            await client.kv.put("a")
            context = later.context("localhost", asks=True)
            async with fake_server(server.cluster, context=context) as renewed:
                for target, source in zip(
                    (ca, cert, key), (later.ca, *later.issue("client")), strict=True
                ):
                    os.replace(source, target)
                client._link._rotation.learn([f"https://localhost:{renewed.port}"])
                server.drop()
                await client.kv.put("b")
                assert client.endpoint.endswith(str(renewed.port))


async def test_a_client_may_begin_amid_a_renewal(authority: Authority) -> None:
    """A certificate whose new key is not written yet is tried again until it is."""
    cert, key = authority.issue("client")
    new_cert, new_key = authority.issue("later")
    os.replace(new_cert, cert)
    async with fake_server(context=authority.context("localhost", asks=True)) as server:
        tls = TLS(ca=authority.ca, cert=cert, key=key)
        client = Client(f"https://localhost:{server.port}", tls=tls, retry=FAST)
        connecting = asyncio.ensure_future(client.connect())
        while client._link.session.trouble is None:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0)
        assert "does not belong to the private key" in str(client._link.session.trouble)
        os.replace(new_key, key)
        await connecting
        await client.close()


def test_the_context_is_made_once(authority: Authority) -> None:
    """As long as no file changes there is one context; a broken file does not replace it."""
    cert, key = authority.issue("client")
    trust = Trust(TLS(ca=authority.ca, cert=cert, key=key))
    assert trust.context(parse_endpoint("http://localhost:1")) is None
    first = trust.context(SECURE)
    assert trust.context(SECURE) is first
    os.replace(authority.issue("another")[0], cert)
    assert trust.context(SECURE) is first, "half of the files are new"
    os.replace(authority.folder / "another.key", key)
    second = trust.context(SECURE)
    assert second is not first
    key.unlink()
    assert trust.context(SECURE) is second


def test_the_system_is_trusted_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tls=, an https endpoint is judged by the certificates that the system trusts."""
    loaded: list[ssl.SSLContext] = []
    monkeypatch.setattr(
        ssl.SSLContext, "load_default_certs", lambda self, purpose: loaded.append(self)
    )
    context = Trust(None).context(SECURE)
    assert loaded == [context]
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
