"""Prints what happens, live: orders, rounds, instances, leaders."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from coordinator_sdk import Client, Instance, TopicMessage

from . import common

SYMBOLS = {"passing": "●", "warning": "▲", "critical": "✕", "draining": "○", "maintenance": "◌"}
_COLOURS = {"dim": "\x1b[2m", "green": "\x1b[32m", "yellow": "\x1b[33m", "cyan": "\x1b[36m"}


def show(symbol: str, text: str, colour: str = "") -> None:
    """Print one line; control characters that others chose stay out of the terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    line = f"{time.strftime('%H:%M:%S')} {symbol} {clean}"
    if colour and sys.stdout.isatty():
        line = f"{_COLOURS[colour]}{line}\x1b[0m"
    print(f"{line}\n", end="", flush=True)  # one write, one line


async def orders(client: Client) -> None:
    """Show orders and rounds."""
    async for message in client.topics.subscribe("orders.>", name="viewer", on_gap="continue"):
        facts = content(message)
        if message.topic == common.CREATED:
            by = message.headers.get("taken-by", "?")
            show("+", f"order {facts.get('id')}: {facts.get('item')}, taken by {by}", "dim")
        elif message.topic == common.SETTLED:
            settled = ", ".join(map(str, facts.get("orders", [])))
            show("✓", f"{facts.get('by')} (token {facts.get('token')}) settled {settled}", "green")


async def rounds(client: Client) -> None:
    """Show rounds."""
    async for message in client.topics.subscribe(common.DUE, name="viewer", on_gap="continue"):
        facts = content(message)
        show("·", f"round {facts.get('round')}, begun by {facts.get('by')}", "dim")


def content(message: TopicMessage) -> dict[str, Any]:
    """The facts of a message; none if it is not ours."""
    try:
        facts = json.loads(message.payload)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


async def instances(client: Client) -> None:
    """Show instances that come, change and go."""
    known: dict[str, Instance] = {}
    async for found in client.services.watch(common.SERVICE, statuses=["*"]):
        now = {instance.instance: instance for instance in found}
        for name, instance in now.items():
            before = known.get(name)
            if before is None or before.status != instance.status:
                symbol = SYMBOLS.get(instance.status, "?")
                why = f" ({instance.status_reason})" if instance.status_reason else ""
                show(symbol, f"instance {name} is {instance.status}{why}", "cyan")
        for name in known.keys() - now.keys():
            show("✕", f"instance {name} is gone", "yellow")
        known = now


async def leaders(client: Client) -> None:
    """Show who leads the schedulers."""
    token = 0
    async for change in client.elections.observe(common.ELECTION):
        if change.leader is None:
            show("◇", "nobody schedules", "yellow")
        elif change.leader.token != token:
            token = change.leader.token
            value = change.leader.value.decode(errors="replace")
            show("◆", f"{value} leads the schedulers, token {token}", "cyan")


async def work(client: Client) -> None:
    """Show everything at once."""
    async with asyncio.TaskGroup() as group:
        for follower in (orders, rounds, instances, leaders):
            group.create_task(follower(client))


if __name__ == "__main__":
    common.run(work)
