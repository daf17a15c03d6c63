"""coordctl prints what etcdctl printed: recorded command lines, replayed."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from coordinator_sdk.testing import CoordinatorProcess, running
from tests.cli.ctl import PATIENT

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(900)]

SCENARIOS = ("put_get", "get_range", "txn", "lease", "watch_history", "member")
LATER_FORMATS = {"fields", "table", "protobuf"}
OUR_OWN = {
    "put_get.44": "the help of a wrong command line is ours",
    "watch_history.19": "the help of a wrong command line is ours",
}


@pytest.fixture(scope="module")
def recorded(conformance_dir: Path) -> Path:
    folder = conformance_dir / "etcdctl"
    if not (folder / "golden.jsonl").is_file():
        pytest.skip(f"{folder} holds no recorded command lines")
    return folder


@pytest.fixture(scope="module")
def golden(recorded: Path) -> ModuleType:
    """The code that reads the records: it expands command lines and normalises output."""
    spec = importlib.util.spec_from_file_location("golden_lib", recorded / "golden_lib.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
def program(tmp_path: Path) -> str:
    """coordctl as one executable file."""
    path = tmp_path / "coordctl"
    exports = "".join(f"export {name}={value}\n" for name, value in PATIENT.items())
    command = f'exec {sys.executable} -m coordinator.cli.coordctl "$@"\n'
    path.write_text(f"#!/bin/sh\n{exports}{command}")
    path.chmod(0o755)
    return str(path)


def without_format(case: dict[str, Any]) -> dict[str, Any] | None:
    """A case whose format is not there yet, without it; None for all other cases."""
    args = list(case.get("args") or ())
    for at, word in enumerate(args):
        if word in LATER_FORMATS and at and args[at - 1] == "-w":
            return {**case, "args": args[: at - 1] + args[at + 1 :]}
    return None


# The code beside the records leaves the pipes of its processes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_output_is_that_of_etcdctl(
    scenario: str,
    recorded: Path,
    golden: ModuleType,
    server: CoordinatorProcess,
    program: str,
    tmp_path: Path,
) -> None:
    """Output and exit code of every recorded command are etcdctl's, but for formats to come."""
    lines = (recorded / "golden.jsonl").read_text().splitlines()
    cases = [case for case in map(json.loads, lines) if case["scenario"] == scenario]
    assert cases
    engine = golden.Engine(f"127.0.0.1:{server.port}", program, str(tmp_path))
    engine.begin(scenario)
    wrong = []
    try:
        for case in cases:
            later = without_format(case)
            got = engine.step(later or case)
            want = case.get("expect")
            if want is None or later is not None or case["id"] in OUR_OWN:
                continue
            assert got is not None
            if (got["exit"], got["stdout"]) != (want["exit"], want["stdout"]):
                wrong.append((case["id"], case.get("args"), want, got))
    finally:
        engine.end()
    assert wrong == []
