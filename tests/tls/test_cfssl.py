"""Certificates of cfssl, made as usual for etcd, work as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from coordinator.tls.credentials import Credentials
from coordinator.tls.ports import TlsPort
from tests.tls.authority import agree

USAGES = {"server": ["server auth"], "client": ["client auth"]} | {
    "peer": ["server auth", "client auth"]
}
PROFILES = {
    name: {"usages": ["signing", "key encipherment", *usages], "expiry": "8760h"}
    for name, usages in USAGES.items()
}
CONFIG = {"signing": {"default": {"expiry": "8760h"}, "profiles": PROFILES}}


def made(folder: Path, name: str, command: list[str], request: dict[str, Any]) -> None:
    """Run cfssl with a request, and cfssljson behind it."""
    content = json.dumps(request).encode()
    answer = subprocess.run(
        ["cfssl", "gencert", *command, "-"], cwd=folder, input=content, capture_output=True
    )
    assert answer.returncode == 0, answer.stderr.decode()
    subprocess.run(["cfssljson", "-bare", name], cwd=folder, input=answer.stdout, check=True)


@pytest.mark.parametrize("key", [{"algo": "ecdsa", "size": 256}, {"algo": "rsa", "size": 2048}])
def test_certificates_of_cfssl(tmp_path: Path, key: dict[str, Any]) -> None:
    """A server, a client and a member agree on TLS with certificates of cfssl; the client's is
    no member's."""
    if shutil.which("cfssl") is None or shutil.which("cfssljson") is None:
        pytest.skip("CFSSL IS NOT INSTALLED: `make system-deps`")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    names = [{"C": "DE", "O": "acme"}]
    made(tmp_path, "ca", ["-initca"], {"CN": "acme etcd", "key": key, "names": names})
    for name in USAGES:
        signing = ["-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "config.json"]
        request = {"CN": name, "key": key, "names": names, "hosts": ["localhost", "127.0.0.1"]}
        made(tmp_path, name, [*signing, "-profile", name], request)

    def port(name: str, cert: str) -> TlsPort:
        files = [str(tmp_path / f"{one}.pem") for one in (cert, f"{cert}-key", "ca")]
        return TlsPort(name, files[0], files[1], ca_file=files[2])

    member = Credentials(port("peer", "peer"))
    server, client = agree(member.server, member.client)
    assert member.problem_of(server) == member.problem_of(client) == ""
    front = Credentials(port("client", "server"))
    member.client.load_cert_chain(tmp_path / "client.pem", tmp_path / "client-key.pem")
    server, _ = agree(front.server, member.client)
    assert front.problem_of(server) == ""
    server, _ = agree(member.server, member.client)
    assert "is no member's" in member.problem_of(server)
