"""A member in miniature for every test that wants one."""

import pytest

from tests.domains.small_node import Small


@pytest.fixture
async def small() -> Small:
    """Return a member with three sessions: 1, 2 and 3."""
    made = Small()
    for session in (1, 2, 3):
        made.node.open_session(session)
    return made
