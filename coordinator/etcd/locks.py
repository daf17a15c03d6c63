"""The v3lock service: mutual exclusion among etcd's clients, on user keys.

It knows nothing of the locks of this program, and they know nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.etcd.messages import METHODS
from coordinator.etcd.recipes import Recipe
from coordinator.keyspace import check
from coordinator_sdk.protocol.kv import Delete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Call, Shared, Unary
    from coordinator.etcd.messages import Message

_LockResponse = METHODS["/v3lockpb.Lock/Lock"].response


class Locks:
    """Locks on user keys."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._headers = shared.headers

    def calls(self) -> Mapping[str, Unary]:
        """Give the calls of the service by path."""
        return {"/v3lockpb.Lock/Lock": self._lock, "/v3lockpb.Lock/Unlock": self._unlock}

    def _lock(self, call: Call, m: Message) -> None:
        call.spawn(self._locked(call, m.name, m.lease))

    async def _locked(self, call: Call, name: bytes, lease: int) -> None:
        recipe = Recipe(self._shared, call, name)
        lease = await recipe.ensure_lease(lease)
        key, created, revision = await recipe.enter(lease, b"")
        try:
            revision = max(revision, await recipe.wait_turn(key, created, lease))
        except BaseException:
            await recipe.leave(key, created)
            raise
        answer = _LockResponse(key=key)
        call.reply(self._headers.at(revision) + answer.SerializeToString())

    def _unlock(self, call: Call, m: Message) -> None:
        check.check(Delete(m.key), strict=False)
        call.spawn(self._unlocked(call, m.key))

    async def _unlocked(self, call: Call, key: bytes) -> None:
        result = await Recipe(self._shared, call, b"").change(Delete(key))
        call.reply(self._headers.at(result.revision))
