"""Watches that lag are fed from history: from memory, and from the database where need be."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.keyspace.keyspace import Keyspace
    from coordinator.keyspace.watch import WatchHub
    from coordinator.keyspace.watcher import Fetch
    from coordinator.node.persistence import Persistence

CATCH_UP_EVENTS = 5000
"""Events fed to lagging watches in one turn."""


class Feeding:
    """Feeds the watches of a hub.

    Args:
        hub: The watches.
        persistence: Where the past is.
        keyspace: Gives the published state, whichever it is by now.
        on_failure: Told of an error after which the member must stop.
    """

    def __init__(
        self,
        hub: WatchHub,
        persistence: Persistence,
        *,
        keyspace: Callable[[], Keyspace],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._hub = hub
        self._persistence = persistence
        self._keyspace = keyspace
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._fetches: deque[Fetch] = deque()
        """What the hub has asked for, once, and still waits for."""

    def catch_up(self) -> None:
        """Feed lagging watches from memory, and begin to feed others from the database."""
        self._fetches += self._hub.catch_up(CATCH_UP_EVENTS)
        if self._fetches and self._task is None:
            self._task = task = asyncio.ensure_future(self._feed())
            task.add_done_callback(self._fed)

    def stop(self) -> None:
        """Feed nobody any more."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _feed(self) -> None:
        """Read the past from the database, and give it to the watches that wait for it."""
        while self._fetches:
            fetch = self._fetches.popleft()
            rows = await self._persistence.old_revisions(fetch.first, fetch.last)
            # Below the compact revision, revisions may have lost some of their rows by now.
            keyspace = self._keyspace()
            kept = [row for row in rows if row[0] >= keyspace.compact_revision]
            past = keyspace.events_of_rows(kept, fetch.prev_kv)
            if past.missing:
                past.fill(await self._persistence.old_values(past.missing))
            self._hub.feed(fetch, past.revisions)

    def _fed(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)
        elif (self._fetches or self._hub.is_lagging) and not self._is_stopped:
            asyncio.get_running_loop().call_soon(self.catch_up)
