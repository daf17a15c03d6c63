"""The first members out of DNS, asked of a name server on the loopback."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import Config, ConfigError
from coordinator.node.bootstrap import founder
from coordinator.node.dns import (
    DnsFailed,
    Malformed,
    Resolver,
    Srv,
    decode_answer,
    decode_name,
    encode_name,
    encode_question,
    system_servers,
)
from coordinator.node.srv import discover_srv
from tests.node.nameserver import name_server

PLAIN, SECURE = "_coordinator-server._tcp.db.test", "_coordinator-server-ssl._tcp.db.test"
LOOPBACK = [Srv("127.0.0.1", 2380 + 10 * number) for number in range(3)]


def settings(port: int = 2380, **more: Any) -> Config:
    url = f"http://127.0.0.1:{port}"
    return Config(name="me", discovery_srv="db.test", initial_advertise_peer_urls=(url,), **more)


async def test_records_become_members():
    """Every SRV record is a member; this one is found by its address and has its own name."""
    async with name_server({PLAIN: LOOPBACK}) as server:
        found = await discover_srv(settings(2390), Resolver([server.address]))
    assert found.names_to_urls == {
        "127.0.0.1:2380": ("http://127.0.0.1:2380",),
        "me": ("http://127.0.0.1:2390",),
        "127.0.0.1:2400": ("http://127.0.0.1:2400",),
    }
    assert found.token == "coordinator"


async def test_all_members_get_the_same():
    """URLs and ids are the same on all members, whatever the order of the records."""
    async with name_server({PLAIN: LOOPBACK}) as server:
        resolver = Resolver([server.address])
        one = await discover_srv(settings(2380), resolver)
        server.records[PLAIN] = LOOPBACK[::-1]
        other = await discover_srv(settings(2400), resolver)
    assert list(one.names_to_urls.values()) == list(other.names_to_urls.values())
    assert one.cluster_id == other.cluster_id
    one_origin, other_origin = founder(settings(2380), one), founder(settings(2400), other)
    assert one_origin.members == other_origin.members, "nothing of it depends on names"
    assert one_origin.member_id != other_origin.member_id
    assert one.member_id("me") == other.member_id("127.0.0.1:2380")


async def test_services_are_asked_in_order():
    """Our own service is asked for first, then etcd's; a name ends the service's."""
    etcd = "_etcd-server-blue._tcp.db.test"
    async with name_server({etcd: LOOPBACK}) as server:
        config = settings(discovery_srv_name="blue")
        await discover_srv(config, Resolver([server.address]))
        assert [name for _, name in server.asked] == [
            "_coordinator-server-ssl-blue._tcp.db.test",
            "_coordinator-server-blue._tcp.db.test",
            "_etcd-server-ssl-blue._tcp.db.test",
            etcd,
        ]


async def test_secure_services_have_secure_urls():
    """The records of the -ssl service become https URLs, and this member's must be one."""
    async with name_server({SECURE: LOOPBACK[:1]}) as server:
        resolver = Resolver([server.address])
        config = Config(
            name="me",
            discovery_srv="db.test",
            initial_advertise_peer_urls=("https://127.0.0.1:2380",),
        )
        found = await discover_srv(config, resolver)
        assert found.names_to_urls == {"me": ("https://127.0.0.1:2380",)}
        with pytest.raises(ConfigError, match="leads to no member"):
            await discover_srv(settings(), resolver)


async def test_a_member_must_be_in_the_list_once():
    """Without a record for this member, or with two, the error names URLs and records."""
    double = [*LOOPBACK, Srv("localhost", 2380)]
    async with name_server({PLAIN: double}) as server:
        resolver = Resolver([server.address])
        with pytest.raises(ConfigError, match=r"2999: leads to no member of db.test: http://"):
            await discover_srv(settings(2999), resolver)
        with pytest.raises(ConfigError, match="leads to 2 members"):
            await discover_srv(settings(2380), resolver)


async def test_names_without_records_are_told():
    """Where there are no records at all, the error names every name that was asked for."""
    async with name_server({}) as server:
        with pytest.raises(ConfigError, match=f"no SRV records of {SECURE}, {PLAIN}, _etcd-"):
            await discover_srv(settings(), Resolver([server.address]))
        with pytest.raises(ConfigError, match="no domain name"):
            await discover_srv(Config(discovery_srv="a..b"), Resolver([server.address]))


async def test_long_answers_come_over_tcp():
    """An answer that UDP cuts is fetched over TCP."""
    many = [Srv("127.0.0.1", port) for port in range(2380, 2500)]
    async with name_server({PLAIN: many}) as server:
        server.is_truncating = True
        assert await Resolver([server.address]).srv(PLAIN) == tuple(sorted(many))
        assert server.asked == [("udp", PLAIN), ("tcp", PLAIN)]


async def test_forged_datagrams_are_ignored():
    """What is no answer to the question is ignored until the answer comes."""
    async with name_server({PLAIN: LOOPBACK}) as server:
        server.noise = [b"", b"\0" * 12, server.answer(encode_question(1 << 15, "x.test"), "udp")]
        assert await Resolver([server.address]).srv(PLAIN) == tuple(LOOPBACK)


async def test_one_answering_server_is_enough():
    """A server that is silent, or answers with a failure, is passed over for the next one."""
    async with name_server({}) as broken, name_server({PLAIN: LOOPBACK}) as good:
        for broken.code, broken.is_silent in ((2, False), (0, True)):
            resolver = Resolver([broken.address, good.address], attempt_s=0.05)
            assert await resolver.srv(PLAIN) == tuple(LOOPBACK)
        broken.is_silent, broken.code = False, 5
        with pytest.raises(DnsFailed, match="answers REFUSED"):
            await Resolver([broken.address]).srv(PLAIN)
        broken.is_silent = True
        with pytest.raises(DnsFailed, match="does not answer"):
            await Resolver([broken.address], attempt_s=0.01).srv(PLAIN)


async def test_it_tries_on_until_dns_answers(caplog: pytest.LogCaptureFixture):
    """While no name server can answer it says so once and tries on; then it succeeds."""
    caplog.set_level(logging.WARNING, "coordinator.discovery")
    async with name_server({PLAIN: LOOPBACK}) as server:
        server.code = 2
        resolver = Resolver([server.address])
        looking = asyncio.ensure_future(discover_srv(settings(), resolver, retry_s=0))
        await server.until_asked(12)
        server.code = 0
        assert "me" in (await looking).names_to_urls
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        f"the SRV records of {SECURE} could not be had: "
        f"127.0.0.1 port {server.address[1]} answers SERVFAIL; trying on"
    )


@given(st.binary(max_size=80))
def test_no_message_breaks_the_reader(data: bytes):
    """Any bytes are either an answer or malformed, and reading them comes to an end."""
    question = encode_question(7, "a.test")
    for message in (data, question[:2] + b"\x81\x80\0\1\0\2\0\0\0\0" + question[12:] + data):
        try:
            decode_answer(message, 7, "a.test")
        except Malformed:
            pass


@pytest.mark.parametrize(
    "message", [b"\xc0\x00", b"\xc0\x05\0", b"\x01a\xc0\x00", b"\x7fa", b"\x01"]
)
def test_names_that_go_in_circles_are_refused(message: bytes):
    """A name that points at itself or ahead, or ends early, is refused."""
    with pytest.raises(Malformed):
        decode_name(message, 0)


def test_names_are_read_as_they_were_written():
    """A name is encoded and decoded; what is no name is refused."""
    assert decode_name(encode_name("Infra0.example.com."), 0) == ("infra0.example.com", 20)
    for wrong in ("", "a..b", "a" * 64, "é.com", ".".join(["a" * 60] * 5)):
        with pytest.raises(Malformed):
            encode_name(wrong)


def test_the_systems_servers_are_found(tmp_path):
    """The name servers are those of resolv.conf; without any, the one of this machine."""
    file = tmp_path / "resolv.conf"
    assert system_servers(file) == [("127.0.0.1", 53)]
    file.write_text("# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\nnameserver ::1\n")
    assert system_servers(file) == [("10.0.0.2", 53), ("::1", 53)]
