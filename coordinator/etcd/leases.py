"""The Lease service: plain leases; the leases behind sessions are not among them."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from coordinator.api.holdings import check_lease
from coordinator.api.permits import authorize, shown
from coordinator.etcd.calls import varint
from coordinator.etcd.messages import METHODS
from coordinator.etcd.permits import propose, require_time
from coordinator.etcd.status import TTL_TOO_LARGE, told
from coordinator.keyspace import PLAIN
from coordinator.keyspace.leases import SESSION, TTL_MS_MAX
from coordinator_sdk.errors import CoordinatorError, error_from_wire
from coordinator_sdk.protocol.kv import (
    LeaseGrant,
    LeaseInfo,
    LeaseKeepAlive,
    LeaseList,
    LeaseListResult,
    LeaseRevoke,
    LeaseTimeToLive,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Converse, Shared, Unary
    from coordinator.etcd.messages import Message
    from coordinator.replica.requests import Outcome

TTL_S_MAX = TTL_MS_MAX // 1000
KEEPALIVES_MAX = 4096
"""Renewals of one stream that may be under way; more wait until they are answered."""

_TimeToLive = METHODS["/etcdserverpb.Lease/LeaseTimeToLive"].response
_Leases = METHODS["/etcdserverpb.Lease/LeaseLeases"].response
_ID, _TTL = b"\x10", b"\x18"
"""The tags of both numbers in the answers to a grant and to a renewal."""


def _int64(number: int) -> bytes:
    return varint(number & (1 << 64) - 1)


class Leases:
    """Leases."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.node = shared.node
        self.headers = shared.headers
        # A lease must outlive an election: shorter ones are raised, as etcd does.
        self._ttl_min = -(-3 * shared.node.config.election_timeout_ms // 2000)

    def calls(self) -> Mapping[str, Unary]:
        """Give the unary calls of the service by path."""
        return {
            "/etcdserverpb.Lease/LeaseGrant": self._grant,
            "/etcdserverpb.Lease/LeaseRevoke": self._revoke,
            "/etcdserverpb.Lease/LeaseTimeToLive": self._time_to_live,
            "/etcdserverpb.Lease/LeaseLeases": self._leases,
        }

    def streams(self) -> Mapping[str, Converse]:
        """Give the streaming calls of the service by path."""
        return {"/etcdserverpb.Lease/LeaseKeepAlive": partial(_Renewals, self)}

    def _grant(self, call: Call, m: Message) -> None:
        if m.TTL > TTL_S_MAX:
            raise told(TTL_TOO_LARGE)
        check_lease(self.node, call.caller, self.shared.limits)
        body = LeaseGrant(max(m.TTL, self._ttl_min) * 1000, m.ID or secrets.randbits(62) + 1)

        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.fail(error_from_wire(*outcome.error))
                return
            lease, ttl_ms = outcome.result.lease, outcome.result.ttl_ms
            call.reply(self.headers.now() + _ID + _int64(lease) + _TTL + _int64(ttl_ms // 1000))

        propose(self.node, call.caller, body, done)

    def _revoke(self, call: Call, m: Message) -> None:
        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.fail(error_from_wire(*outcome.error))
            else:
                call.reply(self.headers.at(outcome.revision))

        body = LeaseRevoke(max(m.ID, 0))
        propose(self.node, call.caller, body, done)

    def _time_to_live(self, call: Call, m: Message) -> None:
        lease_id, wants_keys = m.ID, m.keys

        def ready(error: CoordinatorError | None) -> None:
            try:
                if error is not None:
                    raise error
                authorize(self.node, call.caller, LeaseTimeToLive(lease_id, wants_keys))
                if self.node.keyspace.leases.get(lease_id, PLAIN) is None:
                    unknown(self)
                else:
                    self.node.look([lease_id], found)
            except CoordinatorError as refused:
                call.fail(refused)

        def found(left: list[int] | CoordinatorError) -> None:
            if isinstance(left, CoordinatorError):
                call.fail(left)
                return
            lease = self.node.keyspace.leases.get(lease_id, PLAIN)
            if lease is None or left[0] < 0:
                unknown(self)
                return
            answer = _TimeToLive(ID=lease_id, TTL=left[0] // 1000, grantedTTL=lease.ttl_ms // 1000)
            if wants_keys:
                answer.keys.extend(self.node.keyspace.lease_keys(lease_id))
            call.reply(self.headers.now() + answer.SerializeToString())

        def unknown(self: Leases) -> None:
            answer = _TimeToLive(ID=lease_id, TTL=-1)
            call.reply(self.headers.now() + answer.SerializeToString())

        self.node.read(ready)

    def _leases(self, call: Call, m: Message) -> None:
        def ready(error: CoordinatorError | None) -> None:
            try:
                if error is not None:
                    raise error
                listed = [LeaseInfo(one.id) for one in self.node.keyspace.leases.list(PLAIN)]
                result = LeaseListResult(listed)
                shown(self.node, call.caller, LeaseList(), result)
                leases = [one.lease for one in result.leases]
                if leases:
                    self.node.look(leases, partial(found, leases))
                else:
                    found([], [])
            except CoordinatorError as refused:
                call.fail(refused)

        def found(leases: list[int], left: list[int] | CoordinatorError) -> None:
            if isinstance(left, CoordinatorError):
                call.fail(left)
                return
            answer = _Leases()
            # Those that end first come first.
            for remaining, lease in sorted(zip(left, leases, strict=True)):
                if remaining >= 0:
                    answer.leases.add(ID=lease)
            call.reply(self.headers.now() + answer.SerializeToString())

        self.node.read(ready)


class _Renewals:
    """One stream of renewals."""

    def __init__(self, leases: Leases, call: Call) -> None:
        self._leases = leases
        self.call = call
        self._under_way = 0
        self._is_half_closed = False
        leases.shared.streams.add(self)

    def received(self, message: Message) -> None:
        """Renew a lease; one that does not exist has a TTL of 0."""
        if self._under_way >= KEEPALIVES_MAX:
            raise told("etcdserver: too many requests")
        leases, lease = self._leases, message.ID
        if not self.call.caller.is_login:
            require_time(self.call)
        authorize(leases.node, self.call.caller, LeaseKeepAlive([lease]))
        # The header is that of the moment before the renewal.
        header = leases.headers.now()
        known = leases.node.keyspace.leases.get(lease)
        self._under_way += 1
        if lease <= 0 or (known is not None and known.kind == SESSION):
            self._renewed(header, lease, [0])
        else:
            leases.node.keepalive([lease], partial(self._renewed, header, lease))

    def _renewed(self, header: bytes, lease: int, ttls_ms: list[int] | CoordinatorError) -> None:
        self._under_way -= 1
        if isinstance(ttls_ms, CoordinatorError):
            self.call.fail(ttls_ms)
            return
        payload = header + _ID + _int64(lease)
        if ttls_ms[0] > 0:
            payload += _TTL + _int64(ttls_ms[0] // 1000)
        self.call.send(payload)
        if self._is_half_closed and not self._under_way:
            self.call.finish()

    def half_closed(self) -> None:
        """End once everything is answered."""
        self._is_half_closed = True
        if not self._under_way:
            self.call.finish()

    def cancelled(self) -> None:
        """Nothing else has to be let go of."""
        self._leases.shared.streams.remove(self)

    def judge(self) -> int:
        """End if the caller may not renew anything any more."""
        try:
            authorize(self._leases.node, self.call.caller, LeaseKeepAlive([]))
        except CoordinatorError as error:
            self.call.fail(error)
        return 1

    def lose(self, error: CoordinatorError) -> None:
        """End."""
        self.call.fail(error)
