"""Members for the tests of one module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.member import Running, few, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with ordinary limits."""
    async with running(tmp_path_factory.mktemp("member")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with small limits."""
    limits = few(control_frames=20, fragments=16, in_flight=8, streams_per_connection=3)
    async with running(tmp_path_factory.mktemp("strict"), limits=limits) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A member with little patience."""
    limits = few(
        header_s=0.3, body_s=0.3, keep_alive_s=0.3, greeting_s=0.4, ping_s=0.4, silence_s=1.2
    )
    async with running(tmp_path_factory.mktemp("hasty"), limits=limits) as made:
        yield made
