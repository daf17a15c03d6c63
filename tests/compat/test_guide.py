"""An etcd user's first day: one row per command, with etcdctl and with coordctl."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.api.member import running, until

ETCDCTL = shutil.which("etcdctl") or ""
PROGRAMS = {"etcdctl": (ETCDCTL,), "coordctl": (sys.executable, "-m", "coordinator.cli.coordctl")}

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(180)]


class Row(NamedTuple):
    """A command.

    Attributes:
        words: Its line; ``$NAME`` stands for what was noted before.
        prints: A pattern of all that it prints, to either stream.
        stdin: What it reads.
        notes: What the pattern's first group is called from then on.
    """

    words: str
    prints: str
    stdin: str = ""
    notes: str = ""


KEYS = (
    Row("put foo bar", r"OK\n"),
    Row("put foo1 bar1", r"OK\n"),
    Row("put foo2 bar2", r"OK\n"),
    Row("put fop other", r"OK\n"),
    Row("get foo", r"foo\nbar\n"),
    Row("get foo --hex", r"\\x66\\x6f\\x6f\n\\x62\\x61\\x72\n"),
    Row("get foo --print-value-only", r"bar\n"),
    Row("get foo foo2", r"foo\nbar\nfoo1\nbar1\n"),
    Row("get --prefix foo", r"foo\nbar\nfoo1\nbar1\nfoo2\nbar2\n"),
    Row("get --prefix --limit=2 foo", r"foo\nbar\nfoo1\nbar1\n"),
    Row("get --from-key foo2", r"foo2\nbar2\nfop\nother\n"),
    Row("get --prefix --keys-only foo", r"foo\n\nfoo1\n\nfoo2\n\n"),
    Row("get foo -w json", r'.*"revision":(\d+).*', notes="REV"),
    Row("put foo new --prev-kv", r"OK\nfoo\nbar\n"),
    Row("get --rev=$REV foo", r"foo\nbar\n"),
    Row("watch --rev=$REV --prev-kv foo -- sh -c 'kill $PPID'", r"PUT\nfoo\nbar\nfoo\nnew\n.*"),
    Row("del foo --prev-kv", r"1\nfoo\nnew\n"),
    Row("del --prefix foo", r"2\n"),
    Row("del --from-key fop", r"1\n"),
    Row("txn", r"SUCCESS\n\nOK\n", 'create("t") = "0"\n\nput t 1\n\n\n'),
    Row("compaction $REV", r"compacted revision \d+\n"),
    Row("get --rev=1 foo", r".*required revision has been compacted.*"),
)
LEASES = (
    Row("lease grant 60", r"lease ([0-9a-f]{16}) granted with TTL\(60s\)\n", notes="LEASE"),
    Row("put --lease=$LEASE leased 1", r"OK\n"),
    Row("lease keep-alive --once $LEASE", r"lease [0-9a-f]{16} keepalived with TTL\(60\)\n"),
    Row(
        "lease timetolive $LEASE",
        r"lease [0-9a-f]{16} granted with TTL\(60s\), remaining\(\d+s\)\n",
    ),
    Row("lease timetolive --keys $LEASE", r".*, attached keys\(\[leased\]\)\n"),
    Row("lease list", r"found 1 leases\n[0-9a-f]{16}\n"),
    Row("lease revoke $LEASE", r"lease [0-9a-f]{16} revoked\n"),
    Row("get leased", r""),
)
CLUSTER = (
    Row("member list", r"([0-9a-f]{15,16}), started, .*, false\n", notes="MEMBER"),
    Row("endpoint health", r".* is healthy: .*"),
    Row("endpoint status", r".*, .*, true, false, .*\n"),
    Row("endpoint hashkv", r".*, \d+\n"),
    Row("alarm list", r""),
    Row("alarm disarm", r""),
    Row("defrag", r"Finished defragmenting etcd member\[.*\]\n"),
    Row("move-leader $MEMBER", r".*"),
    Row("snapshot save $FOLDER/backup.db", r".*Snapshot saved at .*backup\.db\n.*"),
    Row("lock mutex -- echo held", r"held\n"),
    Row("version", r".*version: .*"),
)
PEOPLE = (
    Row("user add root:rootpw", r"User root created\n"),
    Row(
        "user grant-role root root",
        r"Role root is granted to user root\n|.*role name not found.*",
    ),
    Row("role add reader", r"Role reader created\n"),
    Row("role grant-permission reader readwrite foo --prefix", r"Role reader updated\n"),
    Row(
        "role get reader",
        r"Role reader\nKV Read:\n\t\[foo, fop\) \(prefix foo\)\nKV Write:\n\t.*\n",
    ),
    Row("user add ann:annpw", r"User ann created\n"),
    Row("user grant-role ann reader", r"Role reader is granted to user ann\n"),
    Row("user get ann", r"User: ann\nRoles: reader\n"),
    Row("user list", r"ann\nroot\n"),
    Row("role list", r"reader\n(root\n)?"),
    Row("auth enable", r"Authentication Enabled\n"),
    Row("get foo", r".*user name is empty.*"),
    Row("--user ann:annpw put foo 1", r"OK\n"),
    Row("--user ann:annpw put zoo 1", r".*permission denied.*"),
    Row("--user ann --password annpw get foo", r"foo\n1\n"),
    Row("--user root:rootpw user passwd ann --interactive=false", r"Password updated\n", "new\n"),
    Row("--user root:rootpw user revoke-role ann reader", r"Role reader is revoked .*"),
    Row("--user root:rootpw user delete ann", r"User ann deleted\n"),
    Row("--user root:rootpw role delete reader", r"Role reader deleted\n"),
    Row("--user root:rootpw auth disable", r"Authentication Disabled\n"),
)
DAY = {"keys": KEYS, "leases": LEASES, "cluster": CLUSTER, "people": PEOPLE}


@pytest.mark.parametrize("part", sorted(DAY))
@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_the_first_day(program: str, part: str, tmp_path: Path) -> None:
    """Every command of the guide prints what the guide shows."""
    if not PROGRAMS[program][0]:
        pytest.skip("etcdctl is not installed: make system-deps")
    noted = {"FOLDER": str(tmp_path)}
    async with running(tmp_path / "data", password_cost=10) as member:
        for row in DAY[part]:
            words = re.sub(r"\$([A-Z]{3,})", lambda found: noted.get(found[1], found[0]), row.words)
            printed = await _run(program, member.port, words, row.stdin, tmp_path)
            found = re.fullmatch(row.prints, printed, re.DOTALL)
            assert found is not None, f"{words}: {printed!r}"
            if row.notes:
                noted[row.notes] = found[1]


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_an_election(program: str, tmp_path: Path) -> None:
    """`elect` leads with what it proposes until it is told to end; `elect -l` tells who leads."""
    async with running(tmp_path / "data") as member:
        process = await _begun(program, member.port, "elect", "news", "me")
        try:
            key, value = [await _line(process) for _ in "kv"]
            assert value == "me"
            listening = await _begun(program, member.port, "elect", "-l", "news")
            try:
                assert [await _line(listening) for _ in "kv"] == [key, value]
            finally:
                await _ended(listening)
        finally:
            await _ended(process)


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_a_mirror(program: str, tmp_path: Path) -> None:
    """`make-mirror` copies what is there, and what follows, to another member."""
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        assert await _run(program, one.port, "put m/before 1", "", tmp_path) == "OK\n"
        to = f"127.0.0.1:{other.port}"
        process = await _begun(program, one.port, "make-mirror", to, "--prefix", "m/")
        try:
            async with asyncio.timeout(30):
                await until(lambda: other.node.keyspace.get(0, b"m/before") is not None)
                await until(lambda: len(one.node.hub) > 0)
                assert await _run(program, one.port, "put m/after 2", "", tmp_path) == "OK\n"
                await until(lambda: other.node.keyspace.get(0, b"m/after") is not None)
        finally:
            await _ended(process)


async def test_a_short_load(tmp_path: Path) -> None:
    """`check perf` writes for as long as it is told, judges, and leaves nothing behind."""
    async with running(tmp_path / "data") as member:
        words = "check perf --load=s --duration 2"
        assert "Throughput" in await _run("coordctl", member.port, words, "", tmp_path)
        assert await _run("coordctl", member.port, "get --from-key ''", "", tmp_path) == ""


async def _begun(program: str, port: int, *words: str) -> asyncio.subprocess.Process:
    """Begin a command that goes on until it is ended."""
    if not PROGRAMS[program][0]:
        pytest.skip("etcdctl is not installed: make system-deps")
    return await asyncio.create_subprocess_exec(
        *(*PROGRAMS[program], f"--endpoints=127.0.0.1:{port}", *words),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"ETCDCTL_API": "3"},
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().rstrip("\n")


async def _ended(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.communicate()


async def _run(program: str, port: int, words: str, stdin: str, folder: Path) -> str:
    """Run a command as a shell would; give all that it prints but log lines."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[program],
        *(f"--endpoints=http://127.0.0.1:{port}", *shlex.split(words)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={n: v for n, v in os.environ.items() if not n.startswith(("ETCDCTL_", "COORDCTL_"))}
        | {"ETCDCTL_API": "3"},
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate(stdin.encode())
    lines = printed.decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith('{"level"'))
