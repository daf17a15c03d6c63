"""The command `coordinator-etcd`: etcd's command line, its environment and its readiness lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.cli.etcd import IGNORED, REFUSED, SAME, is_known, main, read_arguments, translate
from coordinator.config import ConfigError, setting_fields
from tests.etcd.client import Refused, connected

MAINTENANCE = "/etcdserverpb.Maintenance/"
SERVE = (sys.executable, "-m", "coordinator.cli.etcd")


def free_port() -> int:
    """Find a port nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_flags_have_one_dash_or_two() -> None:
    """Flags are read as Go reads them: one dash or two, a value behind = or as the next word."""
    words = [
        "-name",
        "a",
        "--data-dir=d",
        "-enable-v2",
        "--pre-vote=false",
        "--snapshot-count",
        "9",
    ]
    assert read_arguments(words) == {
        "name": "a",
        "data-dir": "d",
        "enable-v2": "true",
        "pre-vote": "false",
        "snapshot-count": "9",
    }


@pytest.mark.parametrize("words", [["--nothing"], ["--name"], ["word"], ["--"]])
def test_what_is_no_flag_is_refused(words: list[str]) -> None:
    """Unknown flags, flags without their value and other words are refused."""
    with pytest.raises(ConfigError):
        read_arguments(words)


def test_flags_that_mean_the_same_exist_here() -> None:
    """Every flag that is handed on is one of ours."""
    assert set(setting_fields()) >= SAME


def test_the_environment_counts_after_the_command_line() -> None:
    """ETCD_NAME stands for --name, unless that is given; other variables mean nothing."""
    environment = {"ETCD_NAME": "env", "ETCD_MAX_TXN_OPS": "64", "ETCD_UNKNOWN": "x", "NAME": "y"}
    given = translate(["--name=line"], environment)
    assert (given.flags["name"], given.flags["max-txn-ops"]) == ("line", "64")
    assert given.problems == []


def test_what_does_not_apply_is_said() -> None:
    """Flags that mean nothing here are accepted with a warning, and so is being open to all."""
    given = translate(
        ["--wal-dir=x", "--logger=zap", "--experimental-corrupt-check-time", "5m"], {}
    )
    assert [line.split()[0] for line in given.warnings[:3]] == [
        "--wal-dir",
        "--logger",
        "--experimental-corrupt-check-time",
    ]
    assert "--insecure-open" in given.warnings[-1]
    assert given.flags == {
        "insecure-open": "true",
        "data-dir": "default.etcd",
        "auto-compaction-retention": "0",
    }
    assert all(map(is_known, (*IGNORED, *REFUSED)))


def test_what_would_make_it_less_safe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags whose neglect would weaken the member stop it, as does a missing address."""
    assert translate(["--auto-tls=false"], {}).problems == []
    assert main(["--client-crl-file=x"]) == 2
    assert "--client-crl-file: lists of revoked" in capsys.readouterr().err
    assert main(["--listen-client-urls=http://127.0.0.1:1"]) == 2
    words = "--advertise-client-urls is required when --listen-client-urls is set explicitly"
    assert words in capsys.readouterr().err
    assert main(["-nme"]) == 2
    assert "flag provided but not defined: -nme" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of etcd whose behaviour it has."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("etcd Version: 3.4.23\n")
    assert main(["-h"]) == 0
    assert "initial-cluster" in capsys.readouterr().out


async def started(*arguments: str, folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start one, and read what it prints until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *SERVE,
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
    )
    assert process.stderr is not None
    printed = ""
    while "ready to serve client requests" not in printed:
        line = (await process.stderr.readline()).decode()
        assert line, printed
        printed += line
    return process, printed


async def stopped(process: asyncio.subprocess.Process) -> int:
    """Stop one; give its exit status."""
    process.send_signal(signal.SIGTERM)
    _, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.mark.process
async def test_it_starts_with_a_harness_command_line(tmp_path: Path) -> None:
    """With the flags of a test suite it prints both readiness lines, and serves gRPC."""
    client, peer = free_port(), free_port()
    process, printed = await started(
        *("--name", "test-0", "--listen-client-urls", f"http://localhost:{client}"),
        *("--advertise-client-urls", f"http://localhost:{client}"),
        *("--listen-peer-urls", f"http://localhost:{peer}"),
        *("--initial-advertise-peer-urls", f"http://localhost:{peer}"),
        *("--initial-cluster-token", "token", "--data-dir", str(tmp_path / "test.etcd")),
        *("--snapshot-count", "10000", "--enable-v2", "--strict-reconfig-check=false"),
        *("--experimental-initial-corrupt-check", "--max-concurrent-streams=100"),
        *("--initial-cluster", f"test-0=http://localhost:{peer}"),
        folder=tmp_path,
    )
    try:
        assert re.search(r" I \| etcdserver/api: enabled capabilities for version 3\.4\n", printed)
        assert re.search(
            rf"published \{{Name:test-0 ClientURLs:\[http://localhost:{client}\]\}}", printed
        )
        async with connected(client) as grpc:
            assert (await grpc.call("/etcdserverpb.KV/Put", key=b"k")).header.revision == 2
    finally:
        status = await stopped(process)
    assert status == 0


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[int]]:
    """Start three as a static cluster; give their client ports."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    whole = ",".join(f"m{n}=http://127.0.0.1:{peer}" for n, (_, peer) in enumerate(ports))
    made = await asyncio.gather(
        *(
            started(
                *(f"--name=m{n}", f"--initial-cluster={whole}", "--initial-cluster-state=new"),
                *(f"--listen-client-urls=http://127.0.0.1:{client}",),
                *(f"--advertise-client-urls=http://127.0.0.1:{client}",),
                *(f"--listen-peer-urls=http://127.0.0.1:{peer}",),
                *(f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",),
                folder=folder,
            )
            for n, (client, peer) in enumerate(ports)
        )
    )
    try:
        yield [client for client, _ in ports]
    finally:
        await asyncio.gather(*(stopped(process) for process, _ in made))


@pytest.mark.process
@pytest.mark.slow
async def test_three_of_them_are_a_cluster(tmp_path: Path) -> None:
    """Three started with a static cluster become ready, and each sees what the others write."""
    async with cluster(tmp_path) as ports:
        for n, client in enumerate(ports):
            async with connected(client) as grpc:
                await grpc.call("/etcdserverpb.KV/Put", key=b"from", value=b"%d" % n)
                members = await grpc.call("/etcdserverpb.Cluster/MemberList")
                assert sorted(one.name for one in members.members) == ["m0", "m1", "m2"]
            async with connected(ports[n - 1]) as grpc:
                found = await grpc.call("/etcdserverpb.KV/Range", key=b"from")
                assert found.kvs[0].value == b"%d" % n


@pytest.mark.process
@pytest.mark.slow
async def test_followers_send_leadership_changes_to_the_leader(tmp_path: Path) -> None:
    """Leadership is handed over by the leader alone; the others say that they are not it."""
    async with cluster(tmp_path) as ports:
        leaders = set()
        for client in ports:
            async with connected(client) as grpc:
                status = await grpc.call(f"{MAINTENANCE}Status")
                leaders.add(status.leader)
                if status.header.member_id == status.leader:
                    leading, old = client, status.leader
                    continue
                new = status.header.member_id
                with pytest.raises(Refused, match="9: etcdserver: not leader"):
                    await grpc.call(f"{MAINTENANCE}MoveLeader", targetID=new)
        assert leaders == {old}
        async with connected(leading) as grpc:
            await grpc.call(f"{MAINTENANCE}MoveLeader", targetID=new)
            assert (await grpc.call(f"{MAINTENANCE}Status")).leader == new


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_recorded_outputs_on_three(conformance_dir: Path, tmp_path: Path) -> None:
    """A follower makes etcdctl print what one member does, but for the members themselves."""
    corpus = conformance_dir / "etcdctl" / "golden.jsonl"
    if not corpus.is_file() or shutil.which("etcdctl") is None:
        pytest.skip("no recorded outputs of etcdctl there, or no etcdctl")
    names = {json.loads(line)["scenario"] for line in corpus.read_text().splitlines()}
    chosen = [word for name in sorted(names - {"member"}) for word in ("--scenario", name)]
    async with cluster(tmp_path) as ports:
        for client in ports:
            async with connected(client) as grpc:
                status = await grpc.call(f"{MAINTENANCE}Status")
            if status.header.member_id != status.leader:
                follower = client
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-B", str(corpus.parent / "run_golden.py"), *chosen),
            *("--corpus", str(corpus), "--endpoint", f"127.0.0.1:{follower}"),
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
        )
        printed, _ = await process.communicate()
    assert ", 0 failed" in printed.decode()
    assert process.returncode == 0
