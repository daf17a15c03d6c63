"""A model cluster behind a socket, and a client connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from coordinator_sdk import Client, RetryPolicy
from tests.sdk.server import FakeServer, fake_server


@pytest.fixture
def fast() -> RetryPolicy:
    """Hardly any pause between attempts."""
    return RetryPolicy(deadline=20.0, base=0.001, cap=0.01)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """An endpoint of a model cluster."""
    async with fake_server() as fake:
        yield fake


@pytest.fixture
async def client(server: FakeServer, fast: RetryPolicy) -> AsyncIterator[Client]:
    """A connected client."""
    async with Client(server.url, retry=fast) as connected:
        yield connected
