"""What becomes of a state that goes on as the beginning of another group. Pure.

It is done where nobody else is, before the new group's first start: every member that begins from
the same state must come out of it the same. In the terms of the log it is one entry, the last one
before the new group's first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coordinator.keyspace.leases import SESSION
from coordinator.keyspace.records import SYSTEM
from coordinator.replica.domain import Meta
from coordinator.replica.entry import EntryTxn
from coordinator.wire import systemkey
from coordinator.wire.raft import ConfState, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.keyspace.auth import AuthStore
    from coordinator.keyspace.records import Events
    from coordinator.replica.machine import Machine
    from coordinator.replica.members import Member

REVISIONS_SKIPPED: Final = 1 << 40
"""More than the lost rest of the old group can have made: no revision and no fencing token that
anybody remembers is ever given out again."""


def begin_anew(
    machine: Machine, voters: Sequence[int], members: Sequence[Member], term: int = 0
) -> int:
    """Turn the state of one group into the first state of another.

    Every session ends, and with it every lock, candidacy, place in a queue and registration; every
    client and its request ids are forgotten, and so is every login. Keys, topics and plain leases
    stay, the leases with their full TTL from the first leader on, and so do users, roles and API
    keys. What happened before is compacted.

    Args:
        machine: The state, complete: no entry is half applied.
        voters: Ids of the members of the new group.
        members: What is known of them.
        term: The new group's first term is above this one.

    Returns:
        How many sessions ended.
    """
    keyspace = machine.keyspace
    machine.requests.clear()
    machine.alarms.clear()
    machine.removed.clear()
    for member in [*machine.members]:
        del machine.members[member]
        machine.note_member(member)
    for one in members:
        machine.members[one.member] = one
        machine.note_member(one.member)
    machine.conf_state = ConfState(voters=tuple(sorted(voters)))
    keyspace.skip_revisions(REVISIONS_SKIPPED)
    entry = Entry(max(term, machine.term), machine.index + 1)
    txn = EntryTxn(machine, Meta(entry.index, entry.term, 0, 0, "", "", machine.clock_ms))
    sessions = [lease.id for lease in keyspace.leases.list(SESSION)]
    for session in sessions:
        txn.keys.revoke_lease(session)
    _tell_domains(machine, txn)
    machine._finish(entry, None, None, txn.commit())
    # Who did it is known of what is left of the past no more, and no old token counts: not even
    # one that is signed with a key of the settings.
    machine.trail.clear()
    _end_logins(machine.auth)
    return len(sessions)


def _tell_domains(machine: Machine, txn: EntryTxn) -> None:
    """Let the domains clear up behind what went with the sessions.

    Only now that all is gone: nobody is left whom a lock could be granted to.
    """
    ended: Events = list(txn.keys._events)
    records = [event.prev_kv for space, event in ended if space == SYSTEM]
    for record in (*machine.hooks, *(record for record in records if record is not None)):
        domain = machine.domains.get(str(systemkey.unpack(record.key)[1]))
        if domain is not None and domain.on_lease_end is not None:
            domain.on_lease_end(txn, record)
    machine.hooks.clear()


def _end_logins(auth: AuthStore) -> None:
    """Let whoever has proved to be a user do so again: nobody may by what came before."""
    auth.token_keys.clear()
    auth.revision += REVISIONS_SKIPPED
    auth._commit()
    for user in auth.users.values():
        user.since = auth.revision
        auth._touch("users", user.user)
    # That is where the new group begins, and nothing that its first entry does.
    auth.take_effects()
