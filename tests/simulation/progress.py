"""The file in which a soak notes the seeds it has played, so that it can go on later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from tests.simulation.run import Result

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("coordinator", "sdk/coordinator_sdk", "tests/simulation")


def tree() -> str:
    """Give a hash of all sources that a run depends on: a seed stands for a run of one tree."""
    state = blake2b(digest_size=8)
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            state.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


class Progress:
    """What was played so far, one line of JSON per seed.

    Args:
        path: The file; None to forget everything at the end. What other trees have noted in it
            stays there and counts for nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._tree = tree()
        self._done: dict[int, Result] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                if row.pop("tree") == self._tree:
                    row["counts"] = Counter(row["counts"])
                    self._done[row["seed"]] = Result(**row)

    def __contains__(self, seed: int) -> bool:
        """Tell whether a seed has been played."""
        return seed in self._done

    def __iter__(self) -> Iterator[Result]:
        """Give what came of every seed, in order."""
        return iter(sorted(self._done.values(), key=lambda result: result.seed))

    def add(self, result: Result) -> None:
        """Note what came of a seed."""
        self._done[result.seed] = result
        if self._path is None:
            return
        row = {
            "tree": self._tree,
            "seed": result.seed,
            "digest": result.digest,
            "violations": result.violations,
            "counts": dict(sorted(result.counts.items())),
            "cpu_seconds": round(result.cpu_seconds, 2),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
