"""The keyspace's vocabulary: records, operations, compares, events.

The same structs are what a client sends, what lies in the replicated log, and what the
keyspace executes. All are arrays on the wire; fields are only ever appended.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Union

import msgspec
from msgspec import Struct

Id = Annotated[int, msgspec.Meta(extra={"id": True})]
"""A positive int63: a number in MessagePack, 16 hexadecimal digits in JSON."""


class SortOrder(IntEnum):
    """Order of a range's records."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(IntEnum):
    """What a range's records are ordered by."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class CompareResult(IntEnum):
    """The relation a compare asks for."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class CompareTarget(IntEnum):
    """The field of a record that a compare looks at."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class EventType(IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class KeyValue(Struct, array_like=True, gc=False):
    """One version of one key. Treated as immutable: a change makes a new one."""

    key: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: Id = 0
    value: bytes = b""


class Event(Struct, array_like=True, gc=False):
    """One change of one key, as a watch reports it."""

    type: int
    kv: KeyValue
    prev_kv: KeyValue | None = None


class Guard(Struct, array_like=True):
    """Proof of ownership that the state machine checks before it writes.

    Attributes:
        kind: Domain of the token: ``locks`` or ``elections``.
        namespace: Namespace of the lock or election.
        name: Its name.
        token: The fencing token, that is, the create revision of the holder record.
        session: The session that holds it.
        owner: The owner within the session.
    """

    kind: str
    namespace: str
    name: str
    token: int
    session: Id
    owner: str


class Put(Struct, array_like=True, tag="kv.put"):
    """Write one key."""

    key: bytes
    value: bytes = b""
    lease: Id = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False
    guard: Guard | None = None


class Range(Struct, array_like=True, tag="kv.range"):
    r"""Read one key, or the keys from ``key`` up to but not including ``range_end``.

    ``range_end`` empty means one key, ``b"\0"`` means every key from ``key`` on. ``limit``
    0 means no limit; ``revision`` 0 means now. ``serializable``, ``max_staleness_ms`` and
    ``min_revision`` matter only at the top level, not inside a transaction.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    sort_order: int = 0
    sort_target: int = 0
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0
    serializable: bool = False
    max_staleness_ms: int = 0
    min_revision: int = 0
    space: int = 0
    """0: user keys; 1: the system keys of the domains (read only)."""


class Delete(Struct, array_like=True, tag="kv.delete"):
    """Delete one key or a range of keys."""

    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False
    guard: Guard | None = None


class Compare(Struct, array_like=True):
    """One condition of a transaction.

    ``number`` is compared for the targets VERSION, CREATE, MOD and LEASE, ``value`` for
    VALUE. With ``range_end``, every key of the range must satisfy it.
    """

    target: int
    result: int
    key: bytes
    number: int = 0
    value: bytes = b""
    range_end: bytes = b""


Op = Union[Put, Range, Delete, "Txn"]


class Txn(Struct, array_like=True, tag="kv.txn"):
    """Compare, then run one of two branches, atomically and in one revision."""

    compare: list[Compare] = []
    success: list[Put | Range | Delete | Txn] = []
    failure: list[Put | Range | Delete | Txn] = []
    guard: Guard | None = None


class Compact(Struct, array_like=True, tag="kv.compact"):
    """Forget the history below ``revision``."""

    revision: int
    physical: bool = False


class PutResult(Struct, array_like=True, tag="put"):
    """Answer to `Put`."""

    revision: int
    prev_kv: KeyValue | None = None


class RangeResult(Struct, array_like=True, tag="range"):
    """Answer to `Range`; ``count`` is the number of keys before limit and filters."""

    revision: int
    kvs: list[KeyValue] = []
    more: bool = False
    count: int = 0


class DeleteResult(Struct, array_like=True, tag="delete"):
    """Answer to `Delete`."""

    revision: int
    deleted: int = 0
    prev_kvs: list[KeyValue] = []


class TxnResult(Struct, array_like=True, tag="txn"):
    """Answer to `Txn`: which branch ran, and the answers of its operations in order."""

    revision: int
    succeeded: bool = False
    responses: list[PutResult | RangeResult | DeleteResult | TxnResult] = []


class CompactResult(Struct, array_like=True):
    """Answer to `Compact`."""

    revision: int


class Watch(Struct, array_like=True, tag="watch.create"):
    """Open a stream of the changes of a key or range.

    The stream is named by the id of this request. ``start_revision`` 0 means from now on.
    ``credit`` is how many events the server may send before the client grants more with
    `Credit`; 0 means no limit beyond the server's own buffer.
    """

    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    progress: bool = False
    credit: int = 0
    space: int = 0


class Credit(Struct, array_like=True, tag="stream.credit"):
    """Grant a stream that many more events or messages. No answer is sent."""

    stream: int
    amount: int


class Cancel(Struct, array_like=True, tag="stream.cancel"):
    """End a stream or give up a pending call of this connection."""

    stream: int


class Progress(Struct, array_like=True, tag="watch.progress"):
    """Ask for a progress notice of a watch: its position, without waiting for a change."""

    stream: int


class WatchEvents(Struct, array_like=True, tag="events"):
    """The changes of one or more whole revisions, in order."""

    revision: int
    events: list[Event]


class WatchProgress(Struct, array_like=True, tag="progress"):
    """Every event up to and including ``revision`` has been sent."""

    revision: int


class WatchCancelled(Struct, array_like=True, tag="cancelled"):
    """The server ended the watch. ``compact_revision`` is set if history was gone."""

    code: str
    message: str
    compact_revision: int = 0


WatchItem = WatchEvents | WatchProgress | WatchCancelled


class LeaseGrant(Struct, array_like=True, tag="leases.grant"):
    """Create a lease. ``lease`` 0 lets the server choose the id."""

    ttl_ms: int
    lease: Id = 0


class LeaseRevoke(Struct, array_like=True, tag="leases.revoke"):
    """End a lease and delete its keys in one revision."""

    lease: Id


class LeaseKeepAlive(Struct, array_like=True, tag="leases.keepalive"):
    """Renew leases or sessions: each gets its full TTL from the arrival of this request."""

    leases: list[Id]


class LeaseTimeToLive(Struct, array_like=True, tag="leases.ttl"):
    """Ask how long a lease lives on."""

    lease: Id
    keys: bool = False


class LeaseList(Struct, array_like=True, tag="leases.list"):
    """List the plain leases (sessions are not among them)."""


class LeaseInfo(Struct, array_like=True):
    """A lease; ``remaining_ms`` is -1 if the lease does not exist."""

    lease: Id
    ttl_ms: int = 0
    remaining_ms: int = -1
    keys: list[bytes] = []


class LeaseGrantResult(Struct, array_like=True):
    """Answer to `LeaseGrant`."""

    lease: Id
    ttl_ms: int


class LeaseRevokeResult(Struct, array_like=True):
    """Answer to `LeaseRevoke`."""

    revision: int
    deleted: int = 0


class LeaseKeepAliveResult(Struct, array_like=True):
    """Answer to `LeaseKeepAlive`: per lease the TTL in ms, 0 if it does not exist."""

    ttls_ms: list[int]


class LeaseListResult(Struct, array_like=True):
    """Answer to `LeaseList`."""

    leases: list[LeaseInfo]
