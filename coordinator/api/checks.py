"""What is wrong with a request whatever the state is.

Checked before a request reaches the log. What every operation has in common follows from its
struct: names are names, numbers count something, texts and lists have an end. Rules of a
single operation are in the ``check`` of its `Operation`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from coordinator_sdk.errors import InvalidRequest

NAME_BYTES_MAX = 256
TEXT_BYTES_MAX = 4096
LIST_MAX = 1024
MAP_MAX = 256
POSITIONS_MAX = 65_536
"""Topics that one subscription may resume from."""
TTL_MS_MAX = 9_000_000_000_000
"""Nine billion seconds, as in etcd."""
INT64_MAX = (1 << 63) - 1

NAMES = ("namespace", "name", "service", "topic", "instance", "owner", "ticket", "pattern")
"""Fields that name something."""

Check = Callable[[Any], None]
_Rule = Callable[[str, Any], None]


def check_name(field: str, value: str) -> None:
    """Refuse what is no name: 1 to 256 bytes of UTF-8 without control characters.

    Raises:
        InvalidRequest: It names the field.
    """
    if not value:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    _check_optional_name(field, value)


def _check_optional_name(field: str, value: str) -> None:
    if len(value) > NAME_BYTES_MAX or len(value.encode()) > NAME_BYTES_MAX:
        raise InvalidRequest(f"{field}: at most {NAME_BYTES_MAX} bytes", field=field)
    refuse_controls(field, value)


def refuse_controls(field: str, value: str, allowed: str = "") -> None:
    """Refuse control characters but for those that are allowed.

    Raises:
        InvalidRequest: There are some.
    """
    if not value.isprintable() and any(
        (ord(c) < 32 or 127 <= ord(c) < 160) and c not in allowed for c in value
    ):
        raise InvalidRequest(f"{field}: no control characters", field=field)


def check_ttl(field: str, value: int) -> None:
    """Refuse a time to live that is not from 1 ms to 9e12 ms.

    Raises:
        InvalidRequest: It names the field.
    """
    if not 1 <= value <= TTL_MS_MAX:
        raise InvalidRequest(f"{field}: from 1 to {TTL_MS_MAX} ms", field=field)


def _check_timeout(field: str, value: int | None) -> None:
    if value is not None and not 0 <= value <= TTL_MS_MAX:
        raise InvalidRequest(f"{field}: from 0 to {TTL_MS_MAX} ms", field=field)


def _check_number(field: str, value: int) -> None:
    if not 0 <= value <= INT64_MAX:
        raise InvalidRequest(f"{field}: must not be negative", field=field)


def _check_text(field: str, value: str) -> None:
    if len(value) > TEXT_BYTES_MAX or len(value.encode()) > TEXT_BYTES_MAX:
        raise InvalidRequest(f"{field}: at most {TEXT_BYTES_MAX} bytes", field=field)
    refuse_controls(field, value, "\t\n")


def _check_list(field: str, value: list[Any]) -> None:
    if len(value) > LIST_MAX:
        raise InvalidRequest(f"{field}: at most {LIST_MAX} of them", field=field)
    for index, item in enumerate(value):
        if type(item) is str:
            _check_text(f"{field}[{index}]", item)


def _check_map(field: str, value: dict[str, Any]) -> None:
    limit = POSITIONS_MAX if field == "after" else MAP_MAX
    if len(value) > limit:
        raise InvalidRequest(f"{field}: at most {limit} of them", field=field)
    for key, item in value.items():
        check_name(field, key)
        if type(item) is str:
            _check_text(f"{field}.{key}", item)
        elif type(item) is int:
            _check_number(f"{field}.{key}", item)


def check_struct(kind: type[Struct]) -> Check:
    """Make the check that follows from the fields of a struct."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    rules = [(part.name, rule) for part in info.fields if (rule := _rule(part)) is not None]

    def check(body: Any) -> None:
        for field, rule in rules:
            rule(field, getattr(body, field))

    return check


def _rule(part: inspect.Field) -> _Rule | None:
    info, is_optional = part.type, False
    if isinstance(info, inspect.UnionType):
        options = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        is_optional = len(options) < len(info.types)
        info = options[0] if len(options) == 1 else info
    rule = _plain_rule(part, info)
    if rule is None or not is_optional:
        return rule
    inner = rule
    return lambda field, value: None if value is None else inner(field, value)


def _plain_rule(part: inspect.Field, info: inspect.Type) -> _Rule | None:
    if isinstance(info, inspect.Metadata):
        info = info.type
    if part.name.endswith("ttl_ms"):
        return check_ttl
    if part.name.endswith("timeout_ms"):
        return _check_timeout
    if isinstance(info, inspect.IntType):
        return _check_number
    if isinstance(info, inspect.StrType):
        if part.name in NAMES:
            return check_name if part.default is NODEFAULT else _check_optional_name
        return _check_text
    if isinstance(info, inspect.ListType):
        return _check_list
    if isinstance(info, inspect.DictType):
        return _check_map
    if isinstance(info, inspect.StructType):
        inner = check_struct(info.cls)
        return lambda field, value: _inside(field, inner, value)
    return None


def _inside(field: str, check: Check, value: Any) -> None:
    try:
        check(value)
    except InvalidRequest as error:
        path = f"{field}.{error.details.get('field', '')}"
        raise InvalidRequest(f"{field}.{error.message}", field=path) from None
