"""Three members in one process that serve clients, on links that can be cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from coordinator.api.server import Server, listen
from coordinator.app import build_app
from coordinator.config import Config
from coordinator.domains import DOMAINS
from coordinator.node.node import Node
from coordinator.node.surroundings import ThisMachine
from coordinator.transport.memory import MemoryNetwork, MemorySwitchboard
from tests.api.member import Running, until

NAMES = ("a", "b", "c")
CLUSTER = ",".join(f"{name}=http://{name}:2380" for name in NAMES)


class Machine(ThisMachine):
    """This machine, but for its way to the other members."""

    def __init__(self, switchboard: MemorySwitchboard) -> None:
        super().__init__()
        self._switchboard = switchboard

    def open_network(self, config: Config) -> MemoryNetwork:
        """Give the network between members."""
        return self._switchboard.open(config.name, config.initial_advertise_peer_urls)


class Together:
    """The members.

    Attributes:
        members: By name.
        switchboard: What lies between them.
    """

    def __init__(self, switchboard: MemorySwitchboard, members: dict[str, Running]) -> None:
        self.switchboard = switchboard
        self.members = members

    def leader(self) -> str:
        """Give the name of the member that leads, empty if there is none."""
        leading = [n for n, one in self.members.items() if one.node.replica.is_leader]
        return leading[0] if len(leading) == 1 else ""

    def follower(self) -> str:
        """Give the name of a member that does not lead."""
        return next(name for name in NAMES if name != self.leader())

    def cut_off(self, name: str) -> None:
        """Let nothing pass between a member and the others."""
        for other in NAMES:
            if other != name:
                self.switchboard.cut(name, other)
                self.switchboard.cut(other, name)

    def url(self, name: str) -> str:
        """Give the client URL of a member."""
        return f"http://127.0.0.1:{self.members[name].port}"


async def _run(folder: Path, name: str, switchboard: MemorySwitchboard) -> Running:
    config = Config(
        name=name,
        data_dir=str(folder / name),
        listen_client_urls=("http://127.0.0.1:0",),
        initial_advertise_peer_urls=(f"http://{name}:2380",),
        listen_peer_urls=("http://127.0.0.1:2380",),
        initial_cluster=CLUSTER,
        heartbeat_interval=20,
        election_timeout=200,
    )
    sockets = listen(config)
    port = sockets[0][0].getsockname()[1]
    config = replace(config, advertise_client_urls=(f"http://127.0.0.1:{port}",))
    node = Node(config, DOMAINS, Machine(switchboard))
    await node.start()
    app = build_app(node, ())
    server = Server(app, app.state.serving, sockets)
    await server.startup()
    task = asyncio.ensure_future(server.until_stopped())
    return Running(port, node, server, task, app)


async def _stop(member: Running) -> None:
    member.server.stop()
    await member.task
    await member.node.stop()


@asynccontextmanager
async def together(folder: Path) -> AsyncIterator[Together]:
    """Run three members until the end of the block."""
    switchboard = MemorySwitchboard(random.Random(0))
    switchboard.silence_seconds = 0.5
    async with AsyncExitStack() as stack:
        made = await asyncio.gather(*(_run(folder, name, switchboard) for name in NAMES))
        for one in made:
            stack.push_async_callback(_stop, one)
        cluster = Together(switchboard, dict(zip(NAMES, made, strict=True)))
        await until(lambda: all(one.node.replica.raw.lead for one in made))
        stack.callback(switchboard.mend_all)
        yield cluster
