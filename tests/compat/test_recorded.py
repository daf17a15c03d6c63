"""Recorded outputs of etcdctl: on one member, on three, and with coordctl."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.api.member import running
from tests.compat.recorded import corpora, differences, of_etcdctl, replayed, scenarios
from tests.etcd.client import connected
from tests.etcd.starting import cluster

ETCDCTL = shutil.which("etcdctl") or ""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
needs_etcdctl = pytest.mark.skipif(not ETCDCTL, reason="etcdctl is not installed: make system-deps")


@needs_etcdctl
async def test_on_one_member(conformance_dir: Path, tmp_path: Path) -> None:
    """etcdctl prints against a member what it printed against etcd: every recorded line."""
    async with running(tmp_path / "data") as member:
        for corpus in corpora(conformance_dir):
            found = await replayed(corpus, member.port, tmp_path, ETCDCTL)
            assert found
            assert differences(found) == {}


@needs_etcdctl
@pytest.mark.process
async def test_on_three_members(conformance_dir: Path, tmp_path: Path) -> None:
    """A follower of three makes etcdctl print the same, but for the members themselves."""
    async with cluster(tmp_path) as ports:
        for port in ports:
            async with connected(port) as grpc:
                status = await grpc.call("/etcdserverpb.Maintenance/Status")
            if status.header.member_id != status.leader:
                follower = port
        for corpus in corpora(conformance_dir):
            chosen = scenarios(corpus, without=["member"])
            found = await replayed(corpus, follower, tmp_path, ETCDCTL, chosen)
            assert found
            assert differences(found) == {}


@pytest.mark.process
async def test_with_coordctl(conformance_dir: Path, tmp_path: Path) -> None:
    """coordctl ends and prints as etcdctl did, but where that tells etcdctl's own name or usage."""
    program = tmp_path / "coordctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m coordinator.cli.coordctl "$@"\n')
    program.chmod(0o755)
    async with running(tmp_path / "data") as member:
        for corpus in corpora(conformance_dir):
            found = await replayed(corpus, member.port, tmp_path, str(program), (), "--no-stderr")
            assert found
            assert differences(found, but=of_etcdctl(corpus)) == {}
