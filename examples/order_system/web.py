"""An instance of the service ``orders``: takes orders over HTTP.

It registers under the port it got, tells its health once a second, and drains on SIGTERM: it
asks for no new traffic, answers what still comes for a moment, then deregisters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from coordinator_sdk import Client, CoordinatorError, NotFound, Registration

from . import common

DRAIN_SECONDS = 0.7
BACKLOG_MAX = 50
"""More unsettled orders than this, and the instance warns."""


class Order(BaseModel):
    """What a customer sends. Sending the same id again is the same order."""

    id: str = Field(min_length=1, max_length=64)
    item: str = Field(min_length=1, max_length=100)
    quantity: int = Field(default=1, ge=1, le=1000)


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us: there is something to do before it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def build(client: Client) -> FastAPI:
    """Make the application."""
    app = FastAPI(title="Orders")

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, Any]:
        """Take an order: it is safe as soon as the topic has it."""
        message = json.dumps(order.model_dump()).encode()
        published = await client.topics.publish(
            common.CREATED, message, headers={"taken-by": common.name()}
        )
        return {"id": order.id, "sequence": published.sequence, "by": common.name()}

    @app.get("/orders/{order_id}")
    async def read(order_id: str) -> dict[str, Any]:
        """Tell whether an order is settled, and by whom."""
        receipt = await client.kv.get(common.SETTLED_PREFIX + order_id)
        return {"id": order_id, "settled": json.loads(receipt.value) if receipt else None}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell how many orders wait to be settled."""
        return {"backlog": await backlog(client)}

    return app


async def backlog(client: Client) -> int:
    """Count the orders that wait to be settled."""
    try:
        topic = await client.topics.get(common.CREATED)
    except NotFound:
        return 0
    position = await client.kv.get(common.POSITION_KEY)
    return max(0, topic.last_sequence - (int(position.value) if position else 0))


async def tell_health(client: Client, registration: Registration) -> None:
    """Set the instance's status by the backlog, once a second."""
    while True:
        await asyncio.sleep(1)
        with contextlib.suppress(CoordinatorError):
            waiting = await backlog(client)
            status = "warning" if waiting > BACKLOG_MAX else "passing"
            if status != registration.status:
                reason = f"{waiting} orders wait" if status == "warning" else ""
                await registration.set_status(status, reason)


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[int]:
    """Serve on a free port; gives the port."""
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    server = Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on, who connects is served, if a moment later
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def main() -> None:
    """Serve until told to stop, then drain."""
    async with common.stopping() as stop, Client() as client, serving(build(client)) as port:
        registration = await client.services.register(
            common.SERVICE,
            address="127.0.0.1",
            port=port,
            ttl=common.TTL_SECONDS,
            instance=common.name(),
            tags=["http", "demo"],
            version="1.0",
        )
        async with registration:
            common.say(f"serves http://127.0.0.1:{port}")
            health = asyncio.create_task(tell_health(client, registration))
            await stop.wait()
            health.cancel()
            await registration.drain()
            common.say("drains")
            await asyncio.sleep(DRAIN_SECONDS)
        common.say("has deregistered")


if __name__ == "__main__":
    asyncio.run(main())
