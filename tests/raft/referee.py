"""Runs every transcript under a folder and prints what differs.

Usage: `python -m tests.raft.referee DIR`. Files with commands about quorums or configuration
changes are tables over pure functions; all others drive a group of members. Whole outputs are
compared, case by case, with log lines left out of both sides. The last line is `N passed, M
failed`; the exit code is 1 if anything failed.

`python -m tests.raft.referee --rewrite FILE` records the outputs of one file anew.
"""

import difflib
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.raft.datadriven import Case, read_cases
from tests.raft.interaction import Interaction
from tests.raft.tables import ConfChangeTable, QuorumTable

_LOG_LINE = re.compile(r"^\s*(DEBUG|INFO|WARN|WARNING|ERROR|FATAL|PANIC) ")


class Runner(Protocol):
    """What carries out the commands of one file, in order."""

    def run(self, case: Case) -> str:
        """Carry out one command and return its output."""
        ...


@dataclass(frozen=True)
class Verdict:
    """One case, and what came of it."""

    case: Case
    actual: str
    passed: bool

    def report(self) -> str:
        """Return the difference as text."""
        case = self.case
        lines = difflib.unified_diff(
            comparable(case.expected).splitlines(),
            comparable(self.actual).splitlines(),
            "expected",
            "actual",
            lineterm="",
            n=4,
        )
        return f"{case.path}:{case.line}: {case.command}\n" + "\n".join(lines)


def comparable(output: str) -> str:
    """Return an output without log lines. Saying "ok" is the same as saying nothing."""
    lines = [line.rstrip() for line in output.splitlines() if not _LOG_LINE.match(line)]
    text = "\n".join(lines).strip("\n")
    return "" if text == "ok" else text


def runner_for(cases: list[Case]) -> Runner:
    """Return what carries out the commands of a file."""
    commands = {case.command for case in cases}
    if commands & {"committed", "vote"}:
        return QuorumTable()
    if commands & {"simple", "enter-joint", "leave-joint"}:
        return ConfChangeTable()
    return Interaction()


def judge_file(path: Path) -> list[Verdict]:
    """Run the cases of one file. A command that blows up fails; the rest is run all the same."""
    cases = read_cases(path)
    runner = runner_for(cases)
    verdicts = []
    for case in cases:
        try:
            actual = runner.run(case)
        except Exception:  # whatever went wrong is the actual output
            actual = traceback.format_exc(limit=-3)
        passed = comparable(actual) == comparable(case.expected)
        verdicts.append(Verdict(case, actual, passed))
    return verdicts


def transcript_files(folder: Path) -> list[Path]:
    """Return the transcript files under a folder, in order."""
    return sorted(path for path in folder.rglob("*.txt") if path.is_file())


def judge(folder: Path) -> list[Verdict]:
    """Run every file under a folder."""
    return [verdict for path in transcript_files(folder) for verdict in judge_file(path)]


def rewrite(path: Path) -> None:
    """Replace every output in a file by the actual one. The result has to be read and judged."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for verdict in reversed(judge_file(path)):
        first, end = verdict.case.output_span
        lines[first:end] = (verdict.actual.rstrip("\n") or "ok").splitlines()
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run every file under the folder named by the only argument."""
    if len(arguments) == 2 and arguments[0] == "--rewrite":
        rewrite(Path(arguments[1]))
        return 0
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m tests.raft.referee DIR | --rewrite FILE\n")
        return 2
    verdicts = judge(Path(arguments[0]))
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        sys.stdout.write(verdict.report() + "\n\n")
    sys.stdout.write(f"{len(verdicts) - len(failed)} passed, {len(failed)} failed\n")
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
