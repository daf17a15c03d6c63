"""The revisioned keyspace: what is replicated, as plain data and rules.

Pure: no clock, no I/O, no randomness, no threads; time, ids and limits arrive as arguments. Its
semantics are those of etcd v3: every entry that changes a key makes one revision, old revisions
stay readable until they are compacted, and watches see every change in order.

- `Keyspace` holds the published state; `Keyspace.begin` opens the `Transaction` of one log entry.
- `check.check` refuses before an operation is proposed what can never succeed.
- `WatchHub` delivers what was committed to those who watch it.
- `Loader` rebuilds a keyspace from what the state database keeps.
"""

from __future__ import annotations

from . import check, refusals
from .execute import only_reads
from .history import RevisionLog, TimeIndex
from .keyspace import Keyspace, Meta, PastEvents
from .leases import PLAIN, SESSION, TTL_MS_MAX, Lease, LeaseTable
from .load import Loader
from .ranges import PendingRange, Steps, drain
from .records import (
    FROM_KEY,
    OVERHEAD_BYTES,
    SPACES,
    SYSTEM,
    USER,
    Events,
    Place,
    Row,
    RowDigest,
    Version,
    prefix_end,
    row_of,
)
from .transaction import Commit, LeaseChange, Transaction
from .watch import WatchHub
from .watcher import EncodedBatch, Fetch, Lag, Sink, State, Watcher

__all__ = [
    "FROM_KEY",
    "OVERHEAD_BYTES",
    "PLAIN",
    "SESSION",
    "SPACES",
    "SYSTEM",
    "TTL_MS_MAX",
    "USER",
    "Commit",
    "EncodedBatch",
    "Fetch",
    "Lag",
    "Sink",
    "State",
    "WatchHub",
    "Watcher",
    "Events",
    "Keyspace",
    "Lease",
    "LeaseChange",
    "LeaseTable",
    "Loader",
    "Meta",
    "PastEvents",
    "PendingRange",
    "Place",
    "RevisionLog",
    "Row",
    "RowDigest",
    "Steps",
    "TimeIndex",
    "Transaction",
    "Version",
    "check",
    "drain",
    "only_reads",
    "prefix_end",
    "refusals",
    "row_of",
]
