"""The command ``coordinator import-etcd``: what is in a live etcd, as a backup.

What it reads it puts into a member of its own, which nobody reaches, and makes a backup of that. A
backup that is restored begins 2**40 revisions further on: no client ever sees a revision go back.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from coordinator.cli.etcd_source import Contents, Source, SourceError
from coordinator.config import ConfigError, resolve
from coordinator.replica.restore import REVISIONS_SKIPPED
from coordinator_sdk.errors import CoordinatorError
from coordinator_sdk.protocol import auth
from coordinator_sdk.protocol.kv import LeaseGrant, Put

if TYPE_CHECKING:
    import argparse

    from coordinator.node.node import Node
    from coordinator.storage.backup import BackupStatus

TOGETHER: Final = 256
"""Writes that are under way at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("file", metavar="FILE", help="where the backup goes; must not exist")
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="client URL")
    parser.add_argument(
        "--remaining-ttl",
        action="store_true",
        help="grant leases for the time they have left, instead of for all of their time anew",
    )
    parser.add_argument("--user", default="", metavar="NAME[:PASSWORD]", help="usually root")
    parser.add_argument("--cacert", default="", metavar="FILE", help="who signed its certificate")
    parser.add_argument("--cert", default="", metavar="FILE", help="own certificate")
    parser.add_argument("--key", default="", metavar="FILE", help="its private key")


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit status.
    """
    path = Path(arguments.file).absolute()
    if urlsplit(arguments.source).scheme not in ("http", "https"):
        return _complain(f"--from {arguments.source}: a URL with http or https")
    if path.exists():
        return _complain(f"{path}: exists already; a backup never takes the place of anything")
    if not path.parent.is_dir():
        return _complain(f"{path}: there is no such directory")
    name, _, password = arguments.user.partition(":")
    if name and not password:
        password = os.environ.get("COORDCTL_PASSWORD", "") or _asked(name)
    try:
        source = Source(arguments.source, arguments.cacert, arguments.cert, arguments.key)
        source.log_in(name, password)
        contents = source.read()
        if arguments.remaining_ttl:
            # A lease that ends this very second still has its keys; they end soon after the start.
            contents.leases = [
                replace(lease, ttl_s=max(lease.left_s, 1)) for lease in contents.leases
            ]
        if contents.revision >= REVISIONS_SKIPPED:
            return _complain(
                f"revision {contents.revision}: a restored backup begins at {REVISIONS_SKIPPED}, "
                "so that clients would see revisions go back"
            )
        found = asyncio.run(_backed_up(contents, path))
    except (SourceError, CoordinatorError, ConfigError, OSError) as error:
        return _complain(str(error))
    _tell(contents, found, path)
    return 0


def _complain(text: str) -> int:
    print(f"coordinator import-etcd: {text}", file=sys.stderr)
    return 1


def _asked(name: str) -> str:
    from getpass import getpass

    return getpass(f"Password of {name}: ")


def _tell(contents: Contents, found: BackupStatus, path: Path) -> None:
    print(
        f"{len(contents.keys)} keys and {len(contents.leases)} leases of revision "
        f"{contents.revision}, {len(contents.users)} users and {len(contents.roles)} roles: "
        f"{path}, {found.size_bytes} bytes"
    )
    for warning in contents.warnings:
        print(f"note: {warning}")
    if contents.users:
        print(
            "note: etcd tells no passwords: the users have none yet, and authentication is off; "
            "set them with `coordctl user passwd NAME`, then `coordctl auth enable`"
        )
    print(f"next: coordctl snapshot restore {path} --data-dir DIR, then start a member there")


# ---------------------------------------------------------------- writing


async def _backed_up(contents: Contents, path: Path) -> BackupStatus:
    """Put everything into a member of its own, and make a backup of it."""
    from coordinator.domains import DOMAINS
    from coordinator.node.node import Node

    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        flags = {
            "data-dir": f"{folder}/member",
            "listen-peer-urls": "http://127.0.0.1:0",
            "initial-advertise-peer-urls": "http://127.0.0.1:1",
            "auto-compaction-retention": "0",
            "quota-backend-bytes": str(64 << 30),
        }
        node = Node(resolve(flags, {}), DOMAINS)
        await node.start()
        try:
            await _write(node, contents)
            found = await node.save_backup(Path(folder) / "backup")
            os.rename(f"{folder}/backup", path)
        finally:
            await node.stop()
    return found


async def _write(node: Node, contents: Contents) -> None:
    while not node.is_ready():  # noqa: ASYNC110 - the node tells nobody
        await asyncio.sleep(0.01)
    await _all(node, [LeaseGrant(lease.ttl_s * 1000, lease.id) for lease in contents.leases])
    await _all(node, [Put(key.key, key.value, key.lease) for key in contents.keys])
    bodies: list[Any] = []
    for role, rights in contents.roles.items():
        bodies.append(auth.RoleAdd(role))
        bodies += [auth.RoleGrant(role, key=right) for right in rights]
    for user, roles in contents.users.items():
        bodies.append(auth.UserAdd(user, no_password=True))
        bodies += [auth.UserGrantRole(user, role) for role in roles]
    await _all(node, bodies)


async def _all(node: Node, bodies: list[Any]) -> None:
    """Execute commands in their order, many at a time."""
    for at in range(0, len(bodies), TOGETHER):
        await asyncio.gather(*(node.execute(body) for body in bodies[at : at + TOGETHER]))
