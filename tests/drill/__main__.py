"""``python -m tests.drill NAME [--check]``: run one timed scenario, and write what came of it.

The result goes to drill-results/NAME.json. With --check the exit status is 1 if the scenario
did not pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.bench.measure import disk_sync, machine_facts
from tests.drill.catchup import catchup
from tests.drill.dashboard import dashboard
from tests.drill.failover import failover
from tests.drill.fuzz import fuzz
from tests.drill.partition import partition
from tests.drill.powercut import powercut

RESULTS = Path(__file__).resolve().parents[2] / "drill-results"

DRILLS: dict[str, Callable[[Path], Coroutine[Any, Any, dict[str, Any]]]] = {
    "catchup": catchup,
    "dashboard": dashboard,
    "failover": failover,
    "fuzz": fuzz,
    "partition": partition,
    "powercut": powercut,
}


def main(argv: list[str]) -> int:
    """Run a drill."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("name", choices=sorted(DRILLS))
    parser.add_argument("--check", action="store_true", help="exit 1 if it did not pass")
    arguments = parser.parse_args(argv)
    RESULTS.mkdir(exist_ok=True)
    began = time.time()
    with tempfile.TemporaryDirectory(dir=RESULTS, prefix="run-") as scratch:
        directory = Path(scratch)
        report = {
            "drill": arguments.name,
            "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "machine": machine_facts(directory),
            "disk": disk_sync(directory),
            **asyncio.run(DRILLS[arguments.name](directory)),
            "seconds": round(time.time() - began, 1),
        }
    path = RESULTS / f"{arguments.name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    print(f"written to {path}")
    return 1 if arguments.check and not report["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
