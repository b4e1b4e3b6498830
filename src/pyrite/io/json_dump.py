"""Values of rows as JSON, whatever types the source had."""

import base64
import datetime
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def dump_json(value: Any) -> bytes:
    """A value as JSON in UTF-8. Decimals, durations and other values that JSON does not have become text, bytes base64;
    NaN and infinity null; whole numbers keep all digits, halves of surrogate pairs are escaped."""
    try:
        return orjson.dumps(value, default=plain_value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a number of more than 64 bits, half a pair
        return json.dumps(_without_nan(value), default=plain_value, separators=(",", ":")).encode()


def plain_value(value: Any) -> Any:
    """What a value that JSON does not have is written as."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else str(name): _without_nan(item) for name, item in value.items()}
    return value


def without_halves(value: Any) -> Any:
    """The value with U+FFFD for every half of a surrogate pair, which is no character and which no file can hold."""
    if isinstance(value, str):
        return _HALF_PAIR.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(name): without_halves(item) for name, item in value.items()}
    return value
