"""A running member: what the API talks to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.keyspace.records import USER
from coordinator.keyspace.watch import WatchHub
from coordinator.node.boot import Booted, boot
from coordinator.node.chores import Housekeeping, Retention
from coordinator.node.feeding import Feeding
from coordinator.node.freshness import Freshness
from coordinator.node.group import Group
from coordinator.node.loop import TurnLoop
from coordinator.node.membership import publication
from coordinator.node.persistence import Persistence
from coordinator.node.stall import Stall
from coordinator.node.surroundings import ThisMachine
from coordinator.replica import membership
from coordinator.replica.effects import Proposal
from coordinator.replica.requests import Outcome
from coordinator.transport.network import StreamNetwork
from coordinator_sdk.errors import (
    CoordinatorError,
    NoSpace,
    OutcomeUnknown,
    Stopping,
    Unavailable,
    error_from_wire,
)
from coordinator_sdk.protocol.cluster import ClusterStatusResult, MemberInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from coordinator.config import Config
    from coordinator.node.surroundings import Surroundings
    from coordinator.replica.domain import Domain
    from coordinator.replica.machine import Machine
    from coordinator.replica.replica import Replica
    from coordinator.replica.trail import TrailRecord
    from coordinator.storage.backup import BackupStatus
    from coordinator.tls.credentials import Credentials
    from coordinator.transport.ports import PeerNetwork
    from coordinator.wire.raft import Entry
    from coordinator_sdk.protocol.kv import Event

_log = logging.getLogger("coordinator.node")


class Node:
    """One member of a cluster, on the running event loop.

    Args:
        config: The resolved configuration.
        domains: The domains to serve.
        surroundings: The machine underneath; this one by default.

    Attributes:
        keyspace: The published state; read it only between turns, that is, from callbacks.
        hub: Watches on it.
        group: Its part among the other members; there once it starts.
        cluster_id: Id of the cluster.
        member_id: Id of this member.
    """

    def __init__(
        self,
        config: Config,
        domains: Sequence[Domain],
        surroundings: Surroundings | None = None,
    ) -> None:
        self.config = config
        self._surroundings = surroundings or ThisMachine()
        self.started_at = self._surroundings.monotonic_ns() / 1e9
        self.is_stopping = False
        self.failure: BaseException | None = None
        self.stopped = asyncio.Event()
        self._domains = domains
        self._booted: Booted | None = None
        self._network: PeerNetwork | None = None
        self.on_machine: list[Callable[[], None]] = []
        """Told when a snapshot has replaced machine and keyspace."""
        self.on_tick: list[Callable[[], None]] = []
        """Called several times a second."""

    async def start(self) -> None:
        """Open the data directory, take part, and return once there is a leader.

        Raises:
            StorageError: The data directory can't be used; the message says what to do.
        """
        self._network = network = self._surroundings.open_network(self.config)
        booted = await boot(
            self.config, self._domains, self._surroundings, self._publish, network.inquire
        )
        self._booted = booted
        self.name = self.config.name
        self.cluster_id = booted.identity.cluster_id
        self.member_id = booted.identity.member_id
        self.replica: Replica = booted.replica
        self.machine = booted.machine
        self.machine.on_fault = _log_fault
        self.keyspace = booted.machine.keyspace
        self.hub = WatchHub(self.keyspace.log, self.keyspace.compact_revision)
        self._housekeeping = Housekeeping(
            self.machine, _retention(self.config), self.config.quota_backend_bytes
        )
        self._persistence = Persistence(
            booted, entries_kept=self.config.snapshot_count, on_failure=self._fail
        )
        self._freshness = Freshness(self.replica, self._surroundings)
        self._feeding = Feeding(
            self.hub,
            self._persistence,
            keyspace=lambda: self.keyspace,
            on_failure=self._fail,
        )
        self.catch_up = self._feeding.catch_up
        self.group = Group(
            booted,
            network,
            self._persistence,
            self.hub,
            self.config,
            self._domains,
            self._surroundings,
            schedule=lambda: self._loop.schedule(),
            on_machine=self._take_machine,
            on_failure=self._fail,
        )
        self._loop = TurnLoop(
            self.replica,
            booted.log,
            self._surroundings,
            links=self.group,
            commit=self.group.installation.commit,
            after_apply=self._after_apply,
            on_failure=self._fail,
            on_tick=self._tick,
            pressure=self._persistence,
            tick_ms=self.config.heartbeat_interval_ms,
        )
        self._stall = Stall(
            limit_ms=2 * self.config.election_timeout_ms,
            is_leader=lambda: self.replica.is_leader,
            hand_over=lambda: self.group.membership.transfer(0, lambda answer: None),
        )
        self._loop.start()
        await self.group.start()
        if booted.is_only_voter:
            self.replica.raw.campaign()
            self._loop.schedule()
        await self._unless_failed(self._join())

    async def _unless_failed(self, joining: Coroutine[None, None, None]) -> None:
        """Wait for the group, but not for a member that will never answer again."""
        joined = asyncio.ensure_future(joining)
        ended = asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait((joined, ended), return_when=asyncio.FIRST_COMPLETED)
            if self.failure is not None:
                raise self.failure
            await joined
        finally:
            joined.cancel()
            ended.cancel()

    async def _join(self) -> None:
        await self._until_leader()
        await self._publish_member()

    async def _until_leader(self) -> None:
        """Wait until reads and writes work."""
        while True:
            answer: asyncio.Future[CoordinatorError | None] = _future()
            self.read(partial(_settle, answer))
            if await answer is None:
                return
            await asyncio.sleep(0.01)

    async def _publish_member(self) -> None:
        assert self._booted is not None
        while (told := publication(self.config, self._booted.identity, self.machine)) is not None:
            try:
                await self.execute(told)
                return
            except (Unavailable, OutcomeUnknown):
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Write everything, close everything. Safe to call more than once."""
        if self.is_stopping:
            await self.stopped.wait()
            return
        self.is_stopping = True
        if self._booted is not None:
            if self.failure is None:
                await self.group.hand_over()
            self._loop.stop()
            self._feeding.stop()
            await self.group.stop()
            await self._loop.settle()
        if self._network is not None:
            await self._network.close()
        if self._booted is not None:
            with contextlib.suppress(Exception):
                await self._persistence.close(flush=self.failure is None)
            await asyncio.to_thread(self._booted.close)
        self.stopped.set()

    def _fail(self, error: BaseException) -> None:
        """Something broke that must not: stop at once, answer nobody."""
        if self.failure is None:
            self.failure = error
            self._loop.stop()
            self.stopped.set()

    # What users ask for.

    @property
    def term(self) -> int:
        """The current term."""
        return self.replica.raw.term

    @property
    def revision(self) -> int:
        """The published revision."""
        return self.keyspace.revision

    def propose(
        self,
        body: Any,
        *,
        done: Callable[[Outcome], None],
        actor: str = "",
        origin: str = "",
        client: int = 0,
        sequence: int = 0,
        floor: int = 0,
        trace: str = "",
        auth_revision: int = 0,
        scope: str = "",
    ) -> None:
        """Propose a command.

        Args:
            body: The command struct, checked already.
            done: Called once, in the turn in which it was applied or refused.
            actor: Who asks.
            origin: From where.
            client: Client id, 0 for none; then ``sequence`` and ``floor`` count.
            sequence: Number of the request.
            floor: The client no longer asks for outcomes below this number.
            trace: W3C trace parent.
            auth_revision: The revision of users and roles at which the actor was known.
            scope: What the actor is limited to.
        """
        if self.is_stopping:
            error = Stopping("the member is shutting down")
            done(Outcome(0, None, (error.code, error.message, error.details)))
            return
        if self._persistence.is_disk_full and type(body) in self.machine.consuming:
            refusal = self._full_disk_refusal()
            if refusal is not None:
                refused = (refusal.code, refusal.message, refusal.details)
                done(Outcome(self.revision, None, refused))
                return
        proposal = Proposal(body, done, client, sequence, floor, actor, origin, "", trace)
        if actor:
            proposal.auth_revision, proposal.scope = auth_revision, scope
        self.group.propose(proposal)

    def _full_disk_refusal(self) -> CoordinatorError | None:
        """Say why nothing can be written with a full disk; None if another member leads."""
        if not self.replica.raw.is_leader:
            return None
        if self.group.has_successor:
            return Unavailable("the disk of this member is full; another one takes over")
        return NoSpace("the disk of this member is full; free some space", limit="disk")

    async def execute(self, body: Any, **who: Any) -> Outcome:
        """Propose a command and wait for its outcome.

        Raises:
            CoordinatorError: What the command was refused with.
        """
        answer: asyncio.Future[Outcome] = _future()
        self.propose(body, done=partial(_settle, answer), **who)
        outcome = await answer
        if outcome.error is not None:
            raise error_from_wire(*outcome.error)
        return outcome

    def read(
        self,
        done: Callable[[CoordinatorError | None], None],
        *,
        min_revision: int = 0,
        serializable: bool = False,
        max_staleness_ms: int = 0,
    ) -> None:
        """Ask to read the local state.

        Args:
            done: Called with None as soon as the local state is as fresh as asked for, or
                with the error that prevents it. The state is that of a whole entry.
            min_revision: At least this revision.
            serializable: Whether any state will do that is as new as ``min_revision``.
            max_staleness_ms: With ``serializable``, how old it may be; 0 for any age.
        """
        is_fresh = serializable and self._freshness.is_within(max_staleness_ms)
        if self.is_stopping:
            done(Stopping("the member is shutting down"))
        elif is_fresh and self.revision >= min_revision:
            done(None)
        elif self.group.absence.is_long:
            done(self.group.absence.error)
        else:
            (self._freshness if max_staleness_ms else self.replica).read(done)
            self._loop.schedule()

    def keepalive(
        self, leases: list[int], done: Callable[[list[int] | CoordinatorError], None]
    ) -> None:
        """Renew leases, once this member has proved that it leads.

        Args:
            leases: Their ids.
            done: Called with the TTL of each in milliseconds, 0 for one that does not exist,
                or with the error that prevents it.
        """
        self._ask_leader(leases, done, only_look=False)

    def look(self, leases: list[int], done: Callable[[list[int] | CoordinatorError], None]) -> None:
        """Find out how long leases live on, wherever they are timed.

        Args:
            leases: Their ids.
            done: Called with what is left of each in milliseconds, -1 for one that does not
                exist, or with the error that prevents it.
        """
        self._ask_leader(leases, done, only_look=True)

    def _ask_leader(
        self,
        leases: list[int],
        done: Callable[[list[int] | CoordinatorError], None],
        *,
        only_look: bool,
    ) -> None:
        if self.is_stopping:
            done(Stopping("the member is shutting down"))
            return
        self.group.ask_leases(leases, done, only_look=only_look)

    def soon(self, work: Callable[[], None]) -> None:
        """Call ``work`` at the end of the turn under way, or in the next one of the event loop."""
        self._loop.soon(work)

    def _now_ms(self) -> int:
        return self._surroundings.monotonic_ns() // 1_000_000

    async def old_values(self, wanted: list[tuple[int, int]]) -> list[bytes | None]:
        """Fetch values of the past, by (mod_revision, sub); None for what compaction took."""
        return await self._persistence.old_values(wanted)

    async def trail_records(self, begins: list[int]) -> dict[int, TrailRecord]:
        """Fetch records of the audit trail, by the revision that each of them begins at."""
        return await self._persistence.trail_records(begins)

    async def save_backup(self, target: Path) -> BackupStatus:
        """Write a backup of everything applied so far to a file.

        Raises:
            StorageError: The disk is full or failed, or the state is being replaced.
        """
        return await self._persistence.save_backup(target)

    def members(self) -> list[MemberInfo]:
        """Give the members of the cluster, by id."""
        return membership.member_infos(self.machine)

    def alarms(self) -> list[str]:
        """Give the names of the alarms that are raised."""
        raised = {alarm for _, alarm in self.machine.alarms}
        if self.machine.is_full or self._persistence.is_disk_full:
            raised.add("NOSPACE")
        return sorted(raised)

    def status(self) -> ClusterStatusResult:
        """Tell how this member stands."""
        raw = self.replica.raw
        keyspace = self.keyspace
        return ClusterStatusResult(
            self.cluster_id,
            self.member_id,
            self.name,
            __version__,
            raw.lead,
            "learner" if raw.raft.is_learner else raw.raft.state.name.lower(),
            raw.term,
            raw.last_index,
            self.machine.index,
            keyspace.revision,
            keyspace.compact_revision,
            keyspace.key_count(USER),
            keyspace.bytes_used,
            self.machine.quota_bytes,
            self.alarms(),
            watches=len(self.hub),
            leases=len(keyspace.leases),
            uptime_ms=self._now_ms() - int(self.started_at * 1000),
            commit_index=raw.raft.log.committed,
        )

    @property
    def peer_credentials(self) -> Credentials | None:
        """What members show to each other and accept; None if they do without TLS."""
        network = self._network
        return network.credentials if isinstance(network, StreamNetwork) else None

    def is_ready(self) -> bool:
        """Tell whether reads and writes can be served."""
        return (
            self._booted is not None
            and not self.is_stopping
            and self.failure is None
            and self.replica.raw.lead != 0
        )

    # What the loop calls.

    def _take_machine(self, machine: Machine) -> None:
        """A snapshot has taken the place of the state."""
        machine.members_version = self.machine.members_version + 1
        machine.on_fault = _log_fault
        self.machine = machine
        self.keyspace = machine.keyspace
        self._housekeeping = Housekeeping(
            machine, _retention(self.config), self.config.quota_backend_bytes
        )
        for told in self.on_machine:
            told()

    def _publish(self, revision: int, events: list[tuple[int, Event]]) -> None:
        self.hub.publish(revision, events)

    def _after_apply(self) -> None:
        self._persistence.collect()
        if self.keyspace.compact_revision != self.hub.compact_revision:
            self.hub.compacted(self.keyspace.compact_revision)
        if self.hub.is_lagging:
            self.catch_up()

    def _tick(self) -> None:
        self._persistence.tick()
        self.group.tick()
        self._stall.tick(
            self.replica.now_ms,
            self._loop.oldest_write,
            is_full=self._persistence.is_disk_full and self.group.has_successor,
        )
        if self.failure is not None:
            return
        if self.hub.is_lagging:
            self.catch_up()
        for told in self.on_tick:
            told()
        if self.replica.is_leader:
            for body, cause in self._housekeeping.due(self.replica.now_ms):
                self.replica.propose_internal(body, cause)


def _log_fault(entry: Entry, error: Exception) -> None:
    _log.error("entry %d could not be applied and was undone", entry.index, exc_info=error)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    """Give an answer to whoever still waits for it."""
    if not answer.done():
        answer.set_result(value)


def _retention(config: Config) -> Retention:
    return Retention(
        age_ms=config.auto_compaction_age_ms,
        revisions=config.auto_compaction_revisions,
        history_bytes=config.history_bytes,
    )
