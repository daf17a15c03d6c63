"""The etcd v3 faces: gRPC and the JSON gateway, translated to the same node.

``table`` and ``messages`` know the messages, ``translate`` turns them into our structs and back,
``status`` knows codes and texts; these are pure. The services (``kv``, ``leases``, ``watches`` and
so on) serve requests for any transport: ``http2`` and ``grpc`` carry them over HTTP/2, ``gateway``
as JSON over HTTP/1.1.
"""
