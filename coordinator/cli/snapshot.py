"""snapshot: backups of everything, in one file; taken from a member, checked and restored."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

from coordinator.cli import fields, output, tables
from coordinator.cli.command import BAD_ARGUMENTS, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.cli.command import Context, Nouns
    from coordinator.storage.backup import BackupStatus

PROGRESS_STEPS = 20
"""How often, at most, the progress of a backup is told."""


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("snapshot", "backups: take, check and restore them")
    group.command("save", save, "<file>", "back up everything a member has into a file")
    check = group.command("status", status, "<file>", "check a backup and say what it holds")
    check.set_defaults(connects=False, formats=tables.FORMATS)
    bring = group.command("restore", restore, "<file>", "make a data directory from a backup")
    bring.set_defaults(connects=False)
    bring.add_argument(
        "--data-dir", default="", metavar="DIR", help="new or empty; NAME.coordinator by default"
    )
    bring.add_argument(
        "--wal-dir",
        default="",
        metavar="DIR",
        help="not offered: the log lies in --data-dir",
    )
    bring.add_argument("--name", default="default", help="name of the member")
    bring.add_argument(
        "--initial-cluster",
        default="",
        metavar="MEMBERS",
        help="all members restored from this file: name=url,...",
    )
    bring.add_argument(
        "--initial-cluster-token", default="", metavar="TOKEN", help="tells clusters apart"
    )
    bring.add_argument(
        "--initial-advertise-peer-urls",
        default="",
        metavar="URLS",
        help="where the other members reach this one",
    )
    bring.add_argument(
        "--skip-hash-check", action="store_true", help="not offered: a backup is always checked"
    )


async def save(context: Context) -> None:
    """Take a backup."""
    (path,) = context.arguments(1, 1, "snapshot save needs one argument, the file")
    async with context.client() as client:
        try:
            info = await client.cluster.snapshot(path, on_progress=_progress())
        except OSError as error:
            raise CommandError(f"{path} can't be written: {error.strerror or error}") from None
        endpoint = client.endpoint
    if context.is_json:
        output.say_json(
            {
                "file": path,
                "sha256": info.sha256,
                "revision": info.revision,
                "totalSize": info.size_bytes,
                "endpoint": endpoint,
            }
        )
        return
    output.say(
        f"Snapshot saved at {path}",
        f"revision {info.revision}, {_size(info.size_bytes)}, from {endpoint}",
        f"sha256 {info.sha256}, verified",
    )


def _progress() -> Callable[[int, int], None] | None:
    """Tell a person at a terminal how far the transfer is."""
    if not sys.stderr.isatty():
        return None
    told = -1

    def tell(come: int, size: int) -> None:
        nonlocal told
        step = come * PROGRESS_STEPS // max(size, 1)
        if step > told:
            told = step
            output.tell(f"{_size(come)} of {_size(size)}")

    return tell


async def status(context: Context) -> None:
    """Check a backup; no member is asked."""
    from coordinator.storage.backup import verify_backup

    (path,) = context.arguments(1, 1, "snapshot status needs one argument, the file")
    found = await asyncio.to_thread(verify_backup, path)
    if context.is_json:
        output.say_json(
            {
                "sha256": found.sha256,
                "revision": found.revision,
                "totalKey": found.keys,
                "totalSize": found.size_bytes,
                "compactRevision": found.compact_revision,
                "versions": found.versions,
                "raftIndex": found.applied_index,
                "raftTerm": found.applied_term,
                "cluster": f"{found.cluster_id:016x}",
                "schema": found.schema,
            }
        )
    elif context.write_out == "table":
        titles = ("HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE")
        output.say(*tables.boxed(titles, [_row(found)]))
    elif context.write_out == "fields":
        facts: dict[str, object] = {"Hash": found.sha256, "Revision": found.revision}
        output.say(*fields.lines(**facts, Keys=found.keys, Size=found.size_bytes))
    else:
        output.say(", ".join(_row(found)))


def _row(found: BackupStatus) -> tuple[str, ...]:
    return found.sha256, str(found.revision), str(found.keys), _size(found.size_bytes)


async def restore(context: Context) -> None:
    """Make a data directory from a backup; no member is asked."""
    from coordinator.config import ConfigError
    from coordinator.domains import DOMAINS
    from coordinator.node.restore import restore_directory, restored_origin

    (path,) = context.arguments(1, 1, "snapshot restore needs one argument, the file")
    flags = context.flags
    if flags.skip_hash_check:
        raise CommandError(
            "--skip-hash-check is not offered: a backup ends with its own digest, and one that "
            "differs from it is damaged. Use a file made by coordctl snapshot save",
            BAD_ARGUMENTS,
        )
    if flags.wal_dir:
        raise CommandError(
            "--wal-dir is not offered: the log lies in the data directory", BAD_ARGUMENTS
        )
    folder = flags.data_dir or f"{flags.name}.coordinator"
    urls = tuple(url.strip() for url in flags.initial_advertise_peer_urls.split(",") if url.strip())
    try:
        origin = restored_origin(
            flags.name,
            flags.initial_cluster,
            flags.initial_cluster_token,
            urls,
            random.SystemRandom().getrandbits,
        )
    except ConfigError as error:
        raise CommandError(str(error), BAD_ARGUMENTS) from None
    found = await restore_directory(path, folder, DOMAINS, origin)
    if context.is_json:
        output.say_json(
            {
                "dataDir": folder,
                "sha256": found.backup.sha256,
                "revision": found.revision,
                "member": f"{found.identity.member_id:016x}",
                "cluster": f"{found.identity.cluster_id:016x}",
                "sessionsEnded": found.sessions_ended,
            }
        )
        return
    output.say(
        f"Restored {path} into {folder}",
        f"sha256 {found.backup.sha256}, verified",
        f"member {found.identity.member_id:016x} of the new cluster "
        f"{found.identity.cluster_id:016x}, at revision {found.revision} (the backup was at "
        f"{found.backup.revision})",
        f"{found.sessions_ended} sessions have ended, and with them all locks, leaderships and "
        "registrations",
    )


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size, unit = size_bytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if size >= 1000:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}"
