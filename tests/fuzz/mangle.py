"""Values out of JSON and YAML with a few changes, and bytes with a few others."""

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3.5, 10**30, 1e400, float("nan"), "", " ", "x", "0", "1e9", "a/b", "../x", "/dev/null"),
    *("{premise}", "{x", "%s", "é\u202e", "\ud83d", "<b>", "]]>", "null", [], {}, [[]], {"": ""}, ["x", "x"], {"x": 1}, "x" * 300),
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def mangled(rng: random.Random, value: Any, changes: int) -> Any:
    """A copy with so many changes: something left out, doubled, renamed, moved, or another value in its place."""
    value = copy.deepcopy(value)
    for _ in range(changes):
        spots = list(places(value))
        if not spots:
            return rng.choice(ODD)
        container, key = rng.choice(spots)
        other, other_key = rng.choice(spots)
        way = rng.random()
        if way < 0.25:
            del container[key]
        elif way < 0.6:
            container[key] = copy.deepcopy(rng.choice(ODD))
        elif way < 0.75:
            container[key] = copy.deepcopy(other[other_key])
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            name = rng.choice([other_key, f"{key}x", "x", "", 3])
            container[name] = copy.deepcopy(container[key]) if way < 0.9 else container.pop(key)
    return value


def scrambled(rng: random.Random, data: bytes, changes: int) -> bytes:
    """Bytes with so many pieces replaced, left out or moved."""
    content = bytearray(data)
    for _ in range(changes):
        if not content:
            break
        at, size = rng.randrange(len(content)), rng.choice([0, 1, 1, 2, 8, 40])
        other = rng.randrange(len(content))
        content[at : at + size] = rng.choice([rng.randbytes(rng.randrange(3)), content[other : other + size], b""])
    return bytes(content)


def storable(value: Any) -> Any:
    """The value without what JSON in UTF-8 cannot hold: halves of characters, other keys than text, long numbers."""
    if isinstance(value, dict):
        return {str(name).encode("utf-8", "replace").decode(): storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value if not isinstance(value, int) or abs(value) < 2**63 else float(value)
