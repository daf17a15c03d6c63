"""Routes for operators: a backup of everything, as one file."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from coordinator.api.http import ALWAYS, JsonRoute, documented, standing
from coordinator.api.identity import caller_of
from coordinator.api.permits import require_root
from coordinator.storage.errors import NoSpace as DiskFull
from coordinator.storage.errors import StorageClosed, StorageError
from coordinator.storage.identity import backup_path
from coordinator_sdk import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coordinator.node.node import Node
    from coordinator.storage.backup import BackupStatus

CHUNK_BYTES: Final = 256 << 10
FRESH_SECONDS: Final = 2.0
"""How long to wait for a leader to say how far this member must be."""
DIGEST_HEADER: Final = "coordinator-snapshot-sha256"
REVISION_HEADER: Final = "coordinator-snapshot-revision"

router = APIRouter(prefix="/v1/maintenance", tags=["Maintenance"], route_class=JsonRoute)

_FILE: dict[str, Any] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}


@router.get(
    "/snapshot",
    summary="Back up everything as one file",
    operation_id="maintenance_snapshot",
    responses=documented(_FILE, 200, (*ALWAYS, errors.NoSpace)),
    response_model=None,
)
async def snapshot(request: Request) -> Response:
    """Stream a backup of the state of this member: a SQLite database with a digest at its end.

    It holds every change that was acknowledged before the request, unless there is no leader:
    then it holds what this member has. One is made at a time.
    """
    require_root(request.app.state.node, await caller_of(request))
    backups: Backups = request.app.state.backups
    status, file = await backups.make()
    headers = {
        "content-length": str(status.size_bytes),
        "content-disposition": f'attachment; filename="snapshot-{status.revision}.db"',
        "cache-control": "no-store",
        DIGEST_HEADER: status.sha256,
        REVISION_HEADER: str(status.revision),
        **standing(request),
    }
    return StreamingResponse(_chunks(file), 200, headers, "application/octet-stream")


class Backups:
    """Makes backups of a member, one at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = asyncio.Lock()

    async def make(self) -> tuple[BackupStatus, BinaryIO]:
        """Make a backup of what was acknowledged so far.

        Returns:
            What it holds, and its file, which is open and has no name: closed, it is gone.

        Raises:
            Exhausted: Another one is being made.
            CoordinatorError: It cannot be made.
        """
        if self._lock.locked():
            raise errors.Exhausted("another backup is being made; try again later", limit="backups")
        async with self._lock:
            await _be_fresh(self._node)
            return await _save(self._node, backup_path(self._node.config.data_dir))


async def _be_fresh(node: Node) -> None:
    """Wait until this member has what was acknowledged before, if anybody can tell."""
    answer: asyncio.Future[errors.CoordinatorError | None] = (
        asyncio.get_running_loop().create_future()
    )

    def done(error: errors.CoordinatorError | None) -> None:
        if not answer.done():
            answer.set_result(error)

    node.read(done)
    await asyncio.wait([answer], timeout=FRESH_SECONDS)


async def _save(node: Node, path: Path) -> tuple[BackupStatus, BinaryIO]:
    """Make the backup; its file is open and has no name any more, so nothing is left behind."""
    try:
        status = await node.save_backup(path)
        return status, await asyncio.to_thread(_take, path)
    except DiskFull as error:
        raise errors.NoSpace(f"the backup does not fit: {error}", limit="disk") from None
    except StorageClosed as error:
        raise errors.Unavailable(f"no backup can be made at the moment: {error}") from None
    except (StorageError, OSError) as error:
        raise errors.Internal(f"the backup could not be made: {error}") from None


def _take(path: Path) -> BinaryIO:
    file = path.open("rb")
    os.unlink(path)
    return file


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
