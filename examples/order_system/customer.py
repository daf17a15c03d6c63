"""Finds the instances of ``orders`` and orders from them, a few times a second."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import urllib.request
import uuid
from typing import Any

from coordinator_sdk import Client, Instance

from . import common

ITEMS = ("tea", "coffee", "sugar", "milk", "bread", "honey")
PAUSE_SECONDS = 0.4
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Straight to the instance, whatever proxy the environment names."""


class Directory:
    """The instances at this moment, kept up to date."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.found = asyncio.Event()

    async def follow(self, client: Client) -> None:
        """Take in every change, for ever."""
        async for instances in client.services.watch(common.SERVICE):
            self.instances = instances
            if instances:
                self.found.set()
            else:
                self.found.clear()


def place(instance: Instance, order: dict[str, Any]) -> None:
    """Send an order to an instance; blocks.

    Raises:
        OSError: It did not take it.
    """
    request = urllib.request.Request(
        f"http://{instance.address}:{instance.port}/orders",
        data=json.dumps(order).encode(),
        headers={"content-type": "application/json"},
    )
    with _OPENER.open(request, timeout=5):
        pass


async def work(client: Client) -> None:
    """Order for ever; an order that failed is sent again, with its id, to another instance."""
    directory = Directory()
    following = asyncio.create_task(directory.follow(client))
    try:
        for number in itertools.count():
            order = {"id": uuid.uuid4().hex[:12], "item": random.choice(ITEMS)}
            while True:
                await directory.found.wait()
                instance = directory.instances[number % len(directory.instances)]
                try:
                    await asyncio.to_thread(place, instance, order)
                    break
                except OSError as error:
                    common.say(f"{instance.instance} did not take {order['id']}: {error}")
                    number += 1
                    await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
    finally:
        following.cancel()


if __name__ == "__main__":
    common.run(work)
