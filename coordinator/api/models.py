"""From the contract's structs to JSON objects, and to the models that FastAPI documents.

The structs of the contract are arrays on the WebSocket. Over HTTP the same structs are JSON
objects, and nobody writes their shape a second time:

* `body_model` makes the pydantic model of a request body, `answer_model` that of an answer;
* `struct_of` turns a checked body into the struct, `to_json` a struct into plain values.

Conventions: ids are 16 hexadecimal digits; bytes are text with ``encoding`` beside them,
``utf-8`` or ``base64``; a member of a union carries its name as ``type``; the small
enumerations of the keyspace are words.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union

import msgspec
from msgspec import Struct, inspect
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from coordinator_sdk.errors import InvalidRequest
from coordinator_sdk.protocol import auth, kv

StructT = TypeVar("StructT", bound=Struct)

INT64_MAX = (1 << 63) - 1
_ENUMS: dict[tuple[str, str], type[Any]] = {
    ("Range", "sort_order"): kv.SortOrder,
    ("Range", "sort_target"): kv.SortTarget,
    ("Compare", "result"): kv.CompareResult,
    ("Compare", "target"): kv.CompareTarget,
    ("Event", "type"): kv.EventType,
    ("KeyPermission", "access"): auth.Access,
}
"""Numbers of the contract that are words in JSON."""

_MAIN_BYTES = ("value", "payload")
"""Fields of bytes whose encoding is told by plain ``encoding``; else ``<field>_encoding``."""


def parse_id(value: Any) -> Any:
    """Read an id from JSON or from a path: up to 16 hexadecimal digits."""
    if isinstance(value, str):
        if 1 <= len(value) <= 16 and all(c in "0123456789abcdefABCDEF" for c in value):
            number = int(value, 16)
            if number <= INT64_MAX:
                return number
        raise ValueError("an id is 16 hexadecimal digits")
    raise ValueError("an id is a string of 16 hexadecimal digits")


def format_id(number: int) -> str:
    """Write an id as 16 hexadecimal digits."""
    return f"{number:016x}"


IdText = Annotated[
    int,
    BeforeValidator(parse_id),
    WithJsonSchema(
        {"type": "string", "pattern": "^[0-9a-f]{16}$", "examples": ["0000000000000a1b"]}
    ),
]
"""An id in a body, a path or a query."""
Int64 = Annotated[int, Field(strict=True, ge=-(1 << 63), le=INT64_MAX)]
Encoding = Literal["utf-8", "base64"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True)


# ---------------------------------------------------------------- plans: how a struct is an object


@dataclass(slots=True)
class _Plan:
    """One struct type: its fields, and how each becomes JSON and back."""

    kind: type[Struct]
    tag: str | None
    fields: list[_FieldPlan] = field(default_factory=list)


@dataclass(slots=True)
class _FieldPlan:
    name: str
    type: inspect.Type
    encoding: str = ""
    """Name of the field that tells the encoding, for bytes."""
    to_json: Callable[[Any], Any] | None = None
    from_json: Callable[[Any], Any] | None = None
    default: Callable[[], Any] | None = None
    """None if the field is required."""


_PLANS: dict[type[Struct], _Plan] = {}


def _plan_of(kind: type[Struct]) -> _Plan:
    plan = _PLANS.get(kind)
    if plan is not None:
        return plan
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType), kind
    tag = info.tag.rsplit(".", 1)[-1] if isinstance(info.tag, str) else None
    plan = _PLANS[kind] = _Plan(kind, tag)
    for part in info.fields:
        plan.fields.append(_field_plan(kind, part))
    return plan


def _field_plan(kind: type[Struct], part: inspect.Field) -> _FieldPlan:
    found = _FieldPlan(part.name, part.type, default=_default_of(part))
    if isinstance(part.type, inspect.BytesType) or (
        isinstance(part.type, inspect.ListType)
        and isinstance(part.type.item_type, inspect.BytesType)
    ):
        found.encoding = "encoding" if part.name in _MAIN_BYTES else f"{part.name}_encoding"
        return found
    enum = _ENUMS.get((kind.__name__, part.name))
    if enum is not None:
        words = {int(member): str(member.name).lower() for member in enum.__members__.values()}
        numbers = {word: number for number, word in words.items()}
        found.to_json, found.from_json = words.__getitem__, numbers.__getitem__
        return found
    found.to_json = _to_json_of(part.type)
    found.from_json = _from_json_of(part.type)
    return found


def _default_of(part: inspect.Field) -> Callable[[], Any] | None:
    if part.default_factory is not msgspec.NODEFAULT:
        factory: Callable[[], Any] = part.default_factory
        return factory
    if part.default is not msgspec.NODEFAULT:
        return lambda: part.default
    return None


def _is_id(info: inspect.Type) -> bool:
    return isinstance(info, inspect.Metadata) and bool((info.extra or {}).get("id"))


def _to_json_of(info: inspect.Type) -> Callable[[Any], Any] | None:
    if _is_id(info):
        return format_id
    if isinstance(info, inspect.StructType):
        plan = _plan_of(info.cls)
        return lambda value: _object(plan, value, named=False)
    if isinstance(info, inspect.ListType):
        return _each(_to_json_of(info.item_type))
    if isinstance(info, inspect.DictType):
        return _each_value(_to_json_of(info.value_type))
    if isinstance(info, inspect.UnionType):
        options = [part for part in info.types if not isinstance(part, inspect.NoneType)]
        if len(options) == 1:
            return _optional(_to_json_of(options[0]))
        return lambda value: (
            None if value is None else _object(_plan_of(type(value)), value, named=True)
        )
    return None


def _each(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return None if inner is None else lambda value: [inner(item) for item in value]


def _each_value(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return None if inner is None else lambda value: {k: inner(v) for k, v in value.items()}


def _optional(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return None if inner is None else lambda value: None if value is None else inner(value)


def _from_json_of(info: inspect.Type) -> Callable[[Any], Any] | None:
    if isinstance(info, inspect.StructType):
        plan = _plan_of(info.cls)
        return lambda value: _struct(plan, value)
    if isinstance(info, inspect.ListType):
        return _each(_from_json_of(info.item_type))
    if isinstance(info, inspect.UnionType):
        structs = [part.cls for part in info.types if isinstance(part, inspect.StructType)]
        if not structs:
            return None
        plans = {plan.tag: plan for plan in map(_plan_of, structs)}
        if len(plans) == 1:
            (only,) = plans.values()
            return lambda value: None if value is None else _struct(only, value)
        return lambda value: None if value is None else _struct(plans[value.type], value)
    return None


# ---------------------------------------------------------------- values


def text_of(raw: bytes) -> tuple[str, str]:
    """Give bytes as text, and the encoding that the text is in."""
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode(), "base64"


def bytes_of(text: str, encoding: str = "utf-8", name: str = "value") -> bytes:
    """Turn text back into bytes.

    Raises:
        InvalidRequest: The text is not in that encoding; ``name`` is the field to blame.
    """
    try:
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        return text.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name}: not {encoding}: {error}", field=name) from None


def to_json(value: Struct, *, named: bool = False) -> dict[str, Any]:
    """Turn a struct into plain values for JSON.

    Args:
        value: Any struct of the contract.
        named: Whether to say its kind in ``type``, as in a union.
    """
    return _object(_plan_of(type(value)), value, named=named)


def _object(plan: _Plan, value: Any, *, named: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if named and plan.tag is not None:
        result["type"] = plan.tag
    for part in plan.fields:
        inner = getattr(value, part.name)
        if part.encoding:
            _put_bytes(result, part, inner)
        else:
            result[part.name] = inner if part.to_json is None else part.to_json(inner)
    return result


def _put_bytes(result: dict[str, Any], part: _FieldPlan, value: Any) -> None:
    if isinstance(value, bytes):
        result[part.name], encoding = text_of(value)
    else:
        texts = [text_of(item) for item in value]
        encoding = "base64" if any(how == "base64" for _, how in texts) else "utf-8"
        if encoding == "base64":
            texts = [(base64.b64encode(item).decode(), encoding) for item in value]
        result[part.name] = [text for text, _ in texts]
    if encoding == "base64" or part.encoding == "encoding":
        result[part.encoding] = encoding


def struct_of(kind: type[StructT], body: BaseModel | None = None, **rest: Any) -> StructT:
    """Build a struct from a checked body and from what the path or the query said.

    Args:
        kind: The struct.
        body: A model that `body_model` made for it.
        rest: Fields that the body does not carry.

    Raises:
        InvalidRequest: Text that is not in the encoding it claims.
    """
    result: StructT = _struct(_plan_of(kind), body, rest)
    return result


def _struct(plan: _Plan, body: Any, rest: dict[str, Any] | None = None) -> Any:
    values: dict[str, Any] = dict(rest or {})
    carried = type(body).model_fields if body is not None else {}
    for part in plan.fields:
        if part.name not in carried:
            continue
        value = getattr(body, part.name)
        if part.encoding:
            encoding = getattr(body, part.encoding)
            if isinstance(value, list):
                value = [bytes_of(item, encoding, part.name) for item in value]
            else:
                value = bytes_of(value, encoding, part.name)
        elif part.from_json is not None:
            value = part.from_json(value)
        values[part.name] = value
    return plan.kind(**values)


# ---------------------------------------------------------------- models

_MODELS: dict[str, type[BaseModel]] = {}
"""Every model by name; also what forward references are resolved in."""
_UNFINISHED: list[str] = []
"""Names of the models that are being made, the outermost first."""


def body_model(
    kind: type[Struct],
    *,
    exclude: Iterable[str] = (),
    descriptions: Mapping[str, str] | None = None,
    example: Mapping[str, Any] | None = None,
) -> type[BaseModel]:
    """Make the model of a request body.

    Args:
        kind: The struct that the body becomes.
        exclude: Fields that come from the path or the query.
        descriptions: What to say about fields in the documentation.
        example: A body to show there.
    """
    made: type[BaseModel] = _model(
        kind, f"{kind.__name__}Body", True, frozenset(exclude), descriptions or {}, example
    )
    return made


def answer_model(kind: type[Struct]) -> type[BaseModel]:
    """Make the model that documents an answer; the answer itself is made by `to_json`."""
    made: type[BaseModel] = _model(kind, kind.__name__, False)
    return made


def field_names(kind: type[Struct]) -> list[str]:
    """List the fields of a struct."""
    return [part.name for part in _plan_of(kind).fields]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field as a path or a query carries it.

    Attributes:
        annotation: Its type.
        read: What turns it into the struct's value; None if it is that already.
        default: Makes its default; None if the field is required.
    """

    annotation: Any
    read: Callable[[Any], Any] | None
    default: Callable[[], Any] | None


def parameter(kind: type[Struct], name: str) -> Parameter:
    """Describe one field as a path or a query carries it, where all is text."""
    (part,) = [part for part in _plan_of(kind).fields if part.name == name]
    info = part.type
    default = None if part.default is None else _shown_default(part)
    if part.encoding:
        return Parameter(str, lambda text: bytes_of(text, name=name), default)
    if (kind.__name__, name) in _ENUMS:
        return Parameter(_annotation(kind, part, is_body=True), part.from_json, default)
    if isinstance(info, inspect.UnionType):
        (info,) = [option for option in info.types if not isinstance(option, inspect.NoneType)]
    if _is_id(info):
        return Parameter(IdText, None, default)
    if isinstance(info, inspect.IntType):
        return Parameter(Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)], None, default)
    if isinstance(info, inspect.BoolType):
        return Parameter(bool, None, default)
    if isinstance(info, inspect.ListType):
        return Parameter(list[str], None, list)
    if isinstance(info, inspect.DictType):
        return Parameter(list[str], lambda pairs: _pairs(pairs, name), list)
    assert isinstance(info, inspect.StrType), (kind, name)
    return Parameter(str, None, default)


def _pairs(pairs: list[str], name: str) -> dict[str, str]:
    if not all("=" in pair for pair in pairs):
        raise InvalidRequest(f"{name}: written as key=value, once for each pair", field=name)
    return dict(pair.split("=", 1) for pair in pairs)


def _model(
    kind: type[Struct],
    name: str,
    is_body: bool,
    exclude: frozenset[str] = frozenset(),
    descriptions: Mapping[str, str] | None = None,
    example: Mapping[str, Any] | None = None,
    tag: str | None = None,
) -> Any:
    if name in _UNFINISHED:
        return ForwardRef(name)
    if name in _MODELS:
        return _MODELS[name]
    _UNFINISHED.append(name)
    fields: dict[str, Any] = {}
    if tag is not None:
        fields["type"] = (Literal[tag], ...)
    for part in _plan_of(kind).fields:
        if part.name not in exclude:
            _add_field(fields, kind, part, is_body, (descriptions or {}).get(part.name))
    made: type[BaseModel] = create_model(
        name, __base__=_Body if is_body else _Answer, __doc__=kind.__doc__, **fields
    )
    if example is not None:
        made.model_config["json_schema_extra"] = {"examples": [dict(example)]}
    _MODELS[name] = made
    _UNFINISHED.remove(name)
    if not _UNFINISHED:
        for model in _MODELS.values():
            if not model.__pydantic_complete__:
                model.model_rebuild(_types_namespace=_MODELS)
    return made


def _add_field(
    fields: dict[str, Any],
    kind: type[Struct],
    part: _FieldPlan,
    is_body: bool,
    description: str | None,
) -> None:
    annotation = _annotation(kind, part, is_body)
    if part.default is None or not is_body:
        fields[part.name] = (annotation, Field(description=description))
    else:
        default = _shown_default(part)
        fields[part.name] = (annotation, Field(default_factory=default, description=description))
    if part.encoding:
        note = f"Of `{part.name}`."
        fields[part.encoding] = (Encoding, Field("utf-8", description=note))


def _shown_default(part: _FieldPlan) -> Callable[[], Any]:
    assert part.default is not None
    value = part.default()
    if isinstance(value, bytes):
        shown = value.decode()
        return lambda: shown
    if isinstance(part.type, inspect.IntType) and part.to_json is not None:
        shown = part.to_json(value)
        return lambda: shown
    return part.default


def _annotation(kind: type[Struct], part: _FieldPlan, is_body: bool) -> Any:
    enum = _ENUMS.get((kind.__name__, part.name))
    if enum is not None:
        return Literal[tuple(member.name.lower() for member in enum)]
    if part.encoding:
        return list[str] if isinstance(part.type, inspect.ListType) else str
    return _type(part.type, is_body)


def _type(info: inspect.Type, is_body: bool) -> Any:
    if _is_id(info):
        return IdText
    if isinstance(info, inspect.IntType):
        return Int64
    if isinstance(info, inspect.BoolType):
        return Annotated[bool, Field(strict=True)]
    if isinstance(info, inspect.StrType):
        return str
    if isinstance(info, inspect.ListType):
        return list[_type(info.item_type, is_body)]  # type: ignore[misc]
    if isinstance(info, inspect.DictType):
        return dict[str, _type(info.value_type, is_body)]  # type: ignore[misc]
    if isinstance(info, inspect.StructType):
        suffix = "Body" if is_body else ""
        return _model(info.cls, info.cls.__name__ + suffix, is_body)
    if isinstance(info, inspect.UnionType):
        return _union(info, is_body)
    return Any


def _union(info: inspect.UnionType, is_body: bool) -> Any:
    options = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    is_optional = len(options) < len(info.types)
    if len(options) == 1:
        only = _type(options[0], is_body)
        return Union[only, None] if is_optional else only  # noqa: UP007 - built at run time
    kinds = [part.cls for part in options if isinstance(part, inspect.StructType)]
    return union_model(kinds, is_body=is_body)


def union_model(kinds: Sequence[type[Struct]], *, is_body: bool = False) -> Any:
    """Give the annotation of a value that is one of several structs, told apart by ``type``."""
    suffix = "Operation" if is_body else "Item"
    parts = tuple(
        _model(kind, kind.__name__ + suffix, is_body, tag=_plan_of(kind).tag) for kind in kinds
    )
    return Annotated[Union[parts], Field(discriminator="type")]  # noqa: UP007 - a tuple
