"""The errors of the keyspace, with the texts that etcd's clients match byte for byte.

Pure. Each function builds one error; ``field`` names the field of the request that is wrong.
"""

from __future__ import annotations

from coordinator_sdk.errors import (
    AlreadyExists,
    Compacted,
    FutureRevision,
    Internal,
    InvalidRequest,
    LeaseNotFound,
)


def empty_key(field: str = "key") -> InvalidRequest:
    """A key is required and empty."""
    return InvalidRequest("etcdserver: key is not provided", field=field)


def key_not_found(field: str = "key") -> InvalidRequest:
    """An operation needs the key to exist."""
    return InvalidRequest("etcdserver: key not found", field=field)


def value_provided(field: str = "value") -> InvalidRequest:
    """``ignore_value`` came with a value."""
    return InvalidRequest("etcdserver: value is provided", field=field)


def lease_provided(field: str = "lease") -> InvalidRequest:
    """``ignore_lease`` came with a lease."""
    return InvalidRequest("etcdserver: lease is provided", field=field)


def too_many_operations(field: str, limit: int) -> InvalidRequest:
    """A transaction has more compares or operations than are allowed."""
    return InvalidRequest(
        "etcdserver: too many operations in txn request", field=field, limit=limit
    )


def duplicate_key(field: str) -> InvalidRequest:
    """A transaction writes a key twice in one branch."""
    return InvalidRequest("etcdserver: duplicate key given in txn request", field=field)


def invalid_sort(field: str) -> InvalidRequest:
    """A sort order or target is not known."""
    return InvalidRequest("etcdserver: invalid sort option", field=field)


def empty_watch_range(field: str = "range_end") -> InvalidRequest:
    """A watch covers no key."""
    return InvalidRequest("mvcc: watcher range is empty", field=field)


def future_revision(revision: int, current: int, field: str = "revision") -> FutureRevision:
    """A revision is above the current one."""
    return FutureRevision(
        "etcdserver: mvcc: required revision is a future revision",
        field=field,
        revision=revision,
        current_revision=current,
    )


def compacted(compact_revision: int) -> Compacted:
    """A revision is below the compact revision."""
    return Compacted(
        "etcdserver: mvcc: required revision has been compacted",
        compact_revision=compact_revision,
    )


def lease_not_found(lease: int, field: str = "lease") -> LeaseNotFound:
    """No such lease."""
    return LeaseNotFound(
        "etcdserver: requested lease not found", field=field, lease=f"{lease:016x}"
    )


def lease_exists(lease: int) -> AlreadyExists:
    """A lease id is taken."""
    return AlreadyExists("etcdserver: lease already exists", field="lease", lease=f"{lease:016x}")


def lease_ttl_too_large(limit_ms: int) -> InvalidRequest:
    """A TTL is above the largest one."""
    return InvalidRequest("etcdserver: too large lease TTL", field="ttl_ms", limit=limit_ms)


def damaged(message: str) -> Internal:
    """Rows that contradict each other: the state database cannot be trusted."""
    return Internal(message)
