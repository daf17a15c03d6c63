"""Clients of a member that has lost the others are sent to them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from coordinator_sdk import Client
from coordinator_sdk.errors import NoLeader
from coordinator_sdk.protocol.cluster import Hello
from coordinator_sdk.protocol.frames import Closing, Failure
from coordinator_sdk.protocol.kv import Range, RangeResult
from tests.api.member import until
from tests.api.together import NAMES, together


@pytest.mark.parametrize("leads", [True, False])
async def test_clients_are_sent_to_other_members(tmp_path: Path, leads: bool):
    """A member without a leader closes its WebSockets, names the others, and a client of the SDK
    gets the outcome of what it had asked for from another member."""
    async with together(tmp_path) as cluster, asyncio.timeout(30):
        name = cluster.leader() if leads else cluster.follower()
        member = cluster.members[name]
        async with Client(cluster.url(name)) as client, member.web_socket() as socket:
            await client.kv.put("a", "1")
            cluster.cut_off(name)
            await client.kv.put("a", "2")
            assert client.endpoint != cluster.url(name)
            code, notice = await socket.closed()
            assert code == 1012
            assert notice is not None
            assert notice.code == NoLeader.code
            others = {cluster.url(other) for other in NAMES if other != name}
            assert set(notice.endpoints) == others
            assert not member.serving.websockets


async def test_a_member_without_a_leader(tmp_path: Path):
    """It refuses greetings, changes and linearizable reads at once, and answers serializable
    reads; once it has a leader again it serves as ever."""
    async with together(tmp_path) as cluster, asyncio.timeout(30):
        name = cluster.follower()
        member = cluster.members[name]
        assert (await member.ask("PUT", "/v1/kv/a", b"1")).status == 200
        cluster.cut_off(name)
        gone = asyncio.Event()
        member.node.group.absence.told.append(gone.set)
        await gone.wait()
        async with member.web_socket(greet=False) as socket:
            refused = await socket.call(Hello())
            assert isinstance(refused, Failure)
            assert refused.code == NoLeader.code
        answer = await member.ask("PUT", "/v1/kv/a", b"2")
        assert (answer.status, answer.error["code"]) == (503, NoLeader.code)
        answer = await member.ask("GET", "/v1/kv/a")
        assert (answer.status, answer.error["code"]) == (503, NoLeader.code)
        answer = await member.ask("GET", "/v1/kv/a?serializable=true&raw=true")
        assert (answer.status, answer.body) == (200, b"1")
        cluster.switchboard.mend_all()
        await until(lambda: member.node.replica.raw.lead != 0)
        assert (await member.ask("PUT", "/v1/kv/a", b"3")).status == 200
        async with member.web_socket():
            assert member.serving.websockets


async def test_an_age_is_kept_to(tmp_path: Path):
    """A member that has lost the others answers serializable reads with an age only as long as it
    can know that its state is no older."""
    async with together(tmp_path) as cluster, asyncio.timeout(30):
        name = cluster.follower()
        member = cluster.members[name]
        await member.ask("PUT", "/v1/kv/a", b"1")
        async with member.web_socket() as socket:
            read = Range(b"a", serializable=True, max_staleness_ms=3_600_000)
            assert await socket.call(read, RangeResult)
            cluster.cut_off(name)
            assert await socket.call(read, RangeResult)
            cut = time.monotonic()
            await until(lambda: time.monotonic() > cut + 0.002)
            await socket.send(Range(b"a", serializable=True, max_staleness_ms=1))
            told = []
            with suppress(ConnectionClosed):
                while True:
                    told.append(await socket.item())
            # It is refused, or left to another member; but not answered.
            assert {type(one) for one in told} <= {Failure, Closing}
