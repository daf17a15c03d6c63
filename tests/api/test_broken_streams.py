"""A stream that can't be told what has happened ends; the member and all others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.tickets import Follower
from coordinator.domains import apis
from coordinator.domains.elections import model
from coordinator.keyspace.watcher import EncodedBatch
from coordinator_sdk import Client
from coordinator_sdk.errors import Internal
from coordinator_sdk.protocol.kv import WatchEvents
from tests.api.member import running
from tests.etcd.client import Refused, connected

POISON = b"poison"


def breaks_at_poison(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Let whatever encodes events of one key fail, as a mistake there would."""
    encoded = EncodedBatch.encoded

    def breaking(batch: EncodedBatch, codec: str, encode: Callable[[Any], bytes]) -> bytes:
        item = batch.item
        if isinstance(item, WatchEvents) and item.events[0].kv.key == POISON:
            raise ZeroDivisionError
        return encoded(batch, codec, encode)

    monkeypatch.setattr(EncodedBatch, "encoded", breaking)
    caplog.set_level(logging.CRITICAL, "coordinator")


async def test_a_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A watch over the WebSocket ends with an error; another on the same connection goes on."""
    breaks_at_poison(monkeypatch, caplog)
    async with running(tmp_path) as member, Client(f"http://127.0.0.1:{member.port}") as client:
        async with client.kv.watch(POISON) as broken, client.kv.watch("fine") as other:
            await client.kv.put(POISON, b"1")
            with pytest.raises(Internal, match="log says more"):
                await anext(broken)
            await client.kv.put("fine", b"2")
            assert (await anext(other)).kv.value == b"2"


async def test_a_watch_of_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream of watches over gRPC ends with a status; the connection goes on."""
    breaks_at_poison(monkeypatch, caplog)
    async with running(tmp_path) as member, connected(member.port) as grpc:
        talk = grpc.talk("/etcdserverpb.Watch/Watch")
        talk.say(create_request={"key": POISON})
        assert (await talk.hear()).created
        await grpc.call("/etcdserverpb.KV/Put", key=POISON, value=b"1")
        with pytest.raises(Refused):
            await talk.hear()
        assert (await grpc.call("/etcdserverpb.KV/Range", key=POISON)).count == 1


async def test_streams_of_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer of an election and a waiter for a lock are told that their stream has ended."""

    def breaking(*_: Any) -> Any:
        raise ZeroDivisionError

    caplog.set_level(logging.CRITICAL, "coordinator")
    async with (
        running(tmp_path, domains=apis()) as member,
        Client(f"http://127.0.0.1:{member.port}") as client,
    ):
        observer = client.elections.observe("e")
        assert (await anext(observer)).kind == model.VACANT
        async with client.locks.lock("l"):
            waiter = asyncio.ensure_future(client.locks.lock("l").acquire())
            while not (await client.locks.get("l")).waiting:
                pass
            monkeypatch.setattr(model, "change", breaking)
            monkeypatch.setattr(Follower, "_now", breaking)
        async with client.elections.lead("e"):
            with pytest.raises(Internal):
                await anext(observer)
        with pytest.raises(Internal):
            await waiter
        await client.kv.put("k", b"1")
