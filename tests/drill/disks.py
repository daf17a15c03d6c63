"""Disks whose power can be cut: what was not synced is gone, what was synced is there.

`LoopDisk` is a file system of its own in an image file, and loses power for real: ext4 is told
to stop at once without writing its journal. It needs root and Linux. `CachedDisk` stands in
elsewhere: the server's log keeps what is not synced in its own memory, and dies with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

IMAGE_BYTES = 1 << 30
EXT4_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32)"""
WITHOUT_JOURNAL = 2
CANARY_BYTES = 1 << 20


class Disk(Protocol):
    """Where the server's data lies."""

    method: str
    """What throws the data away, in words."""
    data_dir: Path
    module: str
    """What to run with ``python -m`` as the server."""

    def cut(self) -> None:
        """Lose power: from now on nothing reaches the disk any more."""

    def restore(self) -> None:
        """Give power again, after the server was killed."""

    def close(self) -> None:
        """Tidy up."""


class LoopDisk:
    """An ext4 file system in an image file."""

    method = "ext4 on a loop device, shut down without flushing (EXT4_IOC_SHUTDOWN, NOLOGFLUSH)"
    module = "coordinator"

    def __init__(self, scratch: Path) -> None:
        self._image, self._mount = scratch / "disk.img", scratch / "disk"
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount.mkdir()
        self.restore()
        self.data_dir = self._mount / "data"

    def restore(self) -> None:
        """Mount it; ext4 then replays what its journal holds."""
        run("mount", "-o", "loop", str(self._image), str(self._mount))

    def cut(self) -> None:
        """Stop the file system where it stands."""
        descriptor = os.open(self._mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_SHUTDOWN, ctypes.c_uint32(WITHOUT_JOURNAL))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Take it off; the server has to be dead."""
        run("umount", str(self._mount))

    def loses_what_is_not_synced(self) -> bool:
        """Try it out: a file that nobody synced is gone after a cut, a synced one is not."""
        kept, canary = self._mount / "kept", self._mount / "canary"
        with kept.open("wb") as file:
            file.write(b"k" * CANARY_BYTES)
            os.fsync(file.fileno())
        canary.write_bytes(b"c" * CANARY_BYTES)
        self.cut()
        self.unmount()
        self.restore()
        is_kept = kept.read_bytes() == b"k" * CANARY_BYTES
        is_lost = not canary.exists() or canary.read_bytes() != b"c" * CANARY_BYTES
        kept.unlink()
        canary.unlink(missing_ok=True)
        return is_kept and is_lost

    def close(self) -> None:
        """Unmount and remove the image."""
        subprocess.run(["umount", "-l", str(self._mount)], check=False, capture_output=True)
        self._image.unlink(missing_ok=True)


class CachedDisk:
    """The disk there is, behind a cache in the server process that dies with it."""

    method = "a write cache inside the server process that only syncs empty (the log only)"
    module = "tests.drill.cached"

    def __init__(self, scratch: Path) -> None:
        self.data_dir = scratch / "data"

    def cut(self) -> None:
        """Nothing to do: the server is killed next, and its cache with it."""

    def unmount(self) -> None:
        """Nothing to do."""

    def restore(self) -> None:
        """Nothing to do."""

    def loses_what_is_not_synced(self) -> bool:
        """By how it is made; `tests/drill/test_drill.py` tries it out."""
        return True

    def close(self) -> None:
        """Nothing to do."""


def open_disk(scratch: Path, environment: Mapping[str, str] = os.environ) -> LoopDisk | CachedDisk:
    """Give the best disk that this machine lets us have."""
    if sys.platform == "linux" and os.geteuid() == 0 and not environment.get("DRILL_CACHED"):
        try:
            return LoopDisk(scratch)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no loop device to be had, using a cache instead: {error}")
    return CachedDisk(scratch)


def run(*command: str) -> None:
    """Run a system program."""
    subprocess.run(command, check=True, capture_output=True)
