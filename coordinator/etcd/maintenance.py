"""The Maintenance service."""

from __future__ import annotations

import asyncio
import os
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.health import ETCD_VERSION
from coordinator.api.maintenance import CHUNK_BYTES, Backups
from coordinator.api.permits import require_root
from coordinator.etcd.messages import METHODS
from coordinator.etcd.permits import propose, require_operator
from coordinator.etcd.status import NO_LEADER, NOT_LEADER, Code, StatusError, told
from coordinator.wire.command import AlarmSet
from coordinator_sdk.errors import CoordinatorError, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Converse, Shared, Unary
    from coordinator.etcd.messages import Message
    from coordinator.node.node import Node
    from coordinator.replica.requests import Outcome

_SERVICE = "/etcdserverpb.Maintenance/"
_GET, _ACTIVATE, _DEACTIVATE = 0, 1, 2
_ALARMS: Final = {"NOSPACE": 1, "CORRUPT": 2}
_ALARM_NAMES = {number: name for name, number in _ALARMS.items()}
SLICE_S: Final = 0.005
"""How long a hash is computed before others get their turn."""


def _response(name: str) -> Any:
    return METHODS[_SERVICE + name].response()


class Maintenance:
    """Status, alarms, hashes, backups, and who leads."""

    def __init__(self, shared: Shared, backups: Backups) -> None:
        self.node = shared.node
        self.headers = shared.headers
        self.backups = backups

    def calls(self) -> Mapping[str, Unary]:
        """Give the unary calls of the service by path."""
        return {
            f"{_SERVICE}Status": self._status,
            f"{_SERVICE}Alarm": self._alarm,
            f"{_SERVICE}Defragment": self._defragment,
            f"{_SERVICE}Hash": self._hash,
            f"{_SERVICE}HashKV": self._hash_kv,
            f"{_SERVICE}MoveLeader": self._move_leader,
        }

    def streams(self) -> Mapping[str, Converse]:
        """Give the streaming calls of the service by path."""
        return {f"{_SERVICE}Snapshot": partial(_Snapshot, self)}

    # ------------------------------------------------------------- standing

    def _status(self, call: Call, m: Message) -> None:
        node = self.node
        standing = node.status()
        answer = _response("Status")
        answer.version = ETCD_VERSION
        answer.dbSize = _file_bytes(node)
        answer.dbSizeInUse = standing.bytes_used
        answer.leader = standing.leader
        answer.raftIndex = standing.index
        answer.raftTerm = standing.term
        answer.raftAppliedIndex = standing.applied_index
        answer.isLearner = node.member_id in node.machine.conf_state.learners
        if not standing.leader:
            answer.errors.append(NO_LEADER)
        for member, alarm in raised_alarms(node):
            answer.errors.append(f"memberID:{member} alarm:{alarm} ")
        call.reply(self.headers.now() + answer.SerializeToString())

    def _alarm(self, call: Call, m: Message) -> None:
        if m.action == _GET:
            # For everybody, as with etcd: /health tells the same.

            def ready(error: CoordinatorError | None) -> None:
                if error is not None:
                    call.fail(error)
                else:
                    self._tell_alarms(call, m, raised_alarms(self.node))

            self.node.read(ready)
            return
        if m.action not in (_ACTIVATE, _DEACTIVATE) or m.alarm not in _ALARM_NAMES:
            self._tell_alarms(call, m, [])
            return
        name = _ALARM_NAMES[m.alarm]
        concerned = [(m.memberID, name)]
        if m.action == _DEACTIVATE and (m.memberID, name) not in raised_alarms(self.node):
            concerned = []

        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.fail(error_from_wire(*outcome.error))
            else:
                self._tell_alarms(call, m, concerned)

        body = AlarmSet(m.memberID, name, m.action == _ACTIVATE)
        propose(self.node, call.caller, body, done)

    def _tell_alarms(self, call: Call, m: Message, alarms: list[tuple[int, str]]) -> None:
        answer = _response("Alarm")
        for member, name in alarms:
            wanted = m.action != _GET or m.alarm in (0, _ALARMS[name])
            if wanted and (m.action != _GET or m.memberID in (0, member)):
                answer.alarms.add(memberID=member, alarm=_ALARMS[name])
        call.reply(answer.SerializeToString())

    def _defragment(self, call: Call, m: Message) -> None:
        require_operator(self.node, call.caller)
        # The state database reuses its pages by itself; there is nothing to be done beside it.
        call.reply(b"")

    # ------------------------------------------------------------- hashes

    def _hash(self, call: Call, m: Message) -> None:
        require_operator(self.node, call.caller)
        call.spawn(self._hashed(call, 0, "Hash"))

    def _hash_kv(self, call: Call, m: Message) -> None:
        require_operator(self.node, call.caller)
        call.spawn(self._hashed(call, max(m.revision, 0), "HashKV"))

    async def _hashed(self, call: Call, revision: int, name: str) -> None:
        answer = _response(name)
        answer.hash = await self._digest(revision)
        if name == "HashKV":
            answer.compact_revision = self.node.keyspace.compact_revision
        call.reply(self.headers.now() + answer.SerializeToString())

    async def _digest(self, revision: int) -> int:
        """Compute the digest of the live keys at a revision, in slices, in 32 bits."""
        loop = asyncio.get_running_loop()
        steps = self.node.keyspace.digest_steps(revision)
        deadline = loop.time() + SLICE_S
        values: list[bytes | None] | None = None
        while True:
            try:
                wanted = steps.send(values)
            except StopIteration as done:
                return zlib.crc32(int(done.value).to_bytes(16, "big"))
            values = await self.node.old_values(wanted) if wanted else None
            if loop.time() > deadline:
                await asyncio.sleep(0)
                deadline = loop.time() + SLICE_S

    # ------------------------------------------------------------- leadership

    def _move_leader(self, call: Call, m: Message) -> None:
        node = self.node
        require_operator(node, call.caller)
        if node.status().leader != node.member_id:
            raise told(NOT_LEADER)

        def done(answer: int | CoordinatorError) -> None:
            if isinstance(answer, CoordinatorError):
                call.fail(answer)
            else:
                call.reply(self.headers.now())

        node.group.membership.transfer(m.targetID or -1, done)


def raised_alarms(node: Node) -> list[tuple[int, str]]:
    """Give the alarms that are raised, with their members; that of the quota is this one's."""
    found = list(node.machine.alarms)
    own = node.member_id
    if "NOSPACE" in node.alarms() and all(name != "NOSPACE" for _, name in found):
        found.append((own, "NOSPACE"))
    return sorted(one for one in found if one[1] in _ALARMS)


def _file_bytes(node: Node) -> int:
    """Size of the state database on disk."""
    try:
        return os.stat(Path(node.config.data_dir) / "state.db").st_size
    except OSError:
        return 0


class _Snapshot:
    """Streams a backup: the file, which ends with the SHA-256 of what comes before."""

    def __init__(self, maintenance: Maintenance, call: Call) -> None:
        self._maintenance = maintenance
        self._call = call
        self._is_begun = False

    def received(self, message: Message) -> None:
        """Begin."""
        if self._is_begun:
            raise StatusError(Code.INTERNAL, "grpc: more than one message of a call")
        require_root(self._maintenance.node, self._call.caller)
        self._is_begun = True
        self._call.spawn(self._send())

    def half_closed(self) -> None:
        """It is sent all the same."""

    def cancelled(self) -> None:
        """The task ends with the call."""

    async def _send(self) -> None:
        call, maintenance = self._call, self._maintenance
        status, file = await maintenance.backups.make()
        left = status.size_bytes
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                left -= len(chunk)
                answer = _response("Snapshot")
                answer.blob = chunk
                answer.remaining_bytes = left
                await _until_read(call)
                call.send(answer.SerializeToString())
        finally:
            file.close()
        call.finish()


async def _until_read(call: Call) -> None:
    """Wait until the client has read what was sent."""
    drained = asyncio.Event()
    if call.defer(drained.set):
        await drained.wait()
