"""Peers behind TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from coordinator.tls.credentials import Credentials
from coordinator.tls.making import CLIENT
from coordinator.tls.ports import TlsPort
from coordinator.transport.errors import PeerUnreachable
from tests.api.test_tls import Authority
from tests.tls.authority import Authority as SigningAuthority
from tests.transport.member import Machine, connect

pytestmark = pytest.mark.asyncio


def credentials(folder: Path) -> dict[str, Any]:
    """Make credentials with which both sides show a certificate of one authority."""
    authority = Authority(folder)
    port = TlsPort("peer", *authority.issue("member"), ca_file=authority.file)
    return {"credentials": Credentials(port)}


async def test_everything_works_behind_tls(machine: Machine, tmp_path: Path) -> None:
    """Links, snapshots, inquiries and the signs of death work over TLS as they do without."""
    settings = credentials(tmp_path)
    one, two = await machine.member(1, **settings), await machine.member(2, **settings)
    assert one.url.startswith("https")
    connect(one, two)
    await one.until_linked(two)
    sent = [bytes([n % 256]) * (n * 37 % 70_000) for n in range(300)]
    for frame in sent:
        assert one.network.send(2, frame)
    await two.until(lambda: len(two.frames) == len(sent))
    assert two.frames == sent

    async def chunks() -> Any:
        for frame in sent:
            yield frame

    await one.network.send_snapshot(2, b"head", chunks())
    assert two.sinks[0].chunks == sent
    assert await one.network.inquire(two.url) == b"member 2"
    await two.network.close()
    await one.until_event("deserted", 2)


async def test_who_has_no_certificate_stays_outside(machine: Machine, tmp_path: Path) -> None:
    """Neither plain TCP nor TLS without a certificate of the authority gets an answer."""
    settings = credentials(tmp_path)
    one = await machine.member(1, **settings)
    plain = await machine.member(2)
    with pytest.raises(PeerUnreachable):
        await plain.network.inquire(one.url.replace("https", "http"))
    with pytest.raises(PeerUnreachable, match="no certificates"):
        await plain.network.inquire(one.url)
    with pytest.raises(PeerUnreachable):
        await one.network.inquire(plain.url.replace("http", "https"))
    naked = await machine.member(3, **credentials(tmp_path))
    nobody = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    assert naked.network.credentials
    naked.network.credentials.client = nobody
    with pytest.raises(PeerUnreachable):
        await naked.network.inquire(one.url)
    reader, writer = await machine.raw(one.url)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.read()
    assert one.events == []


async def test_a_client_is_no_member(machine: Machine, tmp_path: Path) -> None:
    """A certificate for clients, of the members' own authority, is refused by those who are dialled
    and by those who dial."""
    authority = SigningAuthority(tmp_path)
    good = authority.port("peer", authority.issue("member"))
    one = await machine.member(1, credentials=Credentials(good))
    client = Credentials(good)
    client.client.load_cert_chain(*authority.issue("alice", [CLIENT]))
    with pytest.raises(PeerUnreachable):
        await (await machine.member(2, credentials=client)).network.inquire(one.url)
    picky = authority.port("peer", authority.issue("other"), allowed_cn="other")
    with pytest.raises(PeerUnreachable, match="the common name of CN=member is not the allowed"):
        await (await machine.member(3, credentials=Credentials(picky))).network.inquire(one.url)
    assert one.events == []
