"""Drives every call of aetcd against a member: drive_aetcd.py PORT."""

import asyncio
import sys
import tempfile

import aetcd
from driving import Recorder, equal


async def keys(client):
    equal(await client.get(b"none"), None)
    await client.put(b"k/a", b"1")
    answer = await client.put(b"k/a", b"2", prev_kv=True)
    equal(answer.prev_kv.value, b"1")
    equal((await client.get(b"k/a")).value, b"2")
    equal((await client.get(b"k/a", serializable=True)).value, b"2")
    await client.put(b"k/b", b"3")
    found = await client.get_prefix(b"k/", sort_order="descend")
    equal([one.key for one in found], [b"k/b", b"k/a"])
    equal([one.value for one in await client.get_range(b"k/a", b"k/b")], [b"2"])
    equal(len(list(await client.get_all(keys_only=True))), 2)
    equal(await client.replace(b"k/a", b"2", b"4"), True)
    equal(await client.replace(b"k/a", b"2", b"5"), False)
    ok, answers = await client.transaction(
        compare=[client.transactions.value(b"k/a") == b"4"],
        success=[client.transactions.put(b"k/c", b"5"), client.transactions.get(b"k/a")],
        failure=[client.transactions.delete(b"k/a")],
    )
    equal((ok, len(answers)), (True, 2))
    equal((await client.delete(b"k/c", prev_kv=True)).prev_kv.value, b"5")
    equal((await client.delete_range(b"k/b", b"k/c")).deleted, 1)
    equal((await client.delete_prefix(b"k/")).deleted, 1)


async def watches(client):
    watcher = await client.watch(b"w/a")
    await client.put(b"w/a", b"1")
    async for event in watcher:
        equal((event.kind, event.kv.value), (aetcd.EventKind.PUT, b"1"))
        break
    await watcher.cancel()
    watcher = await client.watch_prefix(b"w/", prev_kv=True)
    await client.delete(b"w/a")
    async for event in watcher:
        equal((event.kind, event.prev_kv.value), (aetcd.EventKind.DELETE, b"1"))
        break
    await watcher.cancel()
    revision = (await client.put(b"w/b", b"2")).header.revision
    once = await client.watch_once(b"w/b", timeout=10, start_revision=revision)
    equal(once.kv.value, b"2")
    once = await client.watch_prefix_once(b"w/", timeout=10, start_revision=revision)
    equal(once.kv.key, b"w/b")
    await client.compact(revision, physical=True)
    # It hands out this error as if it were an event.
    gone = await client.watch_once(b"w/b", timeout=10, start_revision=1)
    equal(isinstance(gone, aetcd.RevisionCompactedError), True)
    equal(gone.compacted_revision, revision)


async def leases(client):
    lease = await client.lease(60)
    await client.put(b"l/a", b"1", lease=lease)
    info = await client.get_lease_info(lease.id)
    equal((info.grantedTTL, list(info.keys)), (60, [b"l/a"]))
    await client.refresh_lease(lease.id)
    await lease.refresh()
    equal(await lease.granted_ttl(), 60)
    await client.revoke_lease(lease.id)
    equal(await client.get(b"l/a"), None)
    try:
        await client.lease(60, lease_id=77)
        await client.lease(60, lease_id=77)
    except aetcd.DuplicateLeaseError:
        pass
    else:
        raise AssertionError("a lease is granted twice")
    async with client.lock(b"lock", ttl=10) as lock:
        equal(await lock.is_acquired(), True)
        other = client.lock(b"lock", ttl=10)
        equal(await other.acquire(timeout=0.2), False)
    equal(await lock.is_acquired(), False)


async def cluster(client):
    members = [one async for one in client.members()]
    equal(len(members), 3)
    added = await client.add_member(["http://127.0.0.1:1"])
    await client.update_member(added.id, ["http://127.0.0.1:2"])
    await client.remove_member(added.id)
    status = await client.status()
    equal(status.leader.id in {one.id for one in members}, True)
    equal(status.version, "3.4.23")
    await client.create_alarm()
    equal([one.alarm_type async for one in client.list_alarms()], [1])
    await client.disarm_alarm()
    equal([one async for one in client.list_alarms()], [])
    equal(isinstance(await client.hash(), int), True)
    await client.defragment()
    with tempfile.TemporaryFile() as file:
        await client.snapshot(file)
        equal(file.tell() > 1000, True)


async def main(port):
    client = Recorder(aetcd.Client(host="127.0.0.1", port=port, timeout=20))
    await client.connect()
    for part in (keys, watches, leases, cluster):
        await part(client)
    await client.close()
    client.tell()


asyncio.run(main(int(sys.argv[1])))
