"""Drives etcd-client-py, on etcd's client in Rust: drive_etcd_client.py PORT."""

import asyncio
import sys

from driving import Recorder, equal
from etcd_client import (
    Client,
    Compare,
    CompareOp,
    CondVar,
    EtcdLockOption,
    Txn,
    TxnOp,
    WatchEventType,
)


async def drive(port):
    client = Client([f"http://127.0.0.1:{port}"])
    async with client.connect() as inner:
        # It grants leases without telling their ids, so that nothing can be done with one.
        without = "leases have no ids here"
        etcd = Recorder(
            inner,
            lease_grant=without,
            lease_keep_alive=without,
            lease_revoke=without,
            lease_time_to_live=without,
        )
        equal(await etcd.get(b"none"), None)
        await etcd.put(b"k/a", b"1")
        await etcd.put(b"k/b", b"2")
        equal(bytes(await etcd.get(b"k/a")), b"1")
        found = await etcd.get_prefix(b"k/")
        equal([(bytes(k), bytes(v)) for k, v in found], [(b"k/a", b"1"), (b"k/b", b"2")])
        equal([bytes(one) for one in await etcd.keys_prefix(b"k/")], [b"k/a", b"k/b"])
        txn = (
            Txn()
            .when([Compare.value(b"k/a", CompareOp.EQUAL, b"1")])
            .and_then([TxnOp.put(b"k/c", b"3"), TxnOp.get(b"k/a")])
            .or_else([TxnOp.delete(b"k/a")])
        )
        equal((await etcd.txn(txn)).succeeded(), True)
        await etcd.delete(b"k/c")
        await etcd.delete_prefix(b"k/")
        equal(await etcd.get(b"k/a"), None)
        for name, key in (("watch", b"w/a"), ("watch_prefix", b"w/")):
            ready = CondVar()
            seen = []

            async def watching(name=name, key=key, ready=ready, seen=seen):
                async for event in getattr(etcd, name)(key, ready_event=ready):
                    seen.append((event.event, bytes(event.key)))
                    if len(seen) == 2:
                        return

            task = asyncio.ensure_future(watching())
            await ready.wait()
            await etcd.put(b"w/a", b"1")
            await etcd.delete(b"w/a")
            await asyncio.wait_for(task, 20)
            equal(seen, [(WatchEventType.PUT, b"w/a"), (WatchEventType.DELETE, b"w/a")])
        await etcd.lock(b"raw")
        (key,) = await etcd.keys_prefix(b"raw/")
        await etcd.unlock(key)
        equal(await etcd.keys_prefix(b"raw/"), [])
        etcd.tell()
    option = EtcdLockOption(lock_name=b"mine", timeout=5.0, ttl=10)
    async with client.with_lock(option) as etcd:
        await etcd.put(b"k/locked", b"1")


asyncio.run(drive(int(sys.argv[1])))
