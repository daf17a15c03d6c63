"""The transcripts and tables, recorded and our own, and the referee itself."""

from pathlib import Path

import pytest

from tests.raft.datadriven import parse_command, read_cases
from tests.raft.referee import comparable, judge, judge_file, main, rewrite, transcript_files

OWN = Path(__file__).parent / "testdata"

SMALL = """\
# A group of one elects itself.

add-nodes 1 voters=(1) index=10
----
INFO anything at all

campaign 1
----
ok

raft-state
----
1: StateCandidate (Voter) Term:1 Lead:0
"""


def failures(folder: Path) -> list[str]:
    return [verdict.report() for verdict in judge(folder) if not verdict.passed]


def test_recorded_transcripts_are_reproduced(conformance_dir: Path) -> None:
    """The core reproduces every message and every bundle of the recorded transcripts."""
    folder = conformance_dir / "raft"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: no recorded transcripts")
    assert transcript_files(folder)
    assert failures(folder) == []


@pytest.mark.parametrize("path", transcript_files(OWN), ids=lambda path: path.stem)
def test_own_transcripts_are_reproduced(path: Path) -> None:
    """The core does what our own transcripts say, each of which begins with its intent."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert [verdict.report() for verdict in judge_file(path) if not verdict.passed] == []


def test_there_are_enough_own_transcripts() -> None:
    """What the recorded corpus lacks has transcripts of our own: reads, restarts, loss and more."""
    assert len(transcript_files(OWN)) >= 8


def test_the_referee_counts_by_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The referee ends with the number of cases passed and failed, and exits accordingly."""
    file = tmp_path / "deep" / "small.txt"
    file.parent.mkdir()
    file.write_text(SMALL, encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "3 passed, 0 failed\n"
    file.write_text(SMALL.replace("StateCandidate", "StateLeader"), encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert output.endswith("\n2 passed, 1 failed\n")
    assert "-1: StateLeader" in output
    assert "+1: StateCandidate" in output


def test_the_referee_wants_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder the referee says what it wants; a folder without transcripts fails."""
    assert main([]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("usage") == 2
    assert main([str(tmp_path)]) == 1


def test_a_command_that_blows_up_fails_alone(tmp_path: Path) -> None:
    """A command that raises counts as one failed case, and shows what was raised."""
    file = tmp_path / "broken.txt"
    file.write_text("process-ready\n----\nok\n\npropose\n----\nok\n\nnonsense\n----\nok\n")
    verdicts = judge_file(file)
    assert [verdict.passed for verdict in verdicts] == [True, False, False]
    assert "IndexError" in verdicts[1].report()
    assert "unknown command" in verdicts[2].report()


def test_outputs_can_be_recorded(tmp_path: Path) -> None:
    """Recording replaces outputs and nothing else, so that a transcript can be written by hand."""
    file = tmp_path / "small.txt"
    file.write_text(SMALL.replace("1: State", "2: State"), encoding="utf-8")
    rewrite(file)
    assert file.read_text(encoding="utf-8") == SMALL.replace("INFO anything at all", "ok")


def test_log_lines_are_left_out() -> None:
    """Log lines do not count, on either side, and saying nothing is the same as saying ok."""
    assert comparable("INFO 1 became follower\n  DEBUG x\nWARN y\nERROR z\n") == ""
    assert comparable("ok\n") == ""
    assert comparable("> 1 handling Ready\n  INFO x\n  Ready\n") == "> 1 handling Ready\n  Ready"


def test_transcripts_are_parsed(tmp_path: Path) -> None:
    """Arguments, input, continuation lines, and outputs with blank lines are understood."""
    file = tmp_path / "forms.txt"
    file.write_text(
        "# comment\n\ncommand one two=(1, 2) \\\n  three=x=y four=()\ninput\nmore\n----\nout\n\n"
        "second\n----\n----\nwith\n\nblank\n----\n----\n\nthird\n----\n\nfourth\n",
        encoding="utf-8",
    )
    first, second, third, fourth = read_cases(file)
    assert (first.command, first.words(), first.input) == (
        "command",
        ["one", "four"],
        "input\nmore",
    )
    assert list(first.pairs()) == [("two", "1"), ("two", "2"), ("three", "x=y")]
    assert first.value("two") == "1"
    assert first.value("none") is None
    assert (first.line, first.expected) == (3, "out\n")
    assert second.expected == "with\n\nblank\n"
    assert (third.expected, fourth.expected) == ("", "")
    assert parse_command("bare") == ("bare", ())
