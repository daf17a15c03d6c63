"""A client as the protocol wants it: request ids, retries, a session kept alive."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from coordinator.replica.membership import CHANGES
from coordinator_sdk.errors import (
    CoordinatorError,
    Exhausted,
    NotApplied,
    OutcomeUnknown,
    RequestReused,
    Unavailable,
    error_from_wire,
)
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.sessions import SessionOpen
from tests.simulation.clock import VirtualLoop
from tests.simulation.cluster import Host
from tests.simulation.network import Broken, Link
from tests.simulation.record import Record, Told

PAUSE_SECONDS = 0.05
MOVE_SHARE = 0.4
"""Share of the retries that try another member."""


class Refused(Exception):
    """A change was refused for good."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Client:
    """One client. Each change is tried again until it has an outcome."""

    def __init__(
        self, number: int, loop: VirtualLoop, rng: random.Random, hosts: list[Host], record: Record
    ) -> None:
        self.number = number
        self.rng = rng
        self.loop = loop
        self.link = Link(loop, rng, hosts)
        self.record = record
        self.retries = 0
        self._id = rng.getrandbits(62) + 1
        self._sequence = 0
        self._in_flight: dict[int, None] = {}
        self._is_known = False

    async def change(self, body: Any) -> Any:
        """Make a change; gives its result.

        Raises:
            Refused: It was not applied, and never will be.
        """
        if not self._is_known:
            await self._register()
        self._sequence += 1
        sequence = self._sequence
        self._in_flight[sequence] = None
        sent_at = self.loop.now
        try:
            while True:
                floor = min(self._in_flight)
                try:
                    outcome = await self.link.propose(body, self._id, sequence, floor)
                except Broken:
                    await self._pause()
                    continue
                if outcome.error is None:
                    break
                error = error_from_wire(*outcome.error)
                in_doubt = isinstance(error, OutcomeUnknown) and type(body) in CHANGES
                if in_doubt or isinstance(error, Unavailable) or _never_logged(error):
                    await self._pause()
                    continue
                if isinstance(error, (OutcomeUnknown, RequestReused)):
                    self.record.violate(f"client {self.number} was told {error!r}")
                self.record.denied.append(body)
                raise Refused(error)
        finally:
            del self._in_flight[sequence]
        told = Told(
            self._id, sequence, body, outcome.revision, outcome.result, sent_at, self.loop.now
        )
        self.record.told.append(told)
        return outcome.result

    async def change_plainly(self, body: Any) -> bool:
        """Make a change without a request id, once; tells whether it was acknowledged.

        Whoever is told that it was not applied may rely on it; else nothing is known.
        """
        sent_at = self.loop.now
        try:
            outcome = await self.link.propose(body, 0, 0, 0)
        except Broken:
            return False
        if outcome.error is None:
            now = self.loop.now
            told = Told(0, 0, body, outcome.revision, outcome.result, sent_at, now)
            self.record.told.append(told)
            return True
        if isinstance(error_from_wire(*outcome.error), NotApplied):
            self.record.denied.append(body)
        return False

    async def _register(self) -> None:
        while not self._is_known:
            try:
                outcome = await self.link.propose(ClientRegister(self._id), 0, 0, 0)
                self._is_known = outcome.error is None
            except Broken:
                pass
            if not self._is_known:
                await self._pause()

    async def _pause(self) -> None:
        self.retries += 1
        if self.rng.random() < MOVE_SHARE:
            self.link.drop()
        await asyncio.sleep(self.rng.random() * PAUSE_SECONDS)

    async def read_anywhere(self, view: Any, min_revision: int) -> Any:
        """Read from any member that is no older than a revision, until there is an answer."""
        while True:
            if self.rng.random() < 0.3:
                self.link.drop()
            try:
                return await self.link.read(view, min_revision=min_revision, serializable=True)
            except (Broken, CoordinatorError):
                await self._pause()

    async def read(self, view: Any) -> Any:
        """Read until there is an answer."""
        if self.rng.random() < 0.05:
            self.link.drop()
        while True:
            try:
                return await self.link.read(view)
            except (Broken, CoordinatorError):
                await self._pause()


def _never_logged(error: Exception) -> bool:
    """Tell whether the member refused before the change reached the log."""
    return isinstance(error, Exhausted) and error.details.get("limit") in ("disk", "proposals")


class Session:
    """A session of a client, renewed until somebody stops it.

    Attributes:
        deadline: Virtual time until which the client may count on it: from when the last
            acknowledged renewal was sent.
    """

    def __init__(self, client: Client, ttl_ms: int) -> None:
        self.client = client
        self.id = client.rng.getrandbits(62) + 1
        self.ttl_ms = ttl_ms
        self.deadline = 0.0
        self.is_lost = False
        self.is_closing = False
        """Whether its end has been asked for."""
        self.renewals: list[float] = []
        """When each acknowledged renewal was sent."""
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the client may count on it at this moment."""
        return not self.is_lost and self.client.loop.now < self.deadline

    async def open(self) -> None:
        """Open it and keep it alive.

        Raises:
            Refused: The cluster would not.
        """
        sent_at = self.client.loop.now
        await self.client.change(SessionOpen(self.ttl_ms, self.id, "simulation"))
        # Nothing is known of what happened between the first try and the answer but this.
        self.deadline = sent_at + self.ttl_ms / 1000
        self.renewals.append(sent_at)
        self._renewing = asyncio.create_task(self._renew())

    def stop_renewing(self) -> None:
        """Let it run out, as when the process is gone."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self) -> None:
        client = self.client
        while not self.is_lost:
            share = (0.5 + client.rng.random()) / 4
            if client.rng.random() < 0.05:
                # A process that comes back from a long pause renews at the last moment, or later.
                share = 0.9 + client.rng.random() / 4
            await asyncio.sleep(self.ttl_ms / 1000 * share)
            sent_at = client.loop.now
            try:
                ttl_ms = await client.link.keepalive(self.id)
            except (Broken, CoordinatorError):
                continue
            if not ttl_ms:
                self.is_lost = True
            else:
                self.renewals.append(sent_at)
                self.deadline = sent_at + ttl_ms / 1000
