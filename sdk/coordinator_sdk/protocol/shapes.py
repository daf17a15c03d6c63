"""What the structs look like: where their ids, their other numbers and their names are.

Pure. Built once per type from its annotations. The codecs use it for what the types alone do
not say: ids are hexadecimal digits in JSON, numbers fit 64 bits, and an error names a field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import inspect

__all__ = ["INT64_MAX", "INT64_MIN", "Shape", "shape_of"]

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
_EXACT_MAX = 1 << 53
"""Largest number that every JSON implementation keeps exactly."""

_HEX = re.compile(r"[0-9a-fA-F]{1,16}\Z")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")
_PATH = re.compile(r" - at (?:`key` in )?`\$([^`]*)`\Z")
_TOO_SHORT = re.compile(r"Expected `array` of (?:at least )?length \d+, got (\d+)")


@dataclass(slots=True)
class Shape:
    """The shape of one type.

    Attributes:
        kind: ``id``, ``int``, ``struct``, ``union``, ``list``, ``dict`` or ``leaf``.
        fields: Of a struct: name and shape of each field, in order.
        offset: Of a struct: 1 if its array starts with a tag.
        item: Of a list or dict: the shape of its values.
        choices: Of a union: its structs by tag; the key is None for an untagged one.
        has_ids: Whether an id can occur in it.
        has_ints: Whether a number can occur in it.
    """

    kind: str
    fields: list[tuple[str, Shape]] = field(default_factory=list)
    offset: int = 0
    item: Shape | None = None
    choices: dict[Any, Shape] = field(default_factory=dict)
    has_ids: bool = False
    has_ints: bool = False

    def ids_from_json(self, value: Any) -> Any:
        """Turn the hexadecimal ids of a decoded JSON value into numbers, in place.

        What is no id stays as it is, so that the conversion to the type reports it.
        """
        if self.kind == "id":
            if isinstance(value, str) and _HEX.match(value):
                return int(value, 16)
            if isinstance(value, int) and value > _EXACT_MAX:
                return repr(value)
            return value
        return self._walk(value, "ids_from_json")

    def ids_to_json(self, value: Any) -> Any:
        """Turn the numeric ids of a value made of lists into 16 hexadecimal digits, in place."""
        if self.kind == "id":
            return f"{value:016x}" if isinstance(value, int) else value
        return self._walk(value, "ids_to_json")

    def _walk(self, value: Any, method: str) -> Any:
        if not self.has_ids:
            return value
        if isinstance(value, list):
            if self.kind == "list" and self.item is not None:
                step = getattr(self.item, method)
                value[:] = [step(element) for element in value]
            elif self.kind == "struct":
                for index, (_, shape) in enumerate(self.fields, self.offset):
                    if shape.has_ids and index < len(value):
                        value[index] = getattr(shape, method)(value[index])
            elif self.kind == "union":
                chosen = self._choose(value)
                if chosen is not None:
                    chosen._walk(value, method)
        elif self.kind == "dict" and isinstance(value, dict) and self.item is not None:
            step = getattr(self.item, method)
            for key in value:
                value[key] = step(value[key])
        elif self.kind == "union" and None in self.choices:
            return getattr(self.choices[None], method)(value)
        return value

    def _choose(self, value: list[Any]) -> Shape | None:
        tag = value[0] if value else None
        if isinstance(tag, str | int) and tag in self.choices:
            return self.choices[tag]
        return self.choices.get(None)

    def oversized(self, value: Any) -> str | None:
        """Find a number that does not fit a signed 64-bit integer.

        Args:
            value: A decoded value of this shape.

        Returns:
            The name of the first such field, empty for the value itself; None if all fit.
        """
        if not self.has_ints or value is None:
            return None
        if self.kind in ("id", "int"):
            fits = not isinstance(value, int) or INT64_MIN <= value <= INT64_MAX
            return None if fits else ""
        if self.kind == "union":
            config = getattr(value, "__struct_config__", None)
            chosen = self.choices.get(config.tag if config else None)
            return chosen.oversized(value) if chosen else None
        if self.kind == "struct":
            for name, shape in self.fields:
                if shape.has_ints:
                    found = shape.oversized(getattr(value, name))
                    if found is not None:
                        return _join(name, found)
            return None
        return self._oversized_element(value)

    def _oversized_element(self, value: Any) -> str | None:
        if self.item is None:
            return None
        pairs = enumerate(value) if self.kind == "list" else value.items()
        for key, element in pairs:
            found = self.item.oversized(element)
            if found is not None:
                return _join(f"[{key}]", found)
        return None

    def locate(self, error: str, value: Any) -> tuple[str, str]:
        """Turn a message of msgspec into the name of a field and a plain reason.

        Args:
            error: The message, such as "Expected `int`, got `str` - at `$[3]`".
            value: The value that did not fit, as plain lists, to tell a union's choice.

        Returns:
            The field, such as ``success[0].key``, empty for the value itself; the reason.
        """
        reason, steps = error, list[str]()
        path = _PATH.search(error)
        if path:
            reason = error[: path.start()]
            steps = _STEP.findall(path.group(1))
        name, shape, inner = "", self, value
        for step in steps:
            name, shape, inner = _descend(name, shape, inner, step)
        if shape.kind == "union" and (chosen := shape._pick(inner)) is not None:
            shape = chosen
        short = _TOO_SHORT.match(reason)
        if short and shape.kind == "struct":
            index = int(short.group(1)) - shape.offset
            if 0 <= index < len(shape.fields):
                return _join(name, shape.fields[index][0]), "is required"
        if shape.kind == "id" and reason.startswith("Expected"):
            reason = "an id is a positive number, in JSON 16 hexadecimal digits"
        return name, reason

    def _pick(self, value: Any) -> Shape | None:
        return self._choose(value) if isinstance(value, list) else self.choices.get(None)


def _descend(name: str, shape: Shape, value: Any, step: str) -> tuple[str, Shape, Any]:
    if shape.kind == "union":
        shape = shape._pick(value) or _LEAF
    if shape.kind == "leaf":
        return name, _LEAF, None
    index = int(step) if step != "..." else -1
    inner = value[index] if isinstance(value, list) and 0 <= index < len(value) else None
    if shape.kind == "struct":
        position = index - shape.offset
        if 0 <= position < len(shape.fields):
            field_name, field_shape = shape.fields[position]
            return _join(name, field_name), field_shape, inner
        return name, _LEAF, inner
    suffix = f"[{step}]" if index >= 0 else ""
    return name + suffix, shape.item or _LEAF, inner


def _join(name: str, rest: str) -> str:
    return f"{name}{rest}" if not rest or not name or rest[0] == "[" else f"{name}.{rest}"


_LEAF = Shape("leaf")
_STRUCTS: dict[type[Any], Shape] = {}


def shape_of(kind: Any) -> Shape:
    """Describe a type.

    Args:
        kind: A struct type, or an annotation made of structs, lists, dicts and scalars.
    """
    shape = _build(inspect.type_info(kind))
    for _ in range(8):  # flags travel up one level per pass; recursion closes within these
        for struct in _STRUCTS.values():
            _settle(struct)
    _settle(shape)
    return shape


def _build(info: inspect.Type) -> Shape:
    if isinstance(info, inspect.Metadata):
        if (info.extra or {}).get("id"):
            return Shape("id", has_ids=True, has_ints=True)
        return _build(info.type)
    if isinstance(info, inspect.IntType):
        return Shape("int", has_ints=True)
    if isinstance(info, inspect.ListType):
        return Shape("list", item=_build(info.item_type))
    if isinstance(info, inspect.DictType):
        return Shape("dict", item=_build(info.value_type))
    if isinstance(info, inspect.UnionType):
        return _build_union(info)
    if isinstance(info, inspect.StructType):
        return _build_struct(info)
    return _LEAF


def _build_union(info: inspect.UnionType) -> Shape:
    choices: dict[Any, Shape] = {}
    for option in info.types:
        if isinstance(option, inspect.StructType):
            choices[option.tag] = _build(option)
        elif not isinstance(option, inspect.NoneType):
            choices[None] = _build(option)
    return Shape("union", choices=choices)


def _build_struct(info: inspect.StructType) -> Shape:
    cls: type[msgspec.Struct] = info.cls
    known = _STRUCTS.get(cls)
    if known is None:
        known = _STRUCTS[cls] = Shape("struct", offset=0 if info.tag is None else 1)
        known.fields.extend((part.name, _build(part.type)) for part in info.fields)
    return known


def _settle(shape: Shape) -> None:
    inner = [*(part for _, part in shape.fields), *shape.choices.values()]
    if shape.item is not None:
        inner.append(shape.item)
    for part in inner:
        if part.kind != "struct" and part is not _LEAF:
            _settle(part)
        shape.has_ids = shape.has_ids or part.has_ids
        shape.has_ints = shape.has_ints or part.has_ints
