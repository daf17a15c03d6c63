"""Which call a request is: from the headers to a stream that is served, or refused at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from coordinator.etcd.grpc import GrpcStream
from coordinator.etcd.status import NO_LEADER, Code, StatusError, status_of, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.etcd.calls import Served
    from coordinator.etcd.headers import Head
    from coordinator.etcd.http2 import Http2Connection


class GrpcFace:
    """Makes a call of the headers of a request.

    Args:
        served: Every call by its path.
    """

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served
        self._needing: WeakSet[GrpcStream] = WeakSet()

    def leaderless(self) -> None:
        """There has been no leader for long: end the streams that asked to be told so."""
        for stream in list(self._needing):
            stream.fail(told(NO_LEADER))

    def __call__(self, connection: Http2Connection, id: int, head: Head) -> GrpcStream:
        """Begin a call; one that cannot be served has ended when this returns."""
        served = self._served.get(head.path)
        stream = GrpcStream(connection, id, served)
        fields = head.fields
        kind = fields.get(b"content-type", b"")
        if head.method != b"POST" or b"origin" in fields:
            stream.refuse(b"405" if head.method != b"POST" else b"403")
        elif kind[:16] != b"application/grpc" or kind[16:17] not in (b"", b"+", b";"):
            stream.refuse(b"415")
        elif fields.get(b"grpc-encoding", b"identity") != b"identity":
            encoding = fields[b"grpc-encoding"].decode("latin-1")
            text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
            stream.fail(StatusError(Code.UNIMPLEMENTED, text))
        elif served is None:
            stream.fail(StatusError(Code.UNIMPLEMENTED, self._unknown(head.path)))
        else:
            try:
                stream.begin(head)
                if served.converse is not None and fields.get(b"hasleader") == b"true":
                    self._needing.add(stream)
            except Exception as error:
                stream.fail(status_of(error))
        return stream

    def _unknown(self, path: str) -> str:
        service, slash, name = path[1:].rpartition("/")
        if not slash:
            return f'malformed method name: "{path}"'
        if any(known.startswith(f"/{service}/") for known in self._served):
            return f"unknown method {name} for service {service}"
        return f"unknown service {service}"
