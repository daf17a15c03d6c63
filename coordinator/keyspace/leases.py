"""Leases: which exist, how long they live after a renewal, and which keys die with them.

Pure, and without a clock: deadlines are kept by whoever has one. Changes go through a
`Transaction`, which undoes them if its entry fails; the methods here that change the table are
its alone.
"""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from . import refusals
from .records import SPACES, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PLAIN: Final = "plain"
"""A lease made by the lease calls."""
SESSION: Final = "session"
"""A lease that is a client's session; the lease calls neither list nor revoke it."""

TTL_MS_MAX: Final = 9_000_000_000_000
"""Nine billion seconds, as in etcd."""

_SORT_CHUNK: Final = 2000


class LeaseRecord(Struct, array_like=True, gc=False):
    """What the state database keeps of a lease."""

    id: int
    ttl_ms: int
    kind: str
    data: bytes
    owner: str = ""


class Owner:
    """What one user has of leases and sessions.

    Attributes:
        name: The user; empty for those granted while nobody had to say who it is.
        leases: How many leases, sessions among them.
        records: How many system records hang on them: what its sessions hold, await and register.
    """

    __slots__ = ("leases", "name", "records")

    def __init__(self, name: str) -> None:
        self.name = name
        self.leases = 0
        self.records = 0


class Lease:
    """One lease. ``keys`` holds the attached keys of each space, in no particular order."""

    __slots__ = ("data", "id", "keys", "kind", "owner", "ttl_ms")

    def __init__(self, lease_id: int, ttl_ms: int, kind: str, data: bytes, owner: Owner) -> None:
        self.id = lease_id
        self.ttl_ms = ttl_ms
        self.kind = kind
        self.data = data
        """Opaque here; what whoever grants leases keeps with them."""
        self.owner = owner
        self.keys: tuple[dict[bytes, None], ...] = tuple({} for _ in range(SPACES))

    @property
    def key_count(self) -> int:
        """How many keys of both spaces are attached."""
        return sum(map(len, self.keys))

    def dump(self) -> bytes:
        """The record that `LeaseTable.load` reads."""
        return msgspec.msgpack.encode(
            LeaseRecord(self.id, self.ttl_ms, self.kind, self.data, self.owner.name)
        )

    def sorted_keys_steps(self, space: int) -> Generator[None, None, Iterator[bytes]]:
        """The attached keys of a space in order, pausing between portions of the sorting."""
        keys = list(self.keys[space])
        portions = []
        for start in range(0, len(keys), _SORT_CHUNK):
            if start:
                yield
            portions.append(sorted(keys[start : start + _SORT_CHUNK]))
        return merge(*portions) if len(portions) > 1 else iter(portions[0] if portions else ())


class LeaseTable:
    """Every lease by its id, and what each user has of them."""

    __slots__ = ("_owners", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[int, Lease] = {}
        self._owners: dict[str, Owner] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self.by_id

    def get(self, lease_id: int, kind: str | None = None) -> Lease | None:
        """The lease, if it exists and, where a kind is given, is of that kind."""
        lease = self.by_id.get(lease_id)
        if lease is None or (kind is not None and lease.kind != kind):
            return None
        return lease

    def require(self, lease_id: int, kind: str | None = None) -> Lease:
        """As `get`.

        Raises:
            LeaseNotFound: There is no such lease of that kind.
        """
        lease = self.get(lease_id, kind)
        if lease is None:
            raise refusals.lease_not_found(lease_id)
        return lease

    def owned_by(self, user: str) -> Owner:
        """What a user has."""
        return self._owners.get(user) or Owner(user)

    def list(self, kind: str = PLAIN) -> list[Lease]:
        """The leases of a kind, by id."""
        return [lease for _, lease in sorted(self.by_id.items()) if lease.kind == kind]

    def dump(self) -> Iterator[tuple[int, bytes]]:
        """Every lease's record, by id."""
        for lease_id, lease in sorted(self.by_id.items()):
            yield lease_id, lease.dump()

    def load(self, record: bytes) -> Lease:
        """Add a lease from its record.

        It has no keys yet: those are attached from the lease column of the keys' rows.

        Raises:
            Internal: Two records have the same id.
        """
        fields = msgspec.msgpack.decode(record, type=LeaseRecord)
        if fields.id in self.by_id:
            raise refusals.damaged(f"lease {fields.id:016x} is stored twice")
        owner = self._owner(fields.owner)
        lease = Lease(fields.id, fields.ttl_ms, fields.kind, fields.data, owner)
        self.put(lease)
        return lease

    def add(
        self, lease_id: int, ttl_ms: int, kind: str, data: bytes, ttl_ms_min: int, owner: str
    ) -> Lease:
        """Create a lease; see `Transaction.grant_lease`."""
        assert lease_id > 0, "the id of a lease is chosen before its command is proposed"
        if ttl_ms > TTL_MS_MAX:
            raise refusals.lease_ttl_too_large(TTL_MS_MAX)
        if lease_id in self.by_id:
            raise refusals.lease_exists(lease_id)
        lease = Lease(lease_id, max(ttl_ms, ttl_ms_min), kind, data, self._owner(owner))
        self.put(lease)
        return lease

    def _owner(self, name: str) -> Owner:
        found = self._owners.get(name)
        if found is None:
            found = self._owners[name] = Owner(name)
        return found

    def put(self, lease: Lease) -> None:
        """Add a lease without keys, also one that was removed."""
        self.by_id[lease.id] = lease
        lease.owner = self._owner(lease.owner.name)
        lease.owner.leases += 1

    def remove(self, lease_id: int) -> None:
        """Forget a lease to which no key is attached any more."""
        owner = self.by_id.pop(lease_id).owner
        owner.leases -= 1
        if not owner.leases:
            del self._owners[owner.name]

    def attach(self, lease_id: int, space: int, key: bytes) -> None:
        """Let a key die with a lease that exists."""
        lease = self.by_id[lease_id]
        lease.keys[space][key] = None
        if space == SYSTEM:
            lease.owner.records += 1

    def detach(self, lease_id: int, space: int, key: bytes) -> None:
        """Undo `attach`."""
        lease = self.by_id[lease_id]
        del lease.keys[space][key]
        if space == SYSTEM:
            lease.owner.records -= 1
