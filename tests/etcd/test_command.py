"""The command `coordinator-etcd`: etcd's command line, its environment and its readiness lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.cli.etcd import IGNORED, OWN, SAME, is_known, main, read_arguments, translate
from coordinator.config import ConfigError, setting_fields
from coordinator_sdk.testing import free_port
from tests.etcd.client import Refused, connected
from tests.etcd.starting import cluster, started, stopped

MAINTENANCE = "/etcdserverpb.Maintenance/"


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
        "auth-token": "simple",
    }
    assert all(map(is_known, (*IGNORED, *OWN)))


def test_flags_that_become_others() -> None:
    """The life of simple tokens, levels of the log and "everybody" are said in our words."""
    words = ["--auth-token-ttl=60", "--log-level", "warn", "--cors=*", "--host-whitelist=a,b"]
    given = translate(words, {})
    assert given.flags["auth-token"] == "simple,ttl=60s"
    assert given.flags["log-level"] == "warning"
    assert given.flags["allowed-hosts"] == "a,b"
    assert "allowed-origins" not in given.flags
    assert translate(["-debug"], {}).flags["log-level"] == "debug"
    jwt = "jwt,pub-key=a,priv-key=b,sign-method=RS256,ttl=10m"
    assert translate([f"--auth-token={jwt}"], {}).flags["auth-token"] == jwt


FILE = """
# as etcd's own example
name: 'one'
data-dir:
listen-client-urls: http://localhost:2379,http://127.0.0.1:2379
advertise-client-urls: http://localhost:2379
max-snapshots: 5
quota-backend-bytes: 0
strict-reconfig-check: false
cors:
log-outputs: [stderr]
client-transport-security:
  cert-file: c.pem
  key-file: k.pem
  client-cert-auth: true
  auto-tls: false
peer-transport-security:
  cert-file: pc.pem
  trusted-ca-file: pca.pem
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
"""


def test_a_file_stands_for_all_flags(tmp_path: Path) -> None:
    """etcd's YAML gives the flags, those of TLS in sections; what else is given is ignored."""
    path = tmp_path / "etcd.yaml"
    path.write_text(FILE)
    for words, environment in (
        ([f"--config-file={path}", "--name=two"], {"ETCD_MAX_TXN_OPS": "1"}),
        ([], {"ETCD_CONFIG_FILE": str(path)}),
    ):
        given = translate(words, environment)
        assert given.problems == []
        assert given.flags == {
            "name": "one",
            "data-dir": "one.etcd",
            "listen-client-urls": "http://localhost:2379,http://127.0.0.1:2379",
            "advertise-client-urls": "http://localhost:2379",
            "quota-backend-bytes": "0",
            "strict-reconfig-check": "false",
            "cert-file": "c.pem",
            "key-file": "k.pem",
            "client-cert-auth": "true",
            "auto-tls": "false",
            "peer-cert-file": "pc.pem",
            "peer-trusted-ca-file": "pca.pem",
            "cipher-suites": (
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
            ),
            "insecure-open": "true",
            "auto-compaction-retention": "0",
            "auth-token": "simple",
        }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nme: x", "nme is no setting"),
        ("peer-transport-security: {file: x}", "peer-file is no setting"),
        ("- a", "settings are written as NAME: VALUE"),
        ("name: {a: b}", "name: a text, number, list, true or false"),
        ("name: [", "while parsing"),
        ("name: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (None, "No such file or directory"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    """A file that cannot be read, or names what there is not, stops it and is named."""
    path = tmp_path / "etcd.yaml"
    if text is not None:
        path.write_text(text)
    assert main([f"--config-file={path}"]) == 2
    printed = capsys.readouterr().err
    assert f"--config-file {path}: " in printed
    assert words in printed


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown flag stops it, as does an address for clients that is not advertised."""
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


@pytest.mark.slow
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
