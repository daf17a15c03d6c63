"""A backup on its way from a member into a file: plain HTTP, in a thread, checked to the last bit.

The file appears under its name only once it is complete, checked and durable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from .errors import (
    ClientError,
    ClusterMismatch,
    ConnectFailed,
    error_from_wire,
)

if TYPE_CHECKING:
    import ssl

    from ._endpoints import Endpoint

PATH = "/v1/maintenance/snapshot"
CHUNK_BYTES = 256 << 10
DIGEST_BYTES = 32
QUIET_SECONDS = 600.0
"""How long a member may say nothing: it makes the whole backup before it sends any of it."""

Progress = Callable[[int, int], None]
"""Takes the bytes that have come, and those there will be."""


class SnapshotInfo(Struct, frozen=True):
    """A backup that was taken.

    Attributes:
        size_bytes: Size of the file.
        sha256: Its digest, in hexadecimal digits; the file ends with it.
        revision: The revision it holds.
    """

    size_bytes: int
    sha256: str
    revision: int


class Download:
    """One transfer. `run` blocks; `stop` may be called from any thread.

    Args:
        endpoint: The member.
        context: TLS, for an endpoint that speaks it.
        name: What must stand in its certificate then.
        headers: What to send along.
        cluster: Id of the cluster that must answer; 0 for any.
        progress: Told of every piece, in the thread of `run`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        name: str | None,
        headers: Mapping[str, str],
        cluster: int,
        progress: Progress | None,
    ) -> None:
        self._endpoint = endpoint
        self._headers = dict(headers)
        self._cluster = cluster
        self._progress = progress
        self._is_stopped = threading.Event()
        host, port = endpoint.host, endpoint.port
        self._connection: HTTPConnection = (
            HTTPConnection(host, port, timeout=QUIET_SECONDS)
            if context is None
            else _Secure(host, port, context, name)
        )

    def stop(self) -> None:
        """Let `run` end soon, with an error."""
        self._is_stopped.set()
        with contextlib.suppress(OSError):
            if self._connection.sock is not None:
                self._connection.sock.shutdown(2)

    def run(self, target: str | os.PathLike[str] | BinaryIO) -> SnapshotInfo:
        """Transfer, check, and store.

        Raises:
            ConnectFailed: The member can't be reached, or the connection broke.
            ClusterMismatch: It belongs to another cluster.
            ClientError: What came is not what was sent.
            CoordinatorError: The member refused.
            OSError: The file can't be written.
        """
        if not isinstance(target, str | os.PathLike):
            return self._transfer(target)
        part = f"{os.fspath(target)}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                info = self._transfer(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        _sync_folder(target)
        return info

    def _transfer(self, file: BinaryIO) -> SnapshotInfo:
        try:
            with self._network():
                self._connection.request("GET", PATH, headers=self._headers)
                response = self._connection.getresponse()
                self._check(response)
            size = int(response.headers["content-length"])
            digest = self._receive(response, file, size)
        finally:
            self._connection.close()
        if digest != response.headers["coordinator-snapshot-sha256"]:
            raise ClientError("the backup is not what was sent: its checksum differs")
        return SnapshotInfo(size, digest, int(response.headers["coordinator-snapshot-revision"]))

    @contextlib.contextmanager
    def _network(self) -> Iterator[None]:
        """Errors in here are those of the network."""
        try:
            yield
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ConnectFailed(
                f"{self._endpoint.url}: the backup did not come: {reason}"
            ) from error

    def _check(self, response: HTTPResponse) -> None:
        if response.status != 200:
            raise _error_of(response)
        cluster = int(response.headers["coordinator-cluster"], 16)
        if self._cluster not in (0, cluster):
            raise ClusterMismatch(
                f"{self._endpoint.url} belongs to cluster {cluster:016x}, not to "
                f"{self._cluster:016x}",
                cluster=f"{cluster:016x}",
            )

    def _receive(self, response: HTTPResponse, file: BinaryIO, size: int) -> str:
        """Write what comes; returns the digest, if it is that of what came before it."""
        digest = hashlib.sha256()
        held = b""
        come = 0
        while True:
            with self._network():
                chunk = response.read(CHUNK_BYTES)
            if not chunk:
                break
            if self._is_stopped.is_set():
                raise ConnectFailed("the backup was given up")
            file.write(chunk)
            come += len(chunk)
            held += chunk
            digest.update(held[:-DIGEST_BYTES])
            held = held[-DIGEST_BYTES:]
            if self._progress is not None:
                self._progress(come, size)
        if come != size:
            raise ConnectFailed(f"the backup broke off after {come} of {size} bytes")
        if digest.digest() != held:
            raise ClientError("the backup is damaged: its checksum differs")
        return held.hex()


class _Secure(HTTPSConnection):
    """A connection over TLS to a host whose certificate may have another name."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str | None) -> None:
        super().__init__(host, port, timeout=QUIET_SECONDS, context=context)
        self._tls, self._name = context, name

    def connect(self) -> None:
        HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _error_of(response: HTTPResponse) -> Exception:
    try:
        facts: dict[str, Any] = json.loads(response.read())["error"]
        return error_from_wire(facts["code"], facts["message"], facts["details"])
    except (ValueError, KeyError, TypeError):
        return ConnectFailed(f"the member answered with status {response.status}")


def _sync_folder(target: str | os.PathLike[str]) -> None:
    descriptor = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
