"""The Watch service: one stream, many watches."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.etcd.watches import FRAGMENT_BYTES, fragments
from tests.api.member import Running, until
from tests.etcd.client import Grpc, Refused, Talk

pytestmark = pytest.mark.asyncio(loop_scope="module")

WATCH = "/etcdserverpb.Watch/Watch"
KV = "/etcdserverpb.KV/"


async def opened(grpc: Grpc, key: bytes, **more: Any) -> Talk:
    """Open a stream with one watch, and hear that it stands."""
    talk = grpc.talk(WATCH)
    talk.say(create_request={"key": key, **more})
    answer = await talk.hear()
    assert answer.created
    return talk


async def put(grpc: Grpc, key: bytes, value: bytes = b"", **more: Any) -> int:
    """Put a key; give the revision."""
    answer = await grpc.call(f"{KV}Put", key=key, value=value, **more)
    return int(answer.header.revision)


async def test_a_watch_tells_every_change(grpc: Grpc, member: Running) -> None:
    """Puts and deletions come in order, one answer for each revision."""
    before = member.node.revision
    talk = grpc.talk(WATCH)
    talk.say(create_request={"key": b"w/", "range_end": b"w0", "prev_kv": True})
    created = await talk.hear()
    assert (created.created, created.watch_id, created.header.revision) == (True, 0, before)
    assert created.header.cluster_id == member.node.cluster_id
    await put(grpc, b"w/a", b"1")
    await put(grpc, b"w/a", b"2")
    await grpc.call(f"{KV}DeleteRange", key=b"w/a")
    first, second, third = [await talk.hear() for _ in range(3)]
    assert [one.header.revision - before for one in (first, second, third)] == [1, 2, 3]
    assert (first.events[0].type, first.events[0].kv.value) == (0, b"1")
    assert not first.events[0].HasField("prev_kv")
    assert second.events[0].prev_kv.value == b"1"
    gone = third.events[0]
    assert (gone.type, gone.kv.key, gone.kv.mod_revision) == (1, b"w/a", before + 3)
    assert (gone.kv.version, gone.kv.create_revision, gone.prev_kv.value) == (0, 0, b"2")


async def test_many_watches_share_a_stream(grpc: Grpc) -> None:
    """Ids are given from 0 on, skipping those that clients chose; each gets its own events."""
    talk = grpc.talk(WATCH)
    for fields in ({"key": b"m0"}, {"key": b"m7", "watch_id": 1}, {"key": b"m2"}, {"key": b"m0"}):
        talk.say(create_request=fields)
    assert [(await talk.hear()).watch_id for _ in range(4)] == [0, 1, 2, 3]
    await put(grpc, b"m7")
    assert (await talk.hear()).watch_id == 1
    await put(grpc, b"m0")
    assert sorted([(await talk.hear()).watch_id, (await talk.hear()).watch_id]) == [0, 3]
    talk.say(cancel_request={"watch_id": 99})
    talk.say(cancel_request={"watch_id": 3})
    answer = await talk.hear()
    assert (answer.canceled, answer.watch_id, answer.cancel_reason) == (True, 3, "")
    await put(grpc, b"m0")
    assert (await talk.hear()).watch_id == 0
    await put(grpc, b"m2")
    assert (await talk.hear()).watch_id == 2


@pytest.mark.parametrize("number", [-1, -2, -(1 << 63), (1 << 63) - 1])
async def test_any_number_names_a_watch(grpc: Grpc, member: Running, number: int) -> None:
    """A client may choose any watch id, negative ones too: its events carry it, and the member
    lives on."""
    talk = await opened(grpc, b"named", watch_id=number)
    revision = await put(grpc, b"named", b"1")
    answer = await talk.hear()
    assert (answer.watch_id, answer.events[0].kv.mod_revision) == (number, revision)
    talk.say(cancel_request={"watch_id": number})
    assert (await talk.hear()).canceled
    assert member.node.is_ready()


async def test_a_start_below_zero_is_compacted(grpc: Grpc) -> None:
    """A negative start revision has been compacted, as with etcd; but for -1 before there was any
    compaction, which means from now on."""
    talk = await opened(grpc, b"below", start_revision=-2)
    gone = await talk.hear()
    assert (gone.canceled, gone.header.revision) == (True, 0)
    assert gone.compact_revision


async def test_before_a_revision_is_what_was_there(grpc: Grpc) -> None:
    """What comes and goes within one transaction has no record before it."""
    talk = await opened(grpc, b"brief", prev_kv=True)
    parts = ({"request_put": {"key": b"brief"}}, {"request_delete_range": {"key": b"brief"}})
    await grpc.call(f"{KV}Txn", success=[{"request_txn": {"success": [one]}} for one in parts])
    answer = await talk.hear()
    assert [one.type for one in answer.events] == [0, 1]
    assert not any(one.HasField("prev_kv") for one in answer.events)


async def test_wrong_watches_are_created_and_cancelled(grpc: Grpc) -> None:
    """An id in use and an empty range are answered with -1 and etcd's reasons."""
    talk = await opened(grpc, b"twice", watch_id=5)
    talk.say(create_request={"key": b"other", "watch_id": 5})
    answer = await talk.hear()
    assert (answer.watch_id, answer.created, answer.canceled) == (-1, True, True)
    assert answer.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    talk.say(create_request={"key": b"b", "range_end": b"a"})
    answer = await talk.hear()
    assert (answer.watch_id, answer.created, answer.canceled) == (-1, True, True)
    assert answer.cancel_reason == "mvcc: watcher range is empty"


async def test_a_watch_begins_in_the_past(grpc: Grpc) -> None:
    """History is told first, many revisions in an answer, and then what is new."""
    first = await put(grpc, b"past", b"0")
    for number in range(1, 5):
        await put(grpc, b"past", b"%d" % number)
    talk = grpc.talk(WATCH)
    talk.say(create_request={"key": b"past", "start_revision": first})
    assert (await talk.hear()).created
    told: list[bytes] = []
    while len(told) < 5:
        told += [event.kv.value for event in (await talk.hear()).events]
    await put(grpc, b"past", b"5")
    told += [event.kv.value for event in (await talk.hear()).events]
    assert told == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_watch_waits_for_the_future(grpc: Grpc, member: Running) -> None:
    """A start that is still to come is waited for."""
    start = member.node.revision + 3
    talk = await opened(grpc, b"future", start_revision=start)
    for number in range(4):
        await put(grpc, b"future", b"%d" % number)
    assert (await talk.hear()).events[0].kv.mod_revision == start


async def test_compacted_history_ends_a_watch(grpc: Grpc) -> None:
    """A start below the compact revision is told that revision, and no reason."""
    first = await put(grpc, b"compacted")
    now = await put(grpc, b"compacted")
    await grpc.call(f"{KV}Compact", revision=now)
    talk = await opened(grpc, b"compacted", start_revision=first)
    answer = await talk.hear()
    assert (answer.canceled, answer.compact_revision, answer.watch_id) == (True, now, 0)
    assert (answer.cancel_reason, answer.header.revision) == ("", 0)
    talk.say(create_request={"key": b"compacted", "start_revision": now})
    assert (await talk.hear()).watch_id == 1
    assert (await talk.hear()).events[0].kv.mod_revision == now


async def test_filters_leave_events_out(grpc: Grpc) -> None:
    """NOPUT and NODELETE each leave one kind of event out."""
    talk = grpc.talk(WATCH)
    talk.say(create_request={"key": b"filtered", "filters": [0]})
    talk.say(create_request={"key": b"filtered", "filters": [1]})
    assert [(await talk.hear()).created for _ in range(2)] == [True, True]
    await put(grpc, b"filtered")
    answer = await talk.hear()
    assert (answer.watch_id, answer.events[0].type) == (1, 0)
    await grpc.call(f"{KV}DeleteRange", key=b"filtered")
    answer = await talk.hear()
    assert (answer.watch_id, answer.events[0].type) == (0, 1)


async def test_progress_is_told_on_request(grpc: Grpc, member: Running) -> None:
    """A request for progress is answered by -1 and the revision, and no events."""
    talk = await opened(grpc, b"progress")
    revision = await put(grpc, b"elsewhere")
    talk.say(progress_request={})
    answer = await talk.hear()
    assert (answer.watch_id, answer.header.revision, len(answer.events)) == (-1, revision, 0)


async def test_progress_is_notified(grpc: Grpc, member: Running) -> None:
    """A watch that asked for it is told of progress while nothing happens."""
    talk = await opened(grpc, b"notified", progress_notify=True)
    revision = await put(grpc, b"elsewhere")
    member.node.hub.notify_progress()
    answer = await talk.hear()
    assert (answer.watch_id, answer.header.revision, len(answer.events)) == (0, revision, 0)


async def test_a_transaction_is_one_answer(grpc: Grpc) -> None:
    """All events of one revision come in one answer."""
    talk = await opened(grpc, b"one/", range_end=b"one0")
    await grpc.call(
        f"{KV}Txn", success=[{"request_put": {"key": b"one/%d" % n}} for n in range(100)]
    )
    assert len((await talk.hear()).events) == 100


async def test_large_answers_are_cut_for_who_asks(grpc: Grpc) -> None:
    """With fragment, an answer of more than 2 MiB comes in parts; the last says so."""
    for number in range(4):
        await put(grpc, b"part/%d" % number, b"x" * 900_000)
    fields = {"key": b"part/", "range_end": b"part0"}
    cut = await opened(grpc, **fields, prev_kv=True, fragment=True)
    whole = await opened(grpc, **fields, prev_kv=True)
    await grpc.call(f"{KV}DeleteRange", **fields)
    told = [await cut.hear(), await cut.hear()]
    assert [(len(answer.events), answer.fragment) for answer in told] == [(2, True), (2, False)]
    assert {answer.header.revision for answer in told} == {told[0].events[0].kv.mod_revision}
    answer = await whole.hear()
    assert (len(answer.events), answer.fragment) == (4, False)


async def test_fragments_are_as_large_as_allowed() -> None:
    """Parts hold what fits; an event that is too large has a part of its own."""
    small, huge = b"s" * (FRAGMENT_BYTES // 3), b"h" * (FRAGMENT_BYTES + 1)
    assert [len(part) for part in fragments([small, small, huge, small])] == [
        2 * len(small),
        len(huge),
        len(small),
    ]
    assert fragments([b"", b""]) == [b""]


async def test_an_empty_key_means_the_first_one(grpc: Grpc) -> None:
    """A watch with an empty key and an end watches from the first key on."""
    talk = await opened(grpc, b"", range_end=b"\0")
    await put(grpc, b"anything")
    assert (await talk.hear()).events[0].kv.key == b"anything"


async def test_a_reset_ends_the_watches(grpc: Grpc, member: Running) -> None:
    """Once the client resets the stream, its watches are gone; half-closing does not end them."""
    before = len(member.node.hub)
    talk = await opened(grpc, b"reset")
    grpc.send(0, 1, talk.stream)
    await put(grpc, b"reset")
    assert (await talk.hear()).events[0].kv.key == b"reset"
    assert len(member.node.hub) == before + 1
    talk.reset()
    await until(lambda: len(member.node.hub) == before)


async def test_a_missing_leader_ends_streams_that_need_one(grpc: Grpc, member: Running) -> None:
    """A stream with hasleader is ended when there has been no leader for long; others stay."""
    needing, other = grpc.talk(WATCH, ("hasleader", "true")), grpc.talk(WATCH)
    for talk in (needing, other):
        talk.say(create_request={"key": b"led"})
        assert (await talk.hear()).created
    for tell in member.node.group.absence.told:
        tell()
    with pytest.raises(Refused, match="14: etcdserver: no leader"):
        await needing.hear()
    await put(grpc, b"led")
    assert (await other.hear()).events[0].kv.key == b"led"
