"""One of the pool: settles orders, one worker at a time.

Every order is settled exactly once, whatever happens to the workers: the receipt, the check
that there is none yet, and the new position are one transaction, and the transaction is
refused if the lock has been lost meanwhile.
"""

from __future__ import annotations

import asyncio
import json

from coordinator_sdk import (
    AcquireTimeout,
    Client,
    CoordinatorError,
    Lock,
    NotFound,
    TopicMessage,
    ops,
)

from . import common

BATCH = 5
SECONDS_PER_ORDER = 0.03
"""What settling an order takes in this play."""


async def work(client: Client) -> None:
    """On every round, queue for the lock and settle some orders."""
    common.say("waits for rounds")
    async for _ in client.topics.subscribe(common.DUE, name=common.name(), on_gap="continue"):
        try:
            async with client.locks.lock(
                common.LOCK, timeout=5, ttl=common.TTL_SECONDS, reason="settling orders"
            ) as lock:
                await settle_some(client, lock)
        except AcquireTimeout:
            continue
        except CoordinatorError as error:  # the lock was lost, or nobody answered: next round
            common.say(f"gave up this round: {error}")


async def settle_some(client: Client, lock: Lock) -> None:
    """Settle the next orders, in their sequence."""
    position = await client.kv.get(common.POSITION_KEY)
    first = int(position.value) + 1 if position else 1
    revision = position.mod_revision if position else 0
    try:
        found = await client.topics.read(common.CREATED, first=first, limit=BATCH)
    except NotFound:  # nobody has ordered anything yet
        return
    settled = []
    for message in found.messages:
        await asyncio.sleep(SECONDS_PER_ORDER)
        revision, order_id = await settle(client, lock, message, revision)
        settled.append(order_id)
    if settled:
        news = {"orders": settled, "by": common.name(), "token": lock.token}
        await client.topics.publish(common.SETTLED, json.dumps(news), guard=lock)


async def settle(
    client: Client, lock: Lock, message: TopicMessage, position_revision: int
) -> tuple[int, str]:
    """Settle one order.

    Args:
        client: The client.
        lock: The lock, held.
        message: The order.
        position_revision: The revision that last wrote the position; nobody else may have.

    Returns:
        The revision that wrote the position now, and the order's id.
    """
    order_id = id_of(message)
    receipt_key = common.SETTLED_PREFIX + order_id
    receipt = {"by": common.name(), "token": lock.token, "sequence": message.sequence}
    once = ops.txn(
        compare=[ops.create_revision(receipt_key) == 0],
        success=[ops.put(receipt_key, json.dumps(receipt))],
    )
    result = await client.kv.txn(
        compare=[ops.mod_revision(common.POSITION_KEY) == position_revision],
        success=[once, ops.put(common.POSITION_KEY, str(message.sequence))],
        guard=lock,
    )
    if not result.succeeded:  # only a holder writes the position, and the guard has passed
        raise RuntimeError("somebody else wrote the position")
    return result.revision, order_id


def id_of(message: TopicMessage) -> str:
    """The id of an order; its sequence if the message is none of ours."""
    try:
        return str(json.loads(message.payload)["id"])
    except (ValueError, KeyError, TypeError):
        return f"message-{message.sequence}"


if __name__ == "__main__":
    common.run(work)
