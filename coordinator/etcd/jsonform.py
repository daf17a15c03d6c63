"""Messages as JSON, in the dialect of etcd's gateway. Pure.

Bytes are base64, 64-bit numbers are strings in answers and strings or numbers in requests, enums
are names in answers and names or numbers in requests, fields have the names of the table, and what
is zero is left out. Requests may write a field's name in camelCase too; unknown fields are ignored.
What is refused is refused in the words of Go's decoder.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from coordinator.etcd import jsontext
from coordinator.etcd.status import Code, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor, EnumDescriptor

    from coordinator.etcd.messages import Message

DEPTH_MAX = 100
_WIDE = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
)
_NO_LINES = {ord("\r"): None, ord("\n"): None}
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_MESSAGE = "map[string]json.RawMessage"
_LIST = "[]json.RawMessage"
_GO_TYPES = {
    FieldDescriptor.TYPE_BYTES: "[]uint8",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
}

encode = msgspec.json.Encoder().encode


def _wrong(text: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, text)


# ---------------------------------------------------------------- answers


def to_json(message: Message) -> bytes:
    """Write a message."""
    return encode(plain(message))


def plain(message: Message) -> dict[str, Any]:
    """Give the JSON object of a message."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            found[field.name] = [_plain_value(field, one) for one in value]
        else:
            found[field.name] = _plain_value(field, value)
    return found


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_MESSAGE:
        return plain(value)
    if kind in _WIDE:
        return str(value)
    if kind == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value  # msgspec writes bytes as base64.


# ---------------------------------------------------------------- requests


def from_json(kind: type[Message], text: bytes) -> Message:
    """Read a message; what comes behind it is not looked at.

    Raises:
        StatusError: It is no JSON, or no such message.
    """
    return next(messages(kind, text), None) or kind()


def messages(kind: type[Message], text: bytes) -> Iterator[Message]:
    """Read one message after the other.

    Raises:
        StatusError: The next one is no JSON, or no such message.
    """
    try:
        for content in jsontext.values(text):
            message = kind()
            if content is not None:
                _fill(message, content, 0)
            yield message
    except jsontext.Malformed as error:
        raise _wrong(str(error)) from None


def _unfit(value: Any, wanted: str, *, in_full: bool = False) -> StatusError:
    """Refuse a value of another type than the wanted one of Go."""
    if value is None:
        given = "null"
    elif isinstance(value, bool):
        given = "bool"
    elif isinstance(value, int | jsontext.Odd):
        given = f"number {value}" if in_full else "number"
    elif isinstance(value, str):
        given = "string"
    else:
        given = "array" if isinstance(value, list) else "object"
    return _wrong(f"json: cannot unmarshal {given} into Go value of type {wanted}")


def _fill(message: Message, content: Any, depth: int) -> None:
    if not isinstance(content, dict):
        raise _unfit(content, _MESSAGE)
    if depth > DEPTH_MAX:
        raise _wrong("json: nested too deeply")
    fields = _fields(message.DESCRIPTOR)
    for name, value in content.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        if field.is_repeated:
            if not isinstance(value, list):
                raise _unfit(value, _LIST)
            _fill_list(getattr(message, field.name), field, value, depth)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(part, value, depth + 1)
        else:
            setattr(message, field.name, _value(field, value))


def _fill_list(target: Any, field: FieldDescriptor, values: list[Any], depth: int) -> None:
    for value in values:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill(target.add(), value, depth + 1)
        else:
            target.append(_value(field, value))


_known: dict[str, dict[str, FieldDescriptor]] = {}


def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Give the fields of a message by both their names."""
    found = _known.get(descriptor.full_name)
    if found is None:
        found = {}
        for field in descriptor.fields:
            found[field.json_name] = field
            found[field.name] = field
        _known[descriptor.full_name] = found
    return found


def _value(field: FieldDescriptor, value: Any) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_BYTES:
        return _bytes(value)
    if kind == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise _unfit(value, "bool")
        return value
    if kind == FieldDescriptor.TYPE_STRING:
        if type(value) is not str:
            raise _unfit(value, "string")
        return jsontext.whole(value)
    if kind == FieldDescriptor.TYPE_ENUM:
        return _enum(field, value)
    return _number(value, _GO_TYPES[kind])


def _enum(field: FieldDescriptor, value: Any) -> int:
    assert field.enum_type is not None
    if type(value) is not str:
        return _number(value, _go_name(field.enum_type), "int32")
    named = field.enum_type.values_by_name.get(value)
    if named is None:
        name = _go_name(field.enum_type)
        raise _wrong(f'unknown value "{jsontext.whole(value)}" for enum {name}')
    return named.number


def _go_name(enum: EnumDescriptor) -> str:
    package = enum.file.package
    return f"{package}.{enum.full_name.removeprefix(package + '.').replace('.', '_')}"


def _number(value: Any, name: str, size: str = "") -> int:
    """Read a whole number, also one in a string."""
    if type(value) is str:
        value = jsontext.only(value)
        if value is None:
            return 0
    size = size or name
    bits = 64 if size.endswith("64") else 32
    low, high = (0, 1 << bits) if size.startswith("u") else (-(1 << bits - 1), 1 << bits - 1)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high:
        raise _unfit(value, name, in_full=True)
    return value


def _bytes(value: Any) -> bytes:
    """Read standard base64, as strictly as Go does, or, as there, a list of numbers."""
    if isinstance(value, list):
        return bytes(_octet(one) for one in value)
    if type(value) is not str:
        raise _unfit(value, "[]uint8")
    text = value.translate(_NO_LINES)
    if _BASE64.fullmatch(text) is None:
        raise _wrong(f"illegal base64 data at input byte {_bad_place(value)}")
    return binascii.a2b_base64(text)


def _octet(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 256:
        raise _unfit(value, "uint8", in_full=True)
    return value


def _bad_place(text: str) -> int:
    """Find the byte that Go's decoder would complain about."""
    at, end, in_group = 0, len(text), 0
    while at < end:
        letter = text[at]
        at += 1
        if letter in _ALPHABET:
            in_group = (in_group + 1) % 4
        elif letter == "=":
            if in_group < 2:
                return at - 1
            at = _after_lines(text, at)
            if in_group == 2:
                if at == end:
                    return end
                if text[at] != "=":
                    return at - 1
                at = _after_lines(text, at + 1)
            return at
        elif letter not in "\r\n":
            return at - 1
    return end - in_group


def _after_lines(text: str, at: int) -> int:
    while at < len(text) and text[at] in "\r\n":
        at += 1
    return at
