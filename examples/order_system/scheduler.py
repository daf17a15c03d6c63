"""Begins a round every second, if elected; otherwise waits for its turn to lead."""

from __future__ import annotations

import asyncio
import json

from coordinator_sdk import Client, CoordinatorError, Leadership

from . import common

PAUSE_SECONDS = 1.0


async def work(client: Client) -> None:
    """Stand for election, again and again."""
    common.say("stands for election")
    while True:
        try:
            async with client.elections.lead(
                common.ELECTION, value=common.name(), ttl=common.TTL_SECONDS
            ) as term:
                common.say(f"leads, token {term.token}")
                await lead(client, term)
        except CoordinatorError as error:
            common.say(f"leads no more: {error}")
            await asyncio.sleep(PAUSE_SECONDS)


async def lead(client: Client, term: Leadership) -> None:
    """Begin rounds for as long as the leadership lasts; a stale leader's are refused."""
    while True:
        last = await client.kv.get(common.ROUND_KEY)
        number = int(last.value) + 1 if last else 1
        await client.kv.put(common.ROUND_KEY, str(number), guard=term)
        news = {"round": number, "by": common.name()}
        await client.topics.publish(common.DUE, json.dumps(news), guard=term)
        await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    common.run(work)
