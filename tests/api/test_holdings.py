"""One user's leases and tickets leave room for those of others, and for root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.domains.locks.api import API as LOCKS_API
from coordinator.domains.services.api import API as SERVICES_API
from coordinator_sdk.protocol.frames import Failure
from coordinator_sdk.protocol.kv import LeaseGrant, LeaseGrantResult, LeaseRevoke
from coordinator_sdk.protocol.locks import LockAcquire
from coordinator_sdk.protocol.services import ServiceRegister
from coordinator_sdk.protocol.sessions import SessionClose, SessionOpen, SessionOpenResult
from tests.api.member import Socket, few
from tests.api.users import KEYS, PASSWORD, Guarded, guarded
from tests.etcd.client import Refused, connected

ACTIONS = ("session:open", "lock:acquire", "service:register")
RIGHTS = [KEYS, *({"domain": {"action": action, "name": "*"}} for action in ACTIONS)]
GRANT = LeaseGrant(60_000)
OPEN = SessionOpen(60_000)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Guarded]:
    """Run a member in which little may be held."""
    limits = few(leases=4, leases_per_user=2, leases_reserve=2, records_per_user=4)
    domains = [LOCKS_API, SERVICES_API]
    async with guarded(tmp_path, limits=limits, domains=domains) as made:
        for user in ("hog", "other"):
            await made.add_user(user, *RIGHTS)
        yield made


async def limit_of(socket: Socket, request: Any) -> str:
    """Name the limit that a request is refused for; empty if it is served."""
    answer = await socket.call(request)
    return str(answer.details.get("limit")) if isinstance(answer, Failure) else ""


async def test_leases(house: Guarded) -> None:
    """A user's leases and sessions are counted together, over all connections and faces."""
    async with (
        house.socket("hog") as hog,
        house.socket("hog") as again,
        house.socket("other") as other,
        house.socket() as root,
    ):
        lease = (await hog.call(GRANT, LeaseGrantResult)).lease
        session = (await again.call(OPEN, SessionOpenResult)).session
        for socket in (hog, again):
            for request in (GRANT, OPEN):
                assert await limit_of(socket, request) == "leases_per_user"
        token = await house.token("hog")
        answer = await house.ask("POST", "/v1/leases", {"ttl_ms": 60_000}, token=token)
        assert (answer.status, answer.error["details"]) == (429, {"limit": "leases_per_user"})
        assert "--max-leases-per-user" in answer.error["message"]
        async with connected(house.member.port) as grpc:
            told = await grpc.call("/etcdserverpb.Auth/Authenticate", name="hog", password=PASSWORD)
            grant = "/etcdserverpb.Lease/LeaseGrant"
            with pytest.raises(Refused) as caught:
                await grpc.call(grant, ("token", told.token), TTL=60)
            assert caught.value.code == 8  # RESOURCE_EXHAUSTED
            for path in ("/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign"):
                with pytest.raises(Refused) as caught:  # A call without a lease takes one.
                    await grpc.call(path, ("token", told.token), name=b"app/lock")
                assert caught.value.code == 8
        for _ in range(2):
            assert await limit_of(other, GRANT) == ""
        await hog.call(LeaseRevoke(lease))
        assert await limit_of(hog, GRANT) == ""
        assert await limit_of(root, GRANT) == ""
        await again.call(SessionClose(session))
        assert await limit_of(root, GRANT) == ""
        assert await limit_of(hog, GRANT) == "leases"
        assert await limit_of(root, GRANT) == ""
        assert await limit_of(root, GRANT) == "leases"


async def test_tickets_and_instances(house: Guarded) -> None:
    """What a user's sessions hold, await and register is counted; others have their own."""
    async with house.socket("hog") as hog, house.socket("other") as other:
        mine = (await hog.call(OPEN, SessionOpenResult)).session
        theirs = (await other.call(OPEN, SessionOpenResult)).session
        assert await limit_of(other, LockAcquire("default", "held", theirs, "a")) == ""
        # The record of the session, and three of a ticket that waits.
        assert await limit_of(hog, LockAcquire("default", "held", mine, "a")) == ""
        assert (
            await limit_of(hog, LockAcquire("default", "free", mine, "a"))
            == "session_records_per_user"
        )
        register = ServiceRegister("default", "api", mine)
        assert await limit_of(hog, register) == "session_records_per_user"
        assert await limit_of(other, LockAcquire("default", "free", theirs, "a")) == ""


async def test_a_retry_takes_nothing_more(house: Guarded) -> None:
    """Who is told nothing of a grant asks again, and learns of it, although all is used up."""
    async with house.socket("hog") as hog:
        first = hog.next_id
        granted = await hog.call(GRANT, LeaseGrantResult)
        assert await limit_of(hog, GRANT) == ""
        assert await limit_of(hog, GRANT) == "leases_per_user"
        hog.next_id = first
        assert await hog.call(GRANT, LeaseGrantResult) == granted
