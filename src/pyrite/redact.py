"""Redaction of names in what leaves this machine: a path becomes its last part, all else stays.

Whole stay names on the hub (`org/name`, `org/name@revision`, `hf://…`) and other addresses, packaged models
(`packaged:NAME`), and what a loop calls its own (`study:ARM`, `loop:…`). Prose with a slash in it is no path.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

OURS = ("packaged:", "study:", "loop:")
_ADDRESS = re.compile(r"(?!file:)[A-Za-z][\w+.-]*://")
_KEYS = re.compile(r"\?\S*?\b[\w-]*(sig|token|key|cred|secret|pass)[\w-]*=[^#\s]*", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@?#\s]*@")
_PASSWORD = re.compile(r"(?<=://)[^/@?#:\s]*:[^/@?#\s]*@")
_WITH_USERS = ("http://", "https://", "ftp://", "sftp://", "ssh://", "smb://")
_ASKED = re.compile(r"\?[^#\s]*")
_ROOTED = re.compile(r"file:|~?/|~\w+/|\.{1,2}/|.*/\.\./|[A-Za-z]:[\\/]|\\\\", re.DOTALL)
_WINDOWS = re.compile(r"[A-Za-z]:\\|\\\\")
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_CALLED = re.compile(r"[\w :.-]*=")
_OF_FILES = (
    *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".yaml", ".yml", ".gz", ".zst", ".html"),
    *(".gguf", ".safetensors"),
)


def hide_keys(url: str) -> str:
    """An address without a user's name and password, and on the web without what is asked of a page."""
    url = without_user(url)
    return _ASKED.sub("?…", url) if url.startswith(("http://", "https://")) else url


def without_user(url: str) -> str:
    """An address without a user's name and password; a name alone stays where it may be a place (`abfs://CONTAINER@ACCOUNT`).

    >>> without_user("https://token@host/a"), without_user("s3://key:secret@bucket/a"), without_user("abfs://box@account/a")
    ('https://host/a', 's3://bucket/a', 'abfs://box@account/a')
    """
    return (_USER if url.startswith(_WITH_USERS) else _PASSWORD).sub("", url, count=1)


def redact_path(value: object) -> str:
    """Any value as text: a path, or the path of NAME=PATH, without its folders. Looks at the text alone.

    >>> redact_path("/home/me/models/mine"), redact_path("~/a/b.jsonl"), redact_path("base/gp.json")
    ('mine', 'b.jsonl', 'gp.json')
    >>> redact_path("../../home/me/priv/s")
    's'
    >>> redact_path("hans=/home/me/secret=x/hans.jsonl"), redact_path("/home/me/a=b/c"), redact_path("file:///home/me/x")
    ('hans=hans.jsonl', 'c', 'x')
    >>> redact_path("org/name@v1/b"), redact_path("hf://org/name:main@train")
    ('org/name@v1/b', 'hf://org/name:main@train')
    >>> redact_path("packaged:minilm-l6"), redact_path("study:human")
    ('packaged:minilm-l6', 'study:human')
    >>> redact_path("Answer yes/no, or a / b / c."), redact_path("http://host/v1?a=/b"), redact_path(0.5)
    ('Answer yes/no, or a / b / c.', 'http://host/v1?a=/b', '0.5')
    >>> redact_path("https://host/a.jsonl?X-Amz-Date=1&X-Amz-Signature=ab12#chosen"), redact_path("https://me:pw@host/a")
    ('https://host/a.jsonl?…#chosen', 'https://host/a')
    """
    called, name = parted(str(value))
    name = _KEYS.sub("?…", without_user(name)) if _ADDRESS.match(name) else name
    return called + (last(name) if is_path(name) else name)


def redact_existing_path(text: str) -> str:
    """The same on the machine that has the files: what exists here is a path, even where it looks like a name on the hub."""
    called, name = parted(text)
    name = _KEYS.sub("?…", without_user(name)) if _ADDRESS.match(name) else name
    exists = not name.startswith(OURS) and os.path.exists(os.path.expanduser(name))
    return called + (last(name) if exists or is_path(name) else name)


def parted(text: str) -> tuple[str, str]:
    """NAME= and the rest; no NAME where there is none.

    >>> parted("nli=dev.jsonl"), parted("/a=b"), parted("a/b=c")
    (('nli=', 'dev.jsonl'), ('', '/a=b'), ('', 'a/b=c'))
    """
    match = _CALLED.match(text)
    if match is None or text.startswith("."):
        return "", text
    return match[0], text[match.end() :]


def is_path(text: str) -> bool:
    """Does a text name a file or folder by a way of several parts?"""
    if "\n" in text or text.startswith(OURS) or _ADDRESS.match(text):
        return False
    if _ROOTED.match(text):
        return True
    if "/" not in text:
        return False
    return text.lower().endswith(_OF_FILES) or not (re.search(r"\s", text) or _ON_HUB.fullmatch(text))


def last(path: str) -> str:
    """A path's last part; the path where it has none.

    >>> last("/a/b/"), last("C:\\\\me\\\\x.csv"), last("/"), last("..")
    ('b', 'x.csv', '/', '..')
    """
    parts = [part for part in re.split(r"[\\/]" if _WINDOWS.match(path) else "/", path) if part]
    return parts[-1] if parts else path


def redact_outside_paths(values: Any) -> Any:
    """Plain values of any depth, in which paths that lead out of the folder they are read from keep their last part only.

    >>> redact_outside_paths({"files": ["/home/me/a.jsonl", "mnli/dev.jsonl"], "model": "../x", "seed": 1})
    {'files': ['a.jsonl', 'mnli/dev.jsonl'], 'model': 'x', 'seed': 1}
    """
    if isinstance(values, Mapping):
        return {name: redact_outside_paths(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [redact_outside_paths(value) for value in values]
    if isinstance(values, str) and _ROOTED.match(parted(values)[1]):
        return redact_path(values)
    return values


def paths_in(values: Any) -> Iterator[str]:
    """Every text in plain values of any depth that is shown shorter than it is."""
    if isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from paths_in(value)
    elif isinstance(values, str) and redact_path(values) != values:
        yield values


def replaced(text: str, called: Mapping[str, str]) -> str:
    """A sentence in which names stand as they are `called`; the longest name that fits is taken.

    >>> replaced("/a/b against /a", {"/a": "A", "/a/b": "B"})
    'B against A'
    """
    if not called:
        return text
    longest_first = sorted(called, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda match: called[match[0]], text)


def unlike(names: Sequence[str]) -> list[str]:
    """Names of which no two are the same: equal ones are numbered by their place.

    >>> unlike(["demo", "other", "demo"]), unlike(["a", "a", "a (1)"])
    (['demo (1)', 'other', 'demo (3)'], ['a (1) (1)', 'a (2)', 'a (1) (3)'])
    """
    numbered = [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]
    return numbered if len(set(numbered)) == len(numbered) else unlike(numbered)


def stem_of(name: str) -> str:
    """A name as a folder, as lm-evaluation-harness makes it: no character that a path gives a meaning to.

    >>> stem_of("org/name@main"), stem_of("../x"), stem_of("..")
    ('org__name@main', '__x', '_')
    """
    stem = re.sub(r"[\"<>:/|\\?*\[\]\x00-\x1f\x7f]+", "__", name)[:120].lstrip(".").rstrip(". ")
    return stem or "_"
