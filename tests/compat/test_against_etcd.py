"""The same random requests to a member and to a real etcd: the answers must be the same."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.api.member import running
from tests.compat.etcd import etcd
from tests.etcd.client import Grpc, Refused, connected
from tests.etcd.starting import settled

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(180)]

REQUESTS = 2000
KEYS = (b"a", b"b", b"c", b"ab", b"\0", b"d", b"\xff")
ENDS = (b"", b"\0", b"b", b"c", b"z", b"a", b"\xff")
LEASES = (7, 8, 9)
NUMBERS = ("version", "create_revision", "mod_revision", "value", "lease")


class Dice:
    """Makes requests.

    Args:
        seed: Decides on all of them.

    Attributes:
        revision: The revision of the last answer, near which theirs are chosen.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.revision = 1

    def request(self) -> tuple[str, dict[str, Any]]:
        """Give a method and the fields of its request."""
        ids = (*LEASES, 10, 0)
        return self._weighed(
            (25, lambda: ("KV/Put", self._put())),
            (25, lambda: ("KV/Range", self._range())),
            (10, lambda: ("KV/DeleteRange", self._delete())),
            (28, lambda: ("KV/Txn", self._txn())),
            (2, lambda: ("KV/Compact", {"revision": self._near(1) or -1})),
            (3, lambda: ("Lease/LeaseGrant", {"ID": self._one(LEASES), "TTL": 5000})),
            (2, lambda: ("Lease/LeaseRevoke", {"ID": self._one(ids)})),
            (2, lambda: ("Lease/LeaseTimeToLive", {"ID": self._one(ids), "keys": True})),
            (1, lambda: ("Lease/LeaseLeases", {})),
        )

    def _one(self, choices: Any) -> Any:
        return self._random.choice(choices)

    def _is(self, percent: int) -> bool:
        return self._random.random() * 100 < percent

    def _weighed(self, *choices: Any) -> Any:
        weights = [weight for weight, _ in choices]
        return self._random.choices([make for _, make in choices], weights)[0]()

    def _key(self) -> bytes:
        return b"" if self._is(2) else self._one(KEYS)

    def _near(self, low: int) -> int:
        return max(low, self.revision - self._one((-1, 0, 1, 3, 20)))

    def _put(self) -> dict[str, Any]:
        made = {"key": self._key(), "value": self._one((b"", b"1", b"2"))}
        if self._is(20):
            made["lease"] = self._one((*LEASES, 10))
        for flag, percent in (("prev_kv", 30), ("ignore_value", 10), ("ignore_lease", 10)):
            if self._is(percent):
                made[flag] = True
        return made

    def _range(self) -> dict[str, Any]:
        made = {"key": self._key(), "range_end": self._one(ENDS)}
        if self._is(30):
            made["revision"] = self._one((-1, 0, 1, self._near(0)))
        for name, percent, choices in (
            ("limit", 30, (-1, 0, 1, 2, 3)),
            ("sort_order", 30, (0, 1, 2)),
            ("sort_target", 30, (0, 1, 2, 3, 4)),
            ("keys_only", 10, (True,)),
            ("count_only", 10, (True,)),
        ):
            if self._is(percent):
                made[name] = self._one(choices)
        for name in ("mod_revision", "create_revision"):
            for side in ("min", "max"):
                if self._is(8):
                    made[f"{side}_{name}"] = self._near(0)
        return made

    def _delete(self) -> dict[str, Any]:
        return {"key": self._key(), "range_end": self._one(ENDS), "prev_kv": self._is(40)}

    def _txn(self, depth: int = 0) -> dict[str, Any]:
        return {
            "compare": [self._compare() for _ in range(self._one((0, 1, 1, 2)))],
            "success": [self._op(depth) for _ in range(self._one((0, 1, 2, 3)))],
            "failure": [self._op(depth) for _ in range(self._one((0, 1, 2)))],
        }

    def _compare(self) -> dict[str, Any]:
        target = self._random.randrange(len(NUMBERS))
        made = {"target": target, "result": self._random.randrange(4), "key": self._key()}
        if self._is(30):
            made["range_end"] = self._one(ENDS)
        if self._is(90):
            choices = (b"", b"1", b"2") if target == 3 else (0, 1, 2, 7, self.revision)
            made[NUMBERS[target]] = self._one(choices)
        return made

    def _op(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = self._weighed(
            (45, lambda: {"request_put": self._put()}),
            (25, lambda: {"request_range": self._range()}),
            (15, lambda: {"request_delete_range": self._delete()}),
            (14 if depth < 2 else 0, lambda: {"request_txn": self._txn(depth + 1)}),
            (1, dict),
        )
        return made


async def asked(grpc: Grpc, method: str, fields: dict[str, Any]) -> tuple[int, str]:
    """Make a call; give the revision and the answer without what is each server's own."""
    try:
        answer = await grpc.call(f"/etcdserverpb.{method}", **fields)
    except Refused as refused:
        return 0, f"{refused.code}: {refused.message}"
    revision = int(answer.header.revision)
    answer.header.cluster_id = answer.header.member_id = answer.header.raft_term = 0
    if method == "Lease/LeaseTimeToLive":
        answer.TTL = min(answer.TTL, 0)
        keys = sorted(answer.keys)
        del answer.keys[:]
        answer.keys.extend(keys)
    elif method == "Lease/LeaseLeases":
        return revision, str(sorted(one.ID for one in answer.leases))
    return revision, str(answer)


@pytest.mark.parametrize("seed", [1, 2])
async def test_answers_are_those_of_etcd(tmp_path: Path, repository: Path, seed: int) -> None:
    """Random puts, ranges, deletions, nested transactions, compactions and leases are answered
    as a real etcd answers them: results, headers, codes and texts."""
    dice = Dice(seed)
    async with etcd(tmp_path, repository) as port, running(tmp_path / "member") as member:
        await settled(member.port, 1)
        async with connected(member.port) as ours, connected(port) as theirs:
            for number in range(REQUESTS):
                method, fields = dice.request()
                mine, wanted = await asyncio.gather(
                    asked(ours, method, fields), asked(theirs, method, fields)
                )
                assert mine == wanted, (number, method, fields)
                dice.revision = wanted[0] or dice.revision
