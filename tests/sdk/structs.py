"""Hypothesis strategies for the structs of the contract, made from their types."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct, inspect

from coordinator_sdk.protocol import (
    audit,
    auth,
    cluster,
    discovery,
    elections,
    kv,
    locks,
    maintenance,
    services,
    sessions,
    tickets,
    topics,
)

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
ID = st.integers(0, (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def every_struct() -> list[type[Struct]]:
    """Every struct of the contract that can travel on its own."""
    modules = [audit, auth, cluster, discovery, elections, kv]
    modules += [locks, maintenance, services, sessions, tickets, topics]
    found = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
    }
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


def values_of(info: inspect.Type, depth: int = 2) -> st.SearchStrategy[Any]:
    """Values of a type."""
    match info:
        case inspect.Metadata():
            return ID if (info.extra or {}).get("id") else values_of(info.type, depth)
        case inspect.IntType():
            return INT64
        case inspect.BoolType():
            return st.booleans()
        case inspect.StrType():
            return TEXT
        case inspect.BytesType():
            return st.binary(max_size=8)
        case inspect.NoneType():
            return st.none()
        case inspect.ListType():
            if depth <= 0:
                return st.just([])
            return st.lists(values_of(info.item_type, depth - 1), max_size=3)
        case inspect.DictType():
            return st.dictionaries(
                values_of(info.key_type), values_of(info.value_type, depth - 1), max_size=2
            )
        case inspect.UnionType():
            return st.one_of([values_of(option, depth) for option in info.types])
        case inspect.StructType():
            return struct_values(info.cls, depth)
    raise NotImplementedError(info)


@cache
def struct_values(kind: type[Struct], depth: int = 2) -> st.SearchStrategy[Any]:
    """Instances of a struct."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = {part.name: values_of(part.type, depth) for part in info.fields}
    return st.builds(kind, **fields)
