"""What v3lock and v3election have in common: etcd's own recipe on user keys.

Whoever wants something puts a key ``name/lease`` under its lease and waits until every key of
that prefix that was created before it is gone.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.holdings import check_lease
from coordinator.api.permits import authorize
from coordinator.etcd.permits import execute, propose
from coordinator.etcd.status import SESSION_EXPIRED, told
from coordinator.keyspace import check
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Event,
    KeyValue,
    LeaseGrant,
    Put,
    PutResult,
    Range,
    RangeResult,
    SortOrder,
    SortTarget,
    Txn,
    TxnResult,
    Watch,
)

if TYPE_CHECKING:
    from coordinator.etcd.calls import Call, Shared

SESSION_TTL_S: Final = 60
"""Of the lease of a call that brings none."""


def prefix_end(prefix: bytes) -> bytes:
    """Give the end of the range of all keys with a prefix."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b"\0"


AGAIN_MS: Final = 1000
"""Stands for the TTL when it could not be learnt."""


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


class Recipe:
    """One caller's part in a recipe.

    Args:
        shared: What all services work with.
        call: Through which it is asked for.
        name: Of the lock or election.
    """

    def __init__(self, shared: Shared, call: Call, name: bytes) -> None:
        self._node = shared.node
        self._limits = shared.limits
        self._streams = shared.streams
        self._call = call
        self.prefix = name + b"/"
        self._end = prefix_end(self.prefix)

    async def change(self, op: Any) -> Any:
        """Propose an operation and wait for its result.

        Raises:
            CoordinatorError: It was refused.
        """
        check.check(op, strict=False)
        return (await execute(self._node, self._call.caller, op)).result

    async def read(self, op: Range) -> RangeResult:
        """Read, linearizably.

        Raises:
            CoordinatorError: It cannot be read.
        """
        ready: asyncio.Future[CoordinatorError | None] = asyncio.get_running_loop().create_future()
        self._node.read(partial(_settle, ready))
        error = await ready
        if error is not None:
            raise error
        authorize(self._node, self._call.caller, op)
        found = self._node.keyspace.range(op)
        assert isinstance(found, RangeResult), "the present needs no values of the past"
        return found

    def judge(self) -> None:
        """Refuse a caller who may not look at the keys.

        Raises:
            CoordinatorError: It may not.
        """
        authorize(self._node, self._call.caller, Watch(self.prefix, self._end))

    async def ensure_lease(self, lease: int) -> int:
        """Give the lease, or a new one if there is none.

        Raises:
            CoordinatorError: It cannot be granted; the user has too many leases, for one.
        """
        if lease:
            return lease
        check_lease(self._node, self._call.caller, self._limits)
        body = LeaseGrant(SESSION_TTL_S * 1000, secrets.randbits(62) + 1)
        return int((await execute(self._node, self._call.caller, body)).result.lease)

    async def enter(self, lease: int, value: bytes) -> tuple[bytes, int, int]:
        """Put the key, unless it is there already.

        Returns:
            The key, its create revision, and the revision of the answer.

        Raises:
            CoordinatorError: The lease does not exist, for one.
        """
        key = self.prefix + b"%x" % lease
        absent = Compare(int(CompareTarget.CREATE), int(CompareResult.EQUAL), key)
        txn = Txn([absent], [Put(key, value, lease)], [Range(key)])
        result: TxnResult = await self.change(txn)
        first = result.responses[0]
        if isinstance(first, PutResult):
            return key, result.revision, result.revision
        assert isinstance(first, RangeResult)
        if first.kvs and first.kvs[0].value != value:
            await self.change(Put(key, value, lease))
        return key, first.kvs[0].create_revision, result.revision

    async def wait_turn(self, key: bytes, created: int, lease: int) -> int:
        """Wait until every earlier key is gone, keeping the lease alive meanwhile.

        Args:
            key: The own key.
            created: Its create revision.
            lease: Its lease.

        Returns:
            The revision at which that was seen.

        Raises:
            Exhausted: The user has too many streams; a call that waits is one.
            StatusError: The own key is gone.
        """
        waiting = _Waiting(self, self._call)
        self._streams.add(waiting)
        keeping = asyncio.ensure_future(self._keep(lease))
        try:
            while True:
                found = await self.read(
                    Range(
                        self.prefix,
                        self._end,
                        limit=1,
                        sort_order=int(SortOrder.DESCEND),
                        sort_target=int(SortTarget.CREATE),
                        max_create_revision=created - 1,
                    )
                )
                if not found.kvs:
                    break
                await self.gone(found.kvs[0].key, found.revision + 1)
        finally:
            self._streams.remove(waiting)
            keeping.cancel()
        own = await self.read(Range(key))
        if not own.kvs or own.kvs[0].create_revision != created:
            raise told(SESSION_EXPIRED)
        return own.revision

    async def leave(self, key: bytes, created: int) -> None:
        """Take the own key away again: its owner waits no more."""
        same = Compare(int(CompareTarget.CREATE), int(CompareResult.EQUAL), key, created)
        propose(self._node, self._call.caller, Txn([same], [Delete(key)]), lambda outcome: None)

    async def first(self) -> KeyValue | None:
        """Give the key that was created first: the owner's."""
        return (await self.first_at())[0]

    async def first_at(self) -> tuple[KeyValue | None, int]:
        """Give the owner's key, and the revision at which it was read."""
        found = await self.read(
            Range(
                self.prefix,
                self._end,
                limit=1,
                sort_order=int(SortOrder.ASCEND),
                sort_target=int(SortTarget.CREATE),
            )
        )
        return (found.kvs[0] if found.kvs else None), found.revision

    async def gone(self, key: bytes, start_revision: int) -> None:
        """Wait until a key is deleted."""
        await self.changed(Watch(key, start_revision=start_revision, no_put=True))

    async def changed(self, op: Watch) -> list[Event]:
        """Wait for the next events of a watch; none if history is gone before they were told."""
        authorize(self._node, self._call.caller, op)
        told_: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
        hub = self._node.hub
        watcher = hub.watch_local(
            op,
            lambda revision, events: _settle(told_, events),
            lambda compact_revision: _settle(told_, []),
        )
        if hub.is_lagging:
            self._node.catch_up()
        try:
            return await told_
        finally:
            hub.cancel(watcher.sink, watcher.stream)

    async def _keep(self, lease: int) -> None:
        """Renew the lease while its owner waits."""
        while True:
            ttl_ms: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            def done(ttls: list[int] | CoordinatorError, ttl: Any = ttl_ms) -> None:
                _settle(ttl, AGAIN_MS if isinstance(ttls, CoordinatorError) else ttls[0])

            self._node.keepalive([lease], done)
            left = await ttl_ms
            if left <= 0:
                return
            await asyncio.sleep(left / 3000)


class _Waiting:
    """A call that waits for its turn."""

    def __init__(self, recipe: Recipe, call: Call) -> None:
        self._recipe = recipe
        self.call = call

    def judge(self) -> int:
        """End if the caller may not look at the keys any more."""
        try:
            self._recipe.judge()
        except CoordinatorError as error:
            self.call.fail(error)
        return 1

    def lose(self, error: CoordinatorError) -> None:
        """End."""
        self.call.fail(error)
