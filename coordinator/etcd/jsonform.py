"""Messages as JSON, in the dialect of etcd's gateway. Pure.

Bytes are base64, 64-bit numbers are strings in answers and strings or numbers in requests, enums
are names in answers and names or numbers in requests, fields have the names of the table, and what
is zero is left out. Requests may write a field's name in camelCase too; unknown fields are ignored.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from coordinator.etcd.status import Code, StatusError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from coordinator.etcd.messages import Message

DEPTH_MAX = 100
_WIDE = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
)
_NO_LINES = {ord("\r"): None, ord("\n"): None}
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


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
    """Read a message.

    Raises:
        StatusError: It is no JSON, or no such message.
    """
    message = kind()
    if text.strip():
        try:
            content = _decode(text)
        except (ValueError, RecursionError) as error:
            raise _wrong(str(error)) from None
        _fill(message, content, 0)
    return message


def _fill(message: Message, content: Any, depth: int) -> None:
    if not isinstance(content, dict):
        raise _wrong("json: cannot unmarshal a value into a message")
    if depth > DEPTH_MAX:
        raise _wrong("json: nested too deeply")
    fields = _fields(message.DESCRIPTOR)
    for name, value in content.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        if field.is_repeated:
            if not isinstance(value, list):
                raise _wrong(f"json: {field.name} is a list")
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
        return _bytes(field, value)
    if kind == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise _wrong(f"json: {field.name} is true or false")
        return value
    if kind == FieldDescriptor.TYPE_STRING:
        if not isinstance(value, str):
            raise _wrong(f"json: {field.name} is a string")
        return value
    if kind == FieldDescriptor.TYPE_ENUM and isinstance(value, str):
        assert field.enum_type is not None
        named = field.enum_type.values_by_name.get(value)
        if named is None:
            raise _wrong(f'unknown value "{value}" for enum {field.enum_type.full_name}')
        return named.number
    return _number(field, value)


def _number(field: FieldDescriptor, value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    signed = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_ENUM)
    bits = 64 if field.type in _WIDE else 32
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high:
        raise _wrong(f"json: {field.name} is a whole number of {bits} bits")
    return value


def _bytes(field: FieldDescriptor, value: Any) -> bytes:
    """Read standard base64, as strictly as Go does, whose words the error has."""
    if not isinstance(value, str):
        raise _wrong(f"json: {field.name} is base64 in a string")
    text = value.translate(_NO_LINES)
    if _BASE64.fullmatch(text) is None:
        raise _wrong(f"illegal base64 data at input byte {_bad_place(value)}")
    return binascii.a2b_base64(text)


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
