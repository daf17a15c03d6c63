"""The v3election service: elections among etcd's clients, on user keys.

It knows nothing of the elections of this program, and they know nothing of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.etcd import translate
from coordinator.etcd.messages import METHODS
from coordinator.etcd.recipes import Recipe, prefix_end
from coordinator.etcd.status import NO_ELECTION_LEADER, NOT_ELECTED, told
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    KeyValue,
    Put,
    Txn,
    TxnResult,
    Watch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Converse, Shared, Unary
    from coordinator.etcd.messages import Message

_SERVICE = "/v3electionpb.Election/"
_CampaignResponse = METHODS[f"{_SERVICE}Campaign"].response
_LeaderResponse = METHODS[f"{_SERVICE}Leader"].response


class Elections:
    """Elections on user keys."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.headers = shared.headers
        self.open = shared.streams

    def calls(self) -> Mapping[str, Unary]:
        """Give the unary calls of the service by path."""
        return {
            f"{_SERVICE}Campaign": self._campaign,
            f"{_SERVICE}Proclaim": self._proclaim,
            f"{_SERVICE}Leader": self._leader,
            f"{_SERVICE}Resign": self._resign,
        }

    def streams(self) -> Mapping[str, Converse]:
        """Give the streaming calls of the service by path."""
        return {f"{_SERVICE}Observe": partial(_Observation, self)}

    # ------------------------------------------------------------- candidates

    def _campaign(self, call: Call, m: Message) -> None:
        call.spawn(self._campaigned(call, m.name, m.lease, m.value))

    async def _campaigned(self, call: Call, name: bytes, lease: int, value: bytes) -> None:
        recipe = Recipe(self.shared, call, name)
        lease = await recipe.ensure_lease(lease)
        key, created, revision = await recipe.enter(lease, value)
        try:
            revision = max(revision, await recipe.wait_turn(key, created, lease))
        except BaseException:
            await recipe.leave(key, created)
            raise
        answer = _CampaignResponse()
        leader = answer.leader
        leader.name, leader.key, leader.rev, leader.lease = name, key, created, lease
        call.reply(self.headers.at(revision) + answer.SerializeToString())

    def _proclaim(self, call: Call, m: Message) -> None:
        call.spawn(self._proclaimed(call, m.leader, m.value))

    async def _proclaimed(self, call: Call, leader: Message, value: bytes) -> None:
        result = await self._as_leader(call, leader, Put(leader.key, value, leader.lease))
        if not result.succeeded:
            raise told(NOT_ELECTED)
        call.reply(self.headers.at(result.revision))

    def _resign(self, call: Call, m: Message) -> None:
        call.spawn(self._resigned(call, m.leader))

    async def _resigned(self, call: Call, leader: Message) -> None:
        result = await self._as_leader(call, leader, Delete(leader.key))
        call.reply(self.headers.at(result.revision))

    async def _as_leader(self, call: Call, leader: Message, op: Any) -> TxnResult:
        """Do something if the leader's key is still the one it was elected with."""
        same = Compare(int(CompareTarget.CREATE), int(CompareResult.EQUAL), leader.key, leader.rev)
        recipe = Recipe(self.shared, call, leader.name)
        result: TxnResult = await recipe.change(Txn([same], [op]))
        return result

    # ------------------------------------------------------------- who looks

    def _leader(self, call: Call, m: Message) -> None:
        call.spawn(self._told_leader(call, m.name))

    async def _told_leader(self, call: Call, name: bytes) -> None:
        found, revision = await Recipe(self.shared, call, name).first_at()
        if found is None:
            raise told(NO_ELECTION_LEADER)
        call.reply(self.leader_payload(found, revision))

    def leader_payload(self, kv: KeyValue, revision: int) -> bytes:
        """Write an answer that names the leader."""
        answer = _LeaderResponse(kv=translate.key_value(kv))
        data: bytes = self.headers.at(revision) + answer.SerializeToString()
        return data


class _Observation:
    """One stream of leaders and what they proclaim."""

    def __init__(self, elections: Elections, call: Call) -> None:
        self._elections = elections
        self.call = call
        self._name: bytes | None = None
        elections.open.add(self)

    def received(self, message: Message) -> None:
        """Begin."""
        if self._name is None:
            self._name = message.name
            self.call.spawn(self._observe(message.name))

    def half_closed(self) -> None:
        """It goes on."""

    def cancelled(self) -> None:
        """The task ends with the call."""
        self._elections.open.remove(self)

    def judge(self) -> int:
        """End if the caller may not look any more."""
        if self._name is not None:
            try:
                recipe = Recipe(self._elections.shared, self.call, self._name)
                recipe.judge()
            except CoordinatorError as error:
                self.call.fail(error)
        return 1

    def lose(self, error: CoordinatorError) -> None:
        """End."""
        self.call.fail(error)

    async def _observe(self, name: bytes) -> None:
        """Send each leader, and everything it proclaims, until the client has enough."""
        elections, call = self._elections, self.call
        recipe = Recipe(elections.shared, call, name)
        sent = 0
        while True:
            leader, revision = await recipe.first_at()
            if leader is None:
                end = prefix_end(recipe.prefix)
                await recipe.changed(Watch(recipe.prefix, end, revision + 1, no_delete=True))
                continue
            if leader.mod_revision > sent:
                call.send(elections.leader_payload(leader, revision))
                sent = leader.mod_revision
            at = revision + 1
            is_gone = False
            while not is_gone:
                events = await recipe.changed(Watch(leader.key, start_revision=at))
                is_gone = not events or any(event.type for event in events)
                for event in events:
                    at = event.kv.mod_revision + 1
                    if event.type:
                        break
                    call.send(elections.leader_payload(event.kv, event.kv.mod_revision))
                    sent = event.kv.mod_revision
