"""JSON as etcd's gateway reads it, and its words for what is wrong. Pure.

As with Go's decoder, behind a value may come another one; a call that takes one message never looks
there. Bytes that are no text, and halves of surrogate pairs, become U+FFFD.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DIGITS_MAX: Final = 25
"""More than any number of 64 bits has."""
_VALUE: Final = "looking for beginning of value"
_PLACES: Final = {
    "Expecting value": _VALUE,
    "Expecting property name enclosed in double quotes": "looking for beginning of object key "
    "string",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class Odd(str):
    """A number that is no whole one of a usual length, as it was written."""

    __slots__ = ()


class Malformed(ValueError):
    """A text is no JSON."""


class _Constant(Exception):
    """NaN or an infinity."""


def _integer(text: str) -> int | Odd:
    return int(text) if len(text) <= _DIGITS_MAX else Odd(text)


def _constant(text: str) -> Any:
    raise _Constant(text)


_decoder = json.JSONDecoder(parse_float=Odd, parse_int=_integer, parse_constant=_constant)


def values(body: bytes) -> Iterator[Any]:
    """Read one value after the other.

    Raises:
        Malformed: What comes next is no value, or is cut off.
    """
    text = body.decode(errors="replace")
    at = _after_space(text, 0)
    while at < len(text):
        found, at = _next(text, at)
        yield found
        at = _after_space(text, at)


def only(text: str) -> Any:
    """Read a text that is one value.

    Raises:
        Malformed: It is not.
    """
    at = _after_space(text, 0)
    if at == len(text):
        raise Malformed("unexpected end of JSON input")
    found, at = _next(text, at)
    at = _after_space(text, at)
    if at < len(text):
        raise Malformed(_invalid(text[at], "after top-level value"))
    return found


def whole(text: str) -> str:
    """Replace halves of surrogate pairs, which no encoding has."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


def _next(text: str, at: int) -> tuple[Any, int]:
    try:
        return _decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise Malformed(_told(error)) from None
    except RecursionError:
        raise Malformed("exceeded max depth") from None
    except _Constant as error:
        raise Malformed(
            f"invalid character {str(error)[0]!r} looking for beginning of value"
        ) from None


def _told(error: json.JSONDecodeError) -> str:
    """Say it as Go does, as far as the place is the same."""
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    return _invalid(error.doc[error.pos], _PLACES.get(error.msg, "in a value"))


def _invalid(character: str, place: str) -> str:
    shown = "'\\''" if character == "'" else f"'{character}'" if character == '"' else ""
    return f"invalid character {shown or repr(character)} {place}"
