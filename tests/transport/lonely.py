"""A process with one member in it: `python -m tests.transport.lonely OWN_ID PEER_ID PEER_URL`.

Prints its URL once it listens, and lives until it is killed.
"""

import asyncio
import sys

from coordinator.config import Address
from coordinator.transport.network import StreamNetwork
from tests.transport.member import QUICK, Member


async def main(own: int, peer: int, url: str) -> None:
    """Run."""
    network = StreamNetwork([Address("http", "127.0.0.1", 0)], limits=QUICK)
    here = f"http://127.0.0.1:{network.bind()[0].port}"
    network.set_peers({peer: [url]})
    await network.start(Member(own, network, here, QUICK))
    sys.stdout.write(f"{here}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
