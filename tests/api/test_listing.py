"""The list of the streams that a member serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator_sdk.protocol.cluster import ClusterWatch, StreamList, StreamListResult
from coordinator_sdk.protocol.kv import Put, PutResult, Watch, WatchEvents
from tests.api.member import running


async def test_streams_are_listed_with_their_lag(tmp_path: Path) -> None:
    """Each watch tells its range and how far behind it is, the slowest first."""
    async with running(tmp_path) as member, asyncio.timeout(30):
        async with member.web_socket() as one, member.web_socket() as other:
            await one.call(Watch(b"a", credit=1))
            await other.call(Watch(b"b", b"c"))
            await other.call(ClusterWatch())
            for value in (b"1", b"2", b"3"):
                await member.ask("PUT", "/v1/kv/a", value)
            await one.stream_item(WatchEvents)
            listed = await one.call(StreamList(), StreamListResult)
            assert (listed.total, listed.others) == (3, 0)
            slow, *rest = listed.streams
            assert (slow.operation, slow.key, slow.range_end) == ("watch.create", b"a", b"")
            assert (slow.state, slow.lag) == ("blocked", 2)
            assert {info.operation for info in rest} == {"watch.create", "cluster.watch"}
            assert all((info.state, info.lag) == ("synced", 0) for info in rest)
            shorter = await one.call(StreamList(limit=1), StreamListResult)
            assert (len(shorter.streams), shorter.total) == (1, 3)
            refused = await one.call(StreamList(limit=0))
            assert refused.code == "invalid_request"
            await one.call(Put(b"x"), PutResult)
