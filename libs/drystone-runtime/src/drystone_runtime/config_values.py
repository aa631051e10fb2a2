# SPDX-License-Identifier: Apache-2.0
"""How settings are spelled: a parser for each kind of value, and what a field of a section is made of.

Sizes are bytes and may be written `512MiB`; durations are seconds and may be written `1.5s`, `10m`, `24h`, `14d`.
"""

import re
from collections.abc import Callable
from dataclasses import Field, field
from types import MappingProxyType
from typing import Any

from drystone_core.profiles import Profile

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|B|KiB|MiB|GiB|TiB)")
_SIZES = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(|ms|s|m|h|d)")
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def size(value: object) -> int:
    """Bytes from an int or a text like `512MiB`."""
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or not match:
        raise ValueError(f"{value!r} is not a size; write bytes, or e.g. 512MiB, 8GiB")
    return int(float(match[1]) * _SIZES[match[2]])


def duration(value: object) -> float:
    """Seconds from a number or a text like `10m`."""
    match = _DURATION.fullmatch(str(value).strip())
    if isinstance(value, bool) or not match:
        raise ValueError(f"{value!r} is not a duration; write seconds, or e.g. 1.5s, 10m, 24h")
    return float(match[1]) * _DURATIONS[match[2]]


def number(value: object) -> float:
    """A number, not negative."""
    try:
        found = float(str(value))
    except ValueError:
        found = float("nan")
    if isinstance(value, bool) or not 0 <= found < float("inf"):
        raise ValueError(f"{value!r} is not a number")
    return found


def whole(value: object) -> int:
    """A whole number, not negative."""
    said = str(value).strip()
    if isinstance(value, bool) or not said.isascii() or not said.isdecimal():
        raise ValueError(f"{value!r} is not a whole number")
    return int(said)


def text(value: object) -> str:
    """A text as it is."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text; put it in quotes")
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, or one text with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ValueError(f"{value!r} is not a list of texts")


def pairs(value: object) -> tuple[tuple[str, str], ...]:
    """A table of texts, or one text `KEY=VALUE,KEY=VALUE`; in the order given."""
    if isinstance(value, str):
        found = [part.strip().rpartition("=") for part in value.split(",") if part.strip()]
        given = [(key.strip(), said.strip()) for key, _, said in found]
    elif isinstance(value, dict) and all(isinstance(said, str) for said in value.values()):
        given = list(value.items())
    else:
        raise ValueError(f'{value!r} is not a table of texts; write {{KEY = "value"}}, or KEY=value,KEY=value')
    keys = [key for key, _ in given]
    if not all(key and said for key, said in given):
        raise ValueError(f"{value!r} has an entry that is not KEY=value")
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{value!r} names {twice[0]} twice")
    return tuple(given)


def truth(value: object) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    raise ValueError(f"{value!r} is not true or false")


def choice(*allowed: str) -> Callable[[object], str]:
    """A parser that allows only these texts."""

    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        return str(value)

    return parse


def profile(value: object) -> str:
    """A profile's name; empty = by the number of disks."""
    return Profile.parse(str(value)).name if value else ""


def setting(default: Any, parse: Callable[[object], Any], sentence: str) -> Any:
    """A field of a section."""
    return field(default=default, metadata=MappingProxyType({"parse": parse, "help": sentence}))


def parse_value(what: Field[Any], value: object) -> Any:
    """The value of one setting; ValueError in words otherwise."""
    return what.metadata["parse"](value)
