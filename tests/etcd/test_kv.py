"""The KV service over gRPC, call by call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.etcd.messages import METHODS
from tests.api.member import Running
from tests.etcd.client import Grpc, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

KV = "/etcdserverpb.KV/"


async def put(grpc: Grpc, key: bytes, value: bytes = b"", **more: Any) -> Any:
    """Put a key."""
    return await grpc.call(f"{KV}Put", key=key, value=value, **more)


async def refused(grpc: Grpc, name: str, **fields: Any) -> tuple[int, str]:
    """Give code and text of a call that is refused."""
    with pytest.raises(Refused) as error:
        await grpc.call(KV + name, **fields)
    return error.value.code, error.value.message


async def test_a_put_answers_with_the_whole_header(grpc: Grpc, member: Running) -> None:
    """The header of a put names cluster, member, revision and term, and the key can be read."""
    before = member.node.revision
    answer = await put(grpc, b"header", b"1")
    assert answer.header.cluster_id == member.node.cluster_id
    assert answer.header.member_id == member.node.member_id
    assert answer.header.revision == before + 1
    assert answer.header.raft_term == member.node.term
    assert not answer.HasField("prev_kv")
    found = await grpc.call(f"{KV}Range", key=b"header")
    assert (found.count, found.more) == (1, False)
    kv = found.kvs[0]
    assert (kv.key, kv.value, kv.version, kv.lease) == (b"header", b"1", 1, 0)
    assert kv.create_revision == kv.mod_revision == before + 1


async def test_a_put_gives_the_former_record_if_asked(grpc: Grpc) -> None:
    """prev_kv holds what a put or a deletion replaced."""
    await put(grpc, b"former", b"1")
    assert (await put(grpc, b"former", b"2", prev_kv=True)).prev_kv.value == b"1"
    answer = await grpc.call(f"{KV}DeleteRange", key=b"former", prev_kv=True)
    assert (answer.deleted, answer.prev_kvs[0].value) == (1, b"2")
    assert (await grpc.call(f"{KV}DeleteRange", key=b"former")).deleted == 0


async def test_ranges_sort_limit_and_count(grpc: Grpc) -> None:
    """Order, limit, count_only, keys_only and revisions of a range are obeyed."""
    for key in (b"r/b", b"r/a", b"r/c"):
        last = await put(grpc, key, key.upper())
    whole = {"key": b"r/", "range_end": b"r0"}
    found = await grpc.call(f"{KV}Range", **whole, limit=2)
    assert [kv.key for kv in found.kvs] == [b"r/a", b"r/b"]
    assert (found.more, found.count) == (True, 3)
    found = await grpc.call(f"{KV}Range", **whole, sort_order=2, sort_target=2, keys_only=True)
    assert [(kv.key, kv.value) for kv in found.kvs] == [(b"r/c", b""), (b"r/a", b""), (b"r/b", b"")]
    found = await grpc.call(f"{KV}Range", **whole, count_only=True)
    assert (found.count, len(found.kvs)) == (3, 0)
    found = await grpc.call(f"{KV}Range", **whole, revision=last.header.revision - 1)
    assert [kv.key for kv in found.kvs] == [b"r/a", b"r/b"]
    found = await grpc.call(f"{KV}Range", **whole, limit=-1, revision=-1, serializable=True)
    assert found.count == len(found.kvs) == 3


async def test_a_transaction_answers_operation_by_operation(grpc: Grpc) -> None:
    """Compares decide the branch; the answers inside carry the revision, a nested one nothing."""
    request = METHODS[f"{KV}Txn"].request()
    request.compare.add(target=0, result=0, key=b"txn", version=0)
    request.success.add().request_put.key = b"txn"
    request.success.add().request_range.key = b"txn"
    nested = request.success.add().request_txn
    nested.success.add().request_delete_range.key = b"absent"
    request.failure.add().request_range.key = b"txn"
    answer = await grpc.ask(f"{KV}Txn", request)
    revision = answer.header.revision
    assert answer.succeeded
    assert answer.responses[0].response_put.header.revision == revision
    found = answer.responses[1].response_range
    assert (found.header.revision, found.count) == (revision, 1)
    inner = answer.responses[2].response_txn
    assert inner.HasField("header")
    assert inner.header.revision == 0
    assert inner.responses[0].response_delete_range.header.revision == revision
    again = await grpc.ask(f"{KV}Txn", request)
    assert not again.succeeded
    assert again.header.revision == revision


async def test_answers_inside_tell_the_revision_of_their_moment(grpc: Grpc) -> None:
    """Inside a transaction, what comes before the first change carries the revision before it."""
    before = (await put(grpc, b"moment/a", b"1")).header.revision
    read = {"request_range": {"key": b"moment/a"}}
    nothing = {"request_delete_range": {"key": b"moment/none"}}
    write = {"request_put": {"key": b"moment/b"}}
    nested = {"request_txn": {"success": [read, write]}}
    answer = await grpc.call(f"{KV}Txn", success=[read, nothing, nested, read, nothing])
    first, none, inside, last, end = answer.responses
    told = [first.response_range, none.response_delete_range]
    told += [one for part in inside.response_txn.responses for _, one in part.ListFields()]
    told += [last.response_range, end.response_delete_range]
    assert [one.header.revision - before for one in told] == [0, 0, 0, 1, 1, 1]
    answer = await grpc.call(f"{KV}Txn", success=[read, nothing])
    assert answer.responses[0].response_range.header.revision == answer.header.revision
    assert answer.responses[1].response_delete_range.header.revision == answer.header.revision


async def test_compares_look_at_every_field(grpc: Grpc) -> None:
    """Each target of a compare is compared with the field that belongs to it."""
    made = (await put(grpc, b"cmp", b"v")).header.revision
    fields: list[dict[str, Any]] = [
        {"target": 0, "version": 1},
        {"target": 1, "create_revision": made},
        {"target": 2, "mod_revision": made},
        {"target": 3, "value": b"v"},
        {"target": 4, "lease": 0},
    ]
    for one in fields:
        for result, holds in ((0, True), (3, False)):
            request = METHODS[f"{KV}Txn"].request()
            request.compare.add(result=result, key=b"cmp", **one)
            assert (await grpc.ask(f"{KV}Txn", request)).succeeded is holds, one


async def test_compaction_refuses_what_it_took(grpc: Grpc) -> None:
    """What is compacted or still to come is refused with etcd's code and text."""
    await put(grpc, b"compacted", b"1")
    now = (await put(grpc, b"compacted", b"2")).header.revision
    answer = await grpc.call(f"{KV}Compact", revision=now)
    assert answer.header.revision == now
    gone = (11, "etcdserver: mvcc: required revision has been compacted")
    future = (11, "etcdserver: mvcc: required revision is a future revision")
    assert await refused(grpc, "Range", key=b"compacted", revision=now - 1) == gone
    assert await refused(grpc, "Compact", revision=now) == gone
    assert await refused(grpc, "Compact", revision=-1) == gone
    assert await refused(grpc, "Compact", revision=now + 9) == future
    assert await refused(grpc, "Range", key=b"compacted", revision=now + 9) == future


@pytest.mark.parametrize(
    ("name", "fields", "code", "text"),
    [
        ("Put", {}, 3, "etcdserver: key is not provided"),
        ("Range", {}, 3, "etcdserver: key is not provided"),
        ("DeleteRange", {}, 3, "etcdserver: key is not provided"),
        ("Put", {"key": b"k", "lease": 5}, 5, "etcdserver: requested lease not found"),
        ("Put", {"key": b"k", "lease": -5}, 5, "etcdserver: requested lease not found"),
        (
            "Put",
            {"key": b"k", "value": b"v", "ignore_value": True},
            3,
            "etcdserver: value is provided",
        ),
        (
            "Put",
            {"key": b"k", "lease": 1, "ignore_lease": True},
            3,
            "etcdserver: lease is provided",
        ),
        ("Put", {"key": b"none", "ignore_value": True}, 3, "etcdserver: key not found"),
        ("Range", {"key": b"k", "sort_order": 9}, 3, "etcdserver: invalid sort option"),
    ],
)
async def test_wrong_requests_get_etcds_words(
    grpc: Grpc, name: str, fields: dict[str, Any], code: int, text: str
) -> None:
    """What is wrong with a request is told with etcd's code and text."""
    assert await refused(grpc, name, **fields) == (code, text)


async def test_wrong_transactions_get_etcds_words(grpc: Grpc) -> None:
    """Too many operations, a key put twice and an operation of no kind are refused."""
    request = METHODS[f"{KV}Txn"].request()
    for number in range(129):
        request.success.add().request_put.key = b"%d" % number
    with pytest.raises(Refused, match="3: etcdserver: too many operations in txn request"):
        await grpc.ask(f"{KV}Txn", request)
    request = METHODS[f"{KV}Txn"].request()
    request.success.add().request_put.key = b"twice"
    request.success.add().request_put.key = b"twice"
    with pytest.raises(Refused, match="3: etcdserver: duplicate key given in txn request"):
        await grpc.ask(f"{KV}Txn", request)
    request = METHODS[f"{KV}Txn"].request()
    request.success.add()
    with pytest.raises(Refused, match="3: etcdserver: key not found"):
        await grpc.ask(f"{KV}Txn", request)


async def test_large_requests_have_a_limit(grpc: Grpc) -> None:
    """A request of more than 1.5 MiB is refused by etcd's text, one of 2 MiB by its size."""
    assert (await put(grpc, b"large", b"x" * 1_500_000)).header.revision
    assert (await grpc.call(f"{KV}Range", key=b"large")).kvs[0].value == b"x" * 1_500_000
    too_large = (3, "etcdserver: request is too large")
    assert await refused(grpc, "Put", key=b"large", value=b"x" * 1_572_864) == too_large
    code, text = await refused(grpc, "Put", key=b"large", value=b"x" * 2_200_000)
    assert code == 8
    assert text.startswith("grpc: received message larger than max (2200")


async def test_calls_of_one_connection_overlap(grpc: Grpc, member: Running) -> None:
    """Many calls of one connection are under way at once, and every one gets its answer."""
    before = member.node.revision
    answers = await asyncio.gather(*(put(grpc, b"o/%d" % n) for n in range(500)))
    revisions = sorted(answer.header.revision for answer in answers)
    assert revisions == list(range(before + 1, before + 501))
    found = await grpc.call(f"{KV}Range", key=b"o/", range_end=b"o0")
    assert found.count == 500


async def test_large_ranges_come_whole(grpc: Grpc) -> None:
    """A range of many keys is read in slices and comes whole."""
    request = METHODS[f"{KV}Txn"].request
    for part in range(60):
        one = request()
        for number in range(100):
            operation = one.success.add().request_put
            operation.key, operation.value = b"many/%05d" % (part * 100 + number), b"x" * 50
        await grpc.ask(f"{KV}Txn", one)
    found = await grpc.call(f"{KV}Range", key=b"many/", range_end=b"many0")
    assert found.count == len(found.kvs) == 6000
    assert [kv.key for kv in found.kvs] == sorted(kv.key for kv in found.kvs)
