"""Keys: put, get, range, delete, transactions, compaction and watches."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ._connection import Connection, decoder
from ._keys import (
    Bytes,
    Guarding,
    Identified,
    key_range,
    lease_id,
    to_bytes,
    to_guard,
    to_milliseconds,
)
from ._modes import CHANGE
from ._reader import Reader
from ._streams import CREDIT_ITEMS, Event, SyntheticEvent, WatchStream
from .errors import ClientClosed, Compacted, FutureRevision, InvalidRequest
from .protocol.kv import (
    Compact,
    CompactResult,
    Compare,
    Delete,
    DeleteResult,
    EventType,
    Guard,
    KeyValue,
    Progress,
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
    from collections.abc import Sequence

    from .ops import Op

__all__ = ["KV", "KeyWatch"]

_PUT = decoder(PutResult)
_RANGE = decoder(RangeResult)
_DELETE = decoder(DeleteResult)
_TXN = decoder(TxnResult)
_COMPACT = decoder(CompactResult)
_NOTHING = decoder(Any)
_ASK_AGAIN_S: Final = 0.02

SortBy = Literal["key", "version", "create", "mod", "value"]
_TARGETS = {
    "key": SortTarget.KEY,
    "version": SortTarget.VERSION,
    "create": SortTarget.CREATE,
    "mod": SortTarget.MOD,
    "value": SortTarget.VALUE,
}


class KV:
    """The keyspace; `Client.kv`.

    Keys and values are ``bytes``; text is encoded as UTF-8. Every write takes a ``guard``: a
    held lock or leadership without which the cluster refuses the write.
    """

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def put(
        self,
        key: Bytes,
        value: Bytes = b"",
        *,
        lease: int | Identified = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        guard: Guarding | Guard | None = None,
    ) -> PutResult:
        """Write one key.

        Args:
            key: The key.
            value: Its new value.
            lease: The lease that the key hangs on, or its id; 0 for none.
            prev_kv: Whether to return the record as it was before.
            ignore_value: Keep the value as it is, and change only the lease.
            ignore_lease: Keep the lease as it is, and change only the value.
            guard: A held lock or leadership; the write is refused if it is not held any more.

        Returns:
            The revision of the write, and the previous record if asked for.

        Raises:
            GuardFailed: The guard's token is stale; nothing was written.
            LeaseNotFound: There is no such lease.
            NoSpace: The quota is used up.
            OutcomeUnknown: No answer came; it may have been written.
        """
        body = Put(
            key if type(key) is bytes else to_bytes(key, "key"),
            value if type(value) is bytes else to_bytes(value, "value"),
            lease if type(lease) is int else lease_id(lease),
            prev_kv,
            ignore_value,
            ignore_lease,
            None if guard is None else to_guard(guard),
        )
        return await self._link.call(body, _PUT, CHANGE)

    async def get(
        self,
        key: Bytes,
        *,
        revision: int = 0,
        serializable: bool = False,
        max_staleness: float = 0,
    ) -> KeyValue | None:
        """Read one key.

        Args:
            key: The key.
            revision: Read it as it was at this revision; 0 for now.
            serializable: Let any member answer from what it has. Never older than what this
                client has seen before.
            max_staleness: With ``serializable``, how old the answer may be, in seconds; 0 for
                no bound.

        Returns:
            The record, or None if the key does not exist.

        Raises:
            Compacted: History at ``revision`` is gone.
            FutureRevision: ``revision`` does not exist yet.
        """
        link = self._link
        body = Range(
            key if type(key) is bytes else to_bytes(key, "key"),
            revision=revision,
            serializable=serializable,
            max_staleness_ms=to_milliseconds(max_staleness, "max_staleness")
            if max_staleness
            else 0,
            min_revision=link.session.revision,
        )
        kvs = (await link.call(body, _RANGE)).kvs
        return kvs[0] if kvs else None

    async def range(
        self,
        key: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        range_end: Bytes | None = None,
        limit: int = 0,
        revision: int = 0,
        sort_by: SortBy | None = None,
        descending: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        serializable: bool = False,
        max_staleness: float = 0,
        system: bool = False,
    ) -> RangeResult:
        r"""Read a range of keys, all at one revision.

        Args:
            key: The first key; the only one without ``range_end``.
            prefix: Instead of ``key``: all keys that begin with it; empty for all keys.
            range_end: The first key that is no longer part of it; ``b"\0"`` for no end.
            limit: At most so many records; 0 for all.
            revision: Read as it was at this revision; 0 for now.
            sort_by: What to order by; the key's bytes unless given.
            descending: Whether to order from high to low.
            keys_only: Leave the values out.
            count_only: Leave the records out.
            min_mod_revision: Only records last written at or after it.
            max_mod_revision: Only records last written at or before it.
            min_create_revision: Only records created at or after it.
            max_create_revision: Only records created at or before it.
            serializable: See `get`.
            max_staleness: See `get`.
            system: Look at the records of locks, services and the like instead of user keys.

        Returns:
            The records, their total number, and whether ``limit`` cut any off.

        Raises:
            Compacted: History at ``revision`` is gone.
            FutureRevision: ``revision`` does not exist yet.
        """
        start, end = key_range(key, prefix, range_end)
        order = SortOrder.NONE
        if sort_by is not None or descending:
            order = SortOrder.DESCEND if descending else SortOrder.ASCEND
        body = Range(
            start,
            end,
            limit,
            revision,
            order,
            _TARGETS[sort_by or "key"],
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
            serializable,
            to_milliseconds(max_staleness, "max_staleness"),
            self._link.session.revision,
            1 if system else 0,
        )
        return await self._link.call(body, _RANGE)

    async def delete(
        self,
        key: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        range_end: Bytes | None = None,
        prev_kv: bool = False,
        guard: Guarding | Guard | None = None,
    ) -> DeleteResult:
        """Delete one key or a range of keys, in one revision.

        Args:
            key: The first key; the only one without ``range_end``.
            prefix: Instead of ``key``: all keys that begin with it.
            range_end: The first key that is no longer part of it.
            prev_kv: Whether to return the records as they were.
            guard: See `put`.

        Returns:
            How many keys were deleted, and their records if asked for.

        Raises:
            GuardFailed: The guard's token is stale; nothing was deleted.
            OutcomeUnknown: No answer came; they may have been deleted.
        """
        start, end = key_range(key, prefix, range_end)
        return await self._link.call(Delete(start, end, prev_kv, to_guard(guard)), _DELETE, CHANGE)

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        guard: Guarding | Guard | None = None,
    ) -> TxnResult:
        """Compare, then run one of two lists of operations, atomically and in one revision.

        Args:
            compare: Conditions, made with `coordinator_sdk.ops`, that must all hold.
            success: Operations to run if they do.
            failure: Operations to run if they do not.
            guard: See `put`; it covers every write of the transaction.

        Returns:
            Which list ran, and the answers of its operations in order.

        Raises:
            GuardFailed: The guard's token is stale; nothing was done.
            InvalidRequest: Too many operations, or a key written twice.
            OutcomeUnknown: No answer came; it may have been applied.
        """
        body = Txn(list(compare), list(success), list(failure), to_guard(guard))
        return await self._link.call(body, _TXN, CHANGE)

    async def compact(self, revision: int, *, physical: bool = False) -> CompactResult:
        """Forget the history below a revision.

        Args:
            revision: The oldest revision that can still be read afterwards.
            physical: Whether to wait until the space is free.

        Raises:
            Compacted: It has been compacted already.
            FutureRevision: The revision does not exist yet.
        """
        return await self._link.call(Compact(revision, physical), _COMPACT, CHANGE)

    def watch(
        self,
        key: Bytes | None = None,
        *,
        prefix: Bytes | None = None,
        range_end: Bytes | None = None,
        start_revision: int = 0,
        prev_kv: bool = False,
        puts: bool = True,
        deletes: bool = True,
        resync: bool = False,
        system: bool = False,
        credit: int = CREDIT_ITEMS,
    ) -> KeyWatch:
        """Follow the changes of a key or range, each once and in order.

        Example::

            async with client.kv.watch(prefix="config/") as watch:
                async for event in watch:
                    print(event.key, event.value if event.is_put else None)

        Args:
            key: The first key; the only one without ``range_end``.
            prefix: Instead of ``key``: all keys that begin with it.
            range_end: The first key that is no longer part of it.
            start_revision: The first revision to report; 0 for what happens from now on.
            prev_kv: Whether events carry the record as it was before.
            puts: Whether to report writes.
            deletes: Whether to report deletions.
            resync: What to do when the history that comes next is gone: False raises
                `Compacted`; True goes on with *synthetic* events that lead from what was
                seen to the state now.
            system: Watch the records of locks, services and the like instead of user keys.
            credit: How many events the server may send ahead of the reader.

        Returns:
            An asynchronous iterator of events.
        """
        start, end = key_range(key, prefix, range_end)
        body = Watch(
            start,
            end,
            start_revision,
            prev_kv,
            no_put=not (puts or resync),
            no_delete=not (deletes or resync),
            space=1 if system else 0,
        )
        return KeyWatch(self._link, body, credit, resync, puts, deletes)


class KeyWatch(Reader[Event]):
    """The changes of a key or range; made by `KV.watch`.

    Iterating raises `Compacted` when history that would come next is gone, unless the watch
    was made with ``resync=True``.
    """

    def __init__(
        self,
        link: Connection,
        body: Watch,
        credit: int,
        resync: bool,
        puts: bool,
        deletes: bool,
    ) -> None:
        stream = WatchStream(body, credit)
        super().__init__(link, stream)
        self._body, self._credit = body, credit
        self._resync, self._puts, self._deletes = resync, puts, deletes
        self._known: dict[bytes, int] | None = None
        self._synthetic: deque[Event] = deque()
        self._stream: WatchStream = stream
        self._resumed_before = 0
        self.resyncs = 0

    @property
    def resumes(self) -> int:
        """How often the watch was opened again after a broken connection."""
        return self._resumed_before + self._stream.resumes

    @property
    def next_revision(self) -> int:
        """The first revision that has not been received yet."""
        return self._stream.next_revision

    @property
    def unread(self) -> int:
        """How many events have been received and not read yet."""
        return len(self._stream.items) + len(self._synthetic)

    async def progress(self) -> int:
        """Ask how far the watch has come, without waiting for a change.

        Returns:
            A revision: every event up to it has been received, and can be read at once.

        Raises:
            ClientClosed: The watch is closed, or was never opened.
            CoordinatorError: What ended the watch.
        """
        while True:
            stream = self._stream
            if stream.error is not None:
                raise stream.error
            if stream.closed or not self._opened:
                raise ClientClosed("the watch is not open")
            asked, stream.noticed = stream.id, 0
            if stream.ready and asked:
                try:
                    await self._link.call(Progress(asked), _NOTHING)
                except InvalidRequest:
                    if stream.id == asked and not stream.done():
                        raise
                if stream.noticed:
                    return stream.noticed
            # It is being opened again, or stands behind: that takes what a connection takes.
            await asyncio.sleep(_ASK_AGAIN_S)

    async def open(self) -> Self:
        """Open the watch and wait until the server has confirmed it."""
        if self._resync and self._known is None:
            await self._learn()
        return await super().open()

    async def __anext__(self) -> Event:
        if not self._resync:
            event: Event = await self._next()
            return event
        if self._known is None:
            await self._learn()
        while True:
            event = await self._next_or_synthetic()
            assert self._known is not None
            if event.is_put:
                self._known[event.key] = event.revision
            else:
                self._known.pop(event.key, None)
            if self._puts if event.is_put else self._deletes:
                return event

    async def _next_or_synthetic(self) -> Event:
        while not self._synthetic:
            try:
                event: Event = await self._next()
            except Compacted:
                await self._resynchronise()
            else:
                return event
        return self._synthetic.popleft()

    async def _learn(self) -> None:
        """Find out which keys exist before the watch begins."""
        start = self._stream.next_revision
        try:
            result = await self._load(keys_only=True, revision=max(start - 1, 0))
        except FutureRevision:
            result = await self._load(keys_only=True, revision=0)
        except Compacted:
            self._known = {}
            return
        self._known = {kv.key: kv.mod_revision for kv in result.kvs}
        if not start:
            self._stream.next_revision = result.revision + 1

    async def _resynchronise(self) -> None:
        """Jump to the state now, and tell the difference."""
        known = self._known or {}
        result = await self._load(keys_only=False, revision=0)
        found = {kv.key: kv.mod_revision for kv in result.kvs}
        for key in known:
            if key not in found:
                gone = KeyValue(key, mod_revision=result.revision)
                self._synthetic.append(SyntheticEvent(EventType.DELETE, gone))
        for kv in sorted(result.kvs, key=lambda kv: kv.mod_revision):
            if known.get(kv.key, 0) < kv.mod_revision:
                self._synthetic.append(SyntheticEvent(EventType.PUT, kv))
        self.resyncs += 1
        self._resumed_before += self._stream.resumes
        self._link.close_stream(self._stream)
        self._stream = WatchStream(self._body, self._credit)
        self._stream.next_revision = result.revision + 1
        self._link.open(self._stream)

    async def _load(self, keys_only: bool, revision: int) -> RangeResult:
        body = Range(
            self._body.key,
            self._body.range_end,
            revision=revision,
            keys_only=keys_only,
            space=self._body.space,
        )
        return await self._link.call(body, _RANGE)
