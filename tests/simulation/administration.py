"""Whoever runs the cluster: adds members, promotes, removes and replaces them, moves the leader."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from coordinator.node.initial_cluster import member_id
from coordinator_sdk.protocol.cluster import MemberAdd, MemberPromote, MemberRemove
from tests.simulation.client import Client, Refused
from tests.simulation.cluster import Cluster, Host

TOKEN = "coordinator"
MEMBERS_MAX = 5
JOIN_SECONDS = 8.0
"""How long a new member may take to catch up before the next thing is done."""


@dataclass
class Administration:
    """Changes the members, one at a time.

    Attributes:
        is_busy: Whether it changes members of its own accord; replacing a spoiled one it always
            does.
        is_ending: Nothing new is begun any more.
    """

    cluster: Cluster
    client: Client
    rng: random.Random
    is_busy: bool
    is_ending: bool = False

    async def work(self) -> None:
        """Change the members, and replace those whose disk is lost."""
        changing = [asyncio.ensure_future(self._change_members())]
        # A group that is not healthy may refuse everything but to be mended: what waits for its
        # health must not stand in the way.
        while not (self.is_ending and all(map(_is_done, changing)) and not self._spoiled()):
            for host in self._spoiled():
                if host.node is not None:
                    host.is_spoiled = False  # What was damaged was not needed any more.
                elif host.has_ended and await self._remove(host):
                    changing.append(asyncio.ensure_future(self._add()))
            await asyncio.sleep(0.3)
        await asyncio.gather(*changing)

    def _spoiled(self) -> list[Host]:
        return [host for host in self.cluster.wanted if host.is_spoiled]

    async def _change_members(self) -> None:
        """Do one thing after another."""
        while not self.is_ending:
            await asyncio.sleep(0.3 + self.rng.random() * 2)
            if self.is_busy and self.cluster.size > 1 and not self.is_ending:
                await self._change()

    async def _change(self) -> None:
        kind = self.rng.random()
        wanted = self.cluster.wanted
        if kind < 0.4:
            await self._move_leader()
        elif len(wanted) <= 3 or (kind < 0.7 and len(wanted) < MEMBERS_MAX):
            await self._add()
        else:
            await self._remove(self.rng.choice(wanted))

    async def _add(self) -> None:
        """Add a member: as a voter at once, as a learner, or as one that is promoted by itself."""
        host = self.cluster.add_host()
        body = MemberAdd(
            list(host.config.initial_advertise_peer_urls),
            host.name,
            is_learner=self.rng.random() < 0.7,
            promote_when_ready=self.rng.random() < 0.5,
            member=member_of(host),
        )
        if not await self._done(body, f"{host.name} is added"):
            return
        host.is_removed = False
        await asyncio.sleep(self.rng.random() * 0.5)
        if host.life is None:
            host.boot()
        if body.is_learner and not body.promote_when_ready:
            await self._until_caught_up(host)
            await self._done(MemberPromote(member_of(host)), f"{host.name} is promoted")

    async def _until_caught_up(self, host: Host) -> None:
        end = self.cluster.loop.now + JOIN_SECONDS
        while self.cluster.loop.now < end and not host.is_serving:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def _remove(self, host: Host) -> bool:
        if host.is_leaving:
            return False
        host.is_leaving = True
        if not await self._done(MemberRemove(member_of(host)), f"{host.name} is removed"):
            host.is_leaving = False
            return False
        host.is_removed = True
        # Whoever runs it may be slow to switch it off; it must do no harm until then.
        await asyncio.sleep(self.rng.choice((0.0, 0.5, 3.0)))
        if host.life is not None:
            host.exit()
        return True

    async def _move_leader(self) -> None:
        leader = self.cluster.leader
        others = [host for host in self.cluster.wanted if host is not leader]
        if leader is None or leader.node is None or leader.life is None or not others:
            return
        successor = self.rng.choice(others)
        self.cluster.note(f"{leader.name} hands over to {successor.name}")
        self.cluster.counts["leader transfers"] += 1
        node = leader.node
        leader.life.send(node.replica.raw.transfer_leader, member_of(successor))

    async def _done(self, body: object, text: str) -> bool:
        try:
            await self.client.change(body)
        except Refused as refused:
            self.cluster.note(f"not: {text}: {refused}")
            self.cluster.counts["membership refusals"] += 1
            return False
        self.cluster.note(text)
        self.cluster.counts["membership changes"] += 1
        return True


def _is_done(task: asyncio.Future[None]) -> bool:
    return task.done()


def member_of(host: Host) -> int:
    """Give the id of a machine's member."""
    if host.disk.identity is not None:
        return host.disk.identity.member_id
    return member_id(host.config.initial_advertise_peer_urls, TOKEN)
