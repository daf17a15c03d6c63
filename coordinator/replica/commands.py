"""The commands of the core: keys, leases, sessions, clients, timers, members."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from coordinator.keyspace import execute
from coordinator.keyspace.records import SYSTEM, USER, upper_bound
from coordinator.replica import membership
from coordinator.replica.auth_commands import AUTH
from coordinator.replica.entry import EntryTxn, check_id
from coordinator.replica.members import Member
from coordinator.replica.tickets import check_guard
from coordinator.sessions.commands import apply_close, apply_open
from coordinator.wire.command import (
    AlarmSet,
    LeaseContinue,
    LeaseExpire,
    MemberPublish,
    QuotaSet,
    Sweep,
    TimerFire,
)
from coordinator_sdk.errors import NoSpace, NotFound
from coordinator_sdk.protocol.cluster import ClientRegister, MemberChangeResult, MemberUpdate
from coordinator_sdk.protocol.kv import (
    Compact,
    CompactResult,
    Delete,
    DeleteResult,
    LeaseGrant,
    LeaseGrantResult,
    LeaseRevoke,
    LeaseRevokeResult,
    Put,
    PutResult,
    Range,
    Txn,
    TxnResult,
)
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen

if TYPE_CHECKING:
    from coordinator.replica.machine import Machine

LARGE = 1000
"""Keys from which on an entry is applied in slices."""


def apply_put(txn: EntryTxn, command: Put) -> PutResult:
    """Write one key."""
    if command.guard is not None:
        check_guard(txn, command.guard)
    return execute.put(txn.keys, command)


def apply_delete(txn: EntryTxn, command: Delete) -> DeleteResult:
    """Delete a key or range."""
    if command.guard is not None:
        check_guard(txn, command.guard)
    return cast("DeleteResult", txn.keys.execute(command))


def apply_txn(txn: EntryTxn, command: Txn) -> TxnResult:
    """Compare and run one branch."""
    _check_txn(txn, command)
    return cast("TxnResult", txn.keys.execute(command))


def _check_txn(txn: EntryTxn, command: Txn) -> None:
    """What the keyspace itself does not look at: guards and the quota."""
    _check_guards(txn, command)
    if txn.machine.is_full and _writes(command):
        raise NoSpace("etcdserver: mvcc: database space exceeded", limit="quota")


def _check_guards(txn: EntryTxn, command: Txn) -> None:
    """Every guard in the transaction must hold, whichever branch runs."""
    pending: list[Put | Range | Delete | Txn] = [command]
    while pending:
        op = pending.pop()
        if type(op) is Txn:
            pending += op.success
            pending += op.failure
        if type(op) is not Range and op.guard is not None:  # type: ignore[union-attr]
            check_guard(txn, op.guard)  # type: ignore[union-attr]


def _writes(command: Txn) -> bool:
    pending: list[Any] = [command]
    while pending:
        op = pending.pop()
        if type(op) is Put:
            return True
        if type(op) is Txn:
            pending += op.success
            pending += op.failure
    return False


def apply_compact(txn: EntryTxn, command: Compact) -> CompactResult:
    """Forget history. No part of a transaction: this entry's own, still empty, makes way."""
    keyspace = txn.machine.keyspace
    txn.keys.rollback()
    try:
        keyspace.compact(command.revision)
    finally:
        txn.keys = keyspace.begin(txn.meta.clock_ms)
    return CompactResult(keyspace.revision)


def apply_lease_grant(txn: EntryTxn, command: LeaseGrant) -> LeaseGrantResult:
    """Create a plain lease."""
    return LeaseGrantResult(command.lease, txn.grant_lease(command.lease, command.ttl_ms, "plain"))


def apply_lease_revoke(txn: EntryTxn, command: LeaseRevoke) -> LeaseRevokeResult:
    """End a plain lease; sessions are none of this call's business."""
    return txn.end_lease(0 if txn.session_exists(command.lease) else command.lease)


def apply_lease_expire(txn: EntryTxn, command: LeaseExpire) -> None:
    """End a lease whose time has passed, if the leader that saw it still led."""
    if _is_due(txn, command):
        txn.end_lease(command.lease)


def _is_due(txn: EntryTxn, command: LeaseExpire) -> bool:
    granted = txn.granted_at(command.lease)
    return command.term == txn.meta.term and granted == command.granted != 0


def apply_lease_continue(txn: EntryTxn, command: LeaseContinue) -> None:
    """Run hooks that did not fit into the entry that ended their lease."""
    machine = txn.machine
    pending = [machine.hooks.popleft() for _ in range(min(len(machine.hooks), LARGE))]
    machine.end_lease_hooks(txn, iter(pending))


def apply_timer_fire(txn: EntryTxn, command: TimerFire) -> None:
    """Run a timer, unless it has been changed since the leader saw it run out."""
    record = txn.machine.timers.records.get(command.key)
    if record is not None and record.generation == command.generation:
        txn.machine.fire_timer(txn, command.key, record)


def apply_client_register(txn: EntryTxn, command: ClientRegister) -> ClientRegister:
    """Give a client its id; known ones stay known."""
    check_id(command.client, "client")
    requests = txn.machine.requests
    known = not requests.register(command.client, txn.meta.index, txn.meta.actor)
    return ClientRegister(command.client, "known" if known else "new")


def apply_sweep(txn: EntryTxn, command: Sweep) -> None:
    """Nothing of its own: every entry sweeps a share."""


def apply_member_publish(txn: EntryTxn, command: MemberPublish) -> None:
    """Take note of a member's name, addresses and data directory, to which it is bound now."""
    check_id(command.member, "member")
    machine = txn.machine
    if command.member in machine.removed:
        raise NotFound(membership.NOT_FOUND, member=f"{command.member:016x}", removed=True)
    known = machine.members.get(command.member)
    if known is not None and known.data_directory not in (0, command.data_directory):
        raise NotFound(
            f"member {command.member:016x} is bound to another data directory",
            member=f"{command.member:016x}",
        )
    machine.members[command.member] = Member(
        command.member,
        command.name,
        command.client_urls,
        command.data_directory,
        command.format,
        (known.peer_urls if known is not None else []) or sorted(command.peer_urls),
        known is not None and known.promote_when_ready,
    )
    machine.note_member(command.member)


def apply_member_update(txn: EntryTxn, command: MemberUpdate) -> MemberChangeResult:
    """Change the peer URLs of a member."""
    return membership.update(txn.machine, command)


def apply_quota_set(txn: EntryTxn, command: QuotaSet) -> None:
    """Set the quota for all members."""
    txn.machine.quota_bytes = command.quota_bytes


def apply_alarm_set(txn: EntryTxn, command: AlarmSet) -> None:
    """Raise or clear an alarm."""
    alarms = txn.machine.alarms
    if command.active:
        alarms[(command.member, command.alarm)] = None
    else:
        alarms.pop((command.member, command.alarm), None)


CORE: dict[type[Any], Callable[[EntryTxn, Any], Any]] = {
    Put: apply_put,
    Delete: apply_delete,
    Txn: apply_txn,
    Compact: apply_compact,
    LeaseGrant: apply_lease_grant,
    LeaseRevoke: apply_lease_revoke,
    SessionOpen: apply_open,
    SessionClose: apply_close,
    LeaseExpire: apply_lease_expire,
    LeaseContinue: apply_lease_continue,
    TimerFire: apply_timer_fire,
    ClientRegister: apply_client_register,
    Sweep: apply_sweep,
    MemberPublish: apply_member_publish,
    MemberUpdate: apply_member_update,
    QuotaSet: apply_quota_set,
    AlarmSet: apply_alarm_set,
    **AUTH,
}
"""Command type → function that applies it."""

MAY_BE_LARGE: frozenset[type[Any]] = frozenset(
    (Delete, Txn, LeaseRevoke, LeaseExpire, SessionClose)
)
"""Commands that `is_large` has to look at."""

CONSUMING: tuple[type[Any], ...] = (Put,)
"""Commands refused while the quota is used up. A `Txn` is looked at closer."""


def is_large(machine: Machine, body: Any) -> bool:
    """Tell whether a command must be applied in slices."""
    kind = type(body)
    if kind is Delete:
        store = machine.keyspace.stores[USER]
        return bool(body.range_end) and _reaches(
            store.keys.keys(body.key, upper_bound(body.range_end), False, True), LARGE
        )
    if kind is Txn:
        return _txn_is_large(machine, body)
    if kind in (LeaseRevoke, LeaseExpire):
        return _lease_is_large(machine, body.lease)
    if kind is SessionClose:
        return _lease_is_large(machine, body.session)
    return False


def _txn_is_large(machine: Machine, txn: Txn) -> bool:
    """Count the keys of all its ranges, compared, read or deleted, up to the limit."""
    left = LARGE
    pending: list[Any] = [txn]
    while pending:
        op = pending.pop()
        ranges: list[Any] = [op]
        if type(op) is Txn:
            pending += op.success
            pending += op.failure
            ranges = op.compare
        elif type(op) is Put:
            continue
        for part in ranges:
            if not part.range_end:
                continue
            is_system = type(part) is Range and part.space == SYSTEM
            store = machine.keyspace.stores[SYSTEM if is_system else USER]
            upper = upper_bound(part.range_end)
            names = store.keys.keys(part.key, upper, False, upper is not None)
            left -= sum(1 for _ in islice(names, left))
            if left <= 0:
                return True
    return False


def _lease_is_large(machine: Machine, lease: int) -> bool:
    found = machine.keyspace.leases.get(lease)
    return found is not None and found.key_count >= LARGE


def _reaches(names: Sequence[bytes], limit: int) -> bool:
    return next(islice(names, limit - 1, None), None) is not None


def apply_large(txn: EntryTxn, body: Any) -> Generator[None, None, Any]:
    """Apply a large command slice by slice; same results as the ordinary way."""
    kind = type(body)
    if kind is Delete or kind is Txn:
        if kind is Delete and body.guard is not None:
            check_guard(txn, body.guard)
        if kind is Txn:
            _check_txn(txn, body)
        return (yield from txn.keys.execute_steps(body))
    if kind is LeaseExpire and not _is_due(txn, body):
        return None
    lease = body.session if kind is SessionClose else body.lease
    if (kind is LeaseRevoke) == txn.session_exists(lease) and kind is not LeaseExpire:
        return CORE[kind](txn, body)  # raises: not a lease of this kind
    first = len(txn.keys._events)
    yield from txn.keys.revoke_lease_steps(lease)
    result = txn.lease_ended(lease, first)
    return None if kind is LeaseExpire else result
