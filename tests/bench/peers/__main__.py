"""``python -m tests.bench.peers [--check] [names...]``: this program beside others, in one run.

For each workload, round after round: ours, then each peer, then ours again. Every measurement has a
fresh server on an empty directory of the same disk and one fresh client process. What a run does
not measure stays in the JSON from the run before, with the time of that run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.measure import Figures, Idleness, disk_sync, machine_facts
from tests.bench.peers.plan import COMPARED, missed, ratio
from tests.bench.peers.servers import PEERS, Program, serving

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RESULTS = ROOT / "bench-results"
FOLDER = ROOT / ".data" / "bench-peers"
ROUNDS = 3
SECONDS = 2.0
CLIENT_SECONDS_MAX = 90
OURS = "ours"


def run_client(peer: str, workload: str, port: int, seconds: float, folder: Path) -> Figures:
    """Run one client process; give its figures.

    Raises:
        RuntimeError: It failed; with what it said.
    """
    python = sys.executable if peer == OURS else str(folder / "clients" / "bin" / "python")
    paths = [str(ROOT), str(ROOT / "sdk")] if peer == OURS else [str(ROOT)]
    ran = subprocess.run(
        [python, "-m", f"tests.bench.peers.clients.{peer}", workload, str(port), str(seconds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS_MAX,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{peer} {workload}: {ran.stderr[-2000:]}")
    figures: Figures = json.loads(ran.stdout.splitlines()[-1])
    return figures


def children_seconds() -> float:
    """Give the CPU time of the client processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure_once(
    contestant: str,
    name: str,
    program: Program | None,
    arguments: argparse.Namespace,
    directory: Path,
) -> Figures:
    """Measure one contestant once, on fresh servers."""
    compared = COMPARED[name]
    peer, _, way = contestant.partition("/")
    workload = f"{compared.workload}/{way}" if way else compared.workload
    directory.mkdir()
    try:
        with serving(peer, program, directory, compared.members) as members:
            idleness, used, asked = Idleness(), members.cpu_seconds(), children_seconds()
            figures = run_client(peer, workload, members.port, arguments.seconds, arguments.folder)
            used, asked = members.cpu_seconds() - used, children_seconds() - asked
            return {
                **figures,
                "server_cpu_s": used,
                "client_cpu_s": asked,
                "server_rss_mb": members.memory_mb(),
                "other_cpu_percent": idleness.others_percent(used + asked),
            }
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(
    name: str, programs: dict[str, Program], arguments: argparse.Namespace, scratch: Path
) -> dict[str, Any]:
    """Measure ours and every peer in turn, a few times."""
    compared = COMPARED[name]
    present = [one for one in compared.against if not programs[one.partition("/")[0]].missing]
    runs: dict[str, list[Figures]] = {one: [] for one in (OURS, *present)}
    taken_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    disk = disk_sync(scratch)
    for number in range(arguments.rounds):
        for contestant, measured in runs.items():
            program = programs.get(contestant.partition("/")[0])
            measured.append(
                measure_once(contestant, name, program, arguments, scratch / f"{name}-{number}")
            )
    figure = compared.figure
    medians = {
        contestant: {key: median(run[key] for run in measured) for key in measured[0]}
        for contestant, measured in runs.items()
    }
    ratios = {
        contestant: {
            "median": ratio(medians[OURS][figure], medians[contestant][figure]),
            "rounds": [
                ratio(ours[figure], theirs[figure])
                for ours, theirs in zip(runs[OURS], runs[contestant], strict=True)
            ],
        }
        for contestant in present
    }
    return {
        "taken_at": taken_at,
        "disk": disk,
        "seconds": arguments.seconds,
        "medians": medians,
        "ratios": ratios,
        "runs": runs,
    }


def missed_goals(workloads: dict[str, Any]) -> list[str]:
    """Compare with the goals; only what was measured counts."""
    found = []
    for name, goals in tomllib.loads((HERE / "goals.toml").read_text()).items():
        ratios = workloads.get(name, {}).get("ratios", {})
        for contestant, goal in goals.items():
            if contestant in ratios and missed(ratios[contestant]["median"], goal):
                value = ratios[contestant]["median"]
                found.append(f"{name} against {contestant}: {value:.2f} times, the goal is {goal}")
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMPARED))
    parser.add_argument("--check", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument("--json", type=Path, default=RESULTS / "peers.json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each rate")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="what bench_peers.sh made")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in COMPARED]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(COMPARED)}")
    return arguments


def main(argv: list[str]) -> int:
    """Measure, print, write the JSON, and compare with the goals if asked."""
    arguments = parse(argv)
    # Told to end, it ends its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs = {peer: find(arguments.folder) for peer, (find, _) in PEERS.items()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    report: dict[str, Any] = {"workloads": {}}
    if arguments.json.exists():
        report = json.loads(arguments.json.read_text())
    report["peers"] = {
        peer: {
            "missing": program.missing,
            "version": None if program.missing else program.version(),
        }
        for peer, program in programs.items()
    }
    for peer, program in programs.items():
        print(f"{peer:18} {program.missing or report['peers'][peer]['version']}", flush=True)
    names = arguments.names or list(COMPARED)
    with tempfile.TemporaryDirectory(dir=RESULTS, prefix="run-") as scratch:
        report["machine"] = machine_facts(Path(scratch))
        for name in names:
            result = measure(name, programs, arguments, Path(scratch))
            report["workloads"][name] = result
            # Written at once: a run that is cut short keeps what it has.
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")
            figure = COMPARED[name].figure
            shown = [f"{one} {result['medians'][one][figure]:,.2f}" for one in result["medians"]]
            print(f"{name:18} {'  '.join(shown)} {COMPARED[name].unit}", flush=True)
    found = missed_goals({name: report["workloads"][name] for name in names})
    print(f"written to {arguments.json}")
    for line in found:
        print(f"GOAL MISSED: {line}")
    return 1 if found and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
