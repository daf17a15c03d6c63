"""A member for the tests of one module, and a fresh connection for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.member import Running, running
from tests.etcd.client import Grpc, connected


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with ordinary limits."""
    async with running(tmp_path_factory.mktemp("member")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def grpc(member: Running) -> AsyncIterator[Grpc]:
    """A connection to it."""
    async with connected(member.port) as made:
        yield made
