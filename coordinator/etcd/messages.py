"""Message classes and calls, made from the table when the program starts.

They live in a descriptor pool of their own: other packages of the same process may register
etcd's messages under the same names without a clash. No code is generated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from coordinator.etcd.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

Message = Any
"""An instance of a message class; their attributes are known at run time only."""

_FIELD = re.compile(r"(\w+):([\w.]+)(\*?)=(\d+)(?:<(\w+)>)?")
_FieldType = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FieldType.TYPE_BOOL,
    "bytes": _FieldType.TYPE_BYTES,
    "int64": _FieldType.TYPE_INT64,
    "string": _FieldType.TYPE_STRING,
    "uint32": _FieldType.TYPE_UINT32,
    "uint64": _FieldType.TYPE_UINT64,
}


class Method(NamedTuple):
    """A call: what it takes, what it answers, and which of the two are streams."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool


def _definitions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give (package, words of a definition), lines that go on put together."""
    package = ""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            lines[-1] += line
        else:
            lines.append(line)
    for line in lines:
        words = line.split()
        if words[0] == "package":
            package = words[1]
        else:
            yield package, words


class Schema:
    """The messages and calls of a table.

    Attributes:
        methods: Every call by its path, such as ``/etcdserverpb.KV/Put``.
    """

    def __init__(self, text: str) -> None:
        definitions = list(_definitions(text))
        self._enums = {
            f"{package}.{words[1]}" for package, words in definitions if words[0] == "enum"
        }
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._protos: dict[str, descriptor_pb2.DescriptorProto] = {}
        for package, words in definitions:
            if words[0] == "message":
                self._add_message(package, words[1], words[2:])
        for package, words in definitions:
            if words[0] == "enum":
                self._add_enum(package, words[1], words[2:])
        self._pool = descriptor_pool.DescriptorPool()
        for file in self._files.values():
            self._pool.Add(file)
        self.methods: dict[str, Method] = {}
        for package, words in definitions:
            if words[0] == "rpc":
                method = self._method(package, words)
                self.methods[method.path] = method

    def message(self, name: str) -> type[Message]:
        """Give a message class by its full name, such as ``mvccpb.KeyValue``."""
        descriptor: Descriptor = self._pool.FindMessageTypeByName(name)
        return message_factory.GetMessageClass(descriptor)

    def _file(self, package: str) -> descriptor_pb2.FileDescriptorProto:
        if package not in self._files:
            file = descriptor_pb2.FileDescriptorProto(
                name=f"{package}.proto", package=package, syntax="proto3"
            )
            file.dependency.extend(one.name for one in self._files.values())
            self._files[package] = file
        return self._files[package]

    def _add_message(self, package: str, name: str, fields: list[str]) -> None:
        proto = self._file(package).message_type.add(name=name)
        self._protos[f"{package}.{name}"] = proto
        oneofs: dict[str, int] = {}
        for field in fields:
            match = _FIELD.fullmatch(field)
            assert match is not None, f"{name}: {field}"
            title, kind, star, number, oneof = match.groups()
            made = proto.field.add(name=title, number=int(number))
            made.label = _FieldType.LABEL_REPEATED if star else _FieldType.LABEL_OPTIONAL
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                is_enum = kind in self._enums
                made.type = _FieldType.TYPE_ENUM if is_enum else _FieldType.TYPE_MESSAGE
                made.type_name = f".{kind}"
            if oneof:
                if oneof not in oneofs:
                    oneofs[oneof] = len(oneofs)
                    proto.oneof_decl.add(name=oneof)
                made.oneof_index = oneofs[oneof]

    def _add_enum(self, package: str, name: str, values: list[str]) -> None:
        outer, _, inner = name.rpartition(".")
        holder: Any = self._protos[f"{package}.{outer}"] if outer else self._file(package)
        proto = holder.enum_type.add(name=inner)
        for value in values:
            title, _, number = value.partition("=")
            proto.value.add(name=title, number=int(number))

    def _method(self, package: str, words: list[str]) -> Method:
        service, _, call = words[1].partition(".")
        arrow = words.index("->")
        return Method(
            f"/{package}.{service}/{call}",
            self.message(f"{package}.{words[arrow - 1]}"),
            self.message(f"{package}.{words[-1]}"),
            words[2] == "stream",
            words[arrow + 1] == "stream",
        )


SCHEMA = Schema(TABLE)
METHODS = SCHEMA.methods

KeyValueMessage = SCHEMA.message("mvccpb.KeyValue")
EventMessage = SCHEMA.message("mvccpb.Event")
HeaderMessage = SCHEMA.message("etcdserverpb.ResponseHeader")
MemberMessage = SCHEMA.message("etcdserverpb.Member")
AlarmMemberMessage = SCHEMA.message("etcdserverpb.AlarmMember")
LeaseStatusMessage = SCHEMA.message("etcdserverpb.LeaseStatus")
WatchResponse = SCHEMA.message("etcdserverpb.WatchResponse")
RangeResponse = SCHEMA.message("etcdserverpb.RangeResponse")
DeleteRangeResponse = SCHEMA.message("etcdserverpb.DeleteRangeResponse")
PutResponse = SCHEMA.message("etcdserverpb.PutResponse")
TxnResponse = SCHEMA.message("etcdserverpb.TxnResponse")
