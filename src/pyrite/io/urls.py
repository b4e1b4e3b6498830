"""Places outside this machine: which texts are URLs, which file system of fsspec opens one, and what to do where it does not answer."""

import errno
import functools
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pyrite.errors import PyriteError, UserError
from pyrite.redact import hide_keys

SAME = {"s3a": "s3", "gcs": "gs"}
"""Protocols by the name that they also have."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of Pyrite's that brings a protocol."""
LOCAL = ("file", "local")
WEB = ("http://", "https://")
PATIENCE = 300.0
"""Seconds for which a server that does not answer is asked again; `$PYRITE_STORE_PATIENCE` is another number."""
FIRST_PAUSE, NOTICED_FROM, LONGEST_PAUSE = 0.25, 2.0, 10.0
_URL = re.compile(r"([a-z][a-z0-9+.-]+):(/{1,3})(.*)", re.DOTALL)
_PASSING = (errno.EBUSY, errno.EIO, errno.EPIPE, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH,
            getattr(errno, "EREMOTEIO", errno.EIO))  # fmt: skip
"""Errors of the system that also stand for a server's own trouble (500, 503)."""
_PASSING_CLASSES = {
    *("EndpointConnectionError", "HTTPClientError", "ConnectionClosedError", "ClientConnectionError", "FSTimeoutError"),
    *("ClientPayloadError", "ServerDisconnectedError", "IncompleteReadError", "ResponseParserError"),
}
_REFUSALS = {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "RefreshError"}
Answer = TypeVar("Answer")


def url_of(place: str | Path) -> str | None:
    """The URL that fsspec opens, where a place is one; None for a path of this machine and for a data set on the hub.

    A path object has one slash where a URL has two, and stands for the same.

    >>> url_of("s3://bucket/rows.jsonl"), url_of(Path("s3://bucket") / "rows.jsonl")
    ('s3://bucket/rows.jsonl', 's3://bucket/rows.jsonl')
    >>> url_of("file:///data/x"), url_of(Path("file:///data/x")), url_of("hf://datasets/org/name/x.jsonl")
    ('file:///data/x', 'file:///data/x', 'hf://datasets/org/name/x.jsonl')
    >>> url_of("data/rows.jsonl"), url_of("hf://org/name:main@train"), url_of("C:/rows.jsonl"), url_of("packaged:x")
    (None, None, None, None)
    """
    match = _URL.fullmatch(str(place))
    if match is None:
        return None
    protocol, slashes, rest = match.groups()
    if len(slashes) == 1 and not _is_protocol(protocol):
        return None
    if protocol == "hf" and rest.count("/") < 2:
        return None
    return f"{protocol}://{'/' if protocol in LOCAL else ''}{rest}"


def local_path(url: str) -> Path | None:
    """The path on this machine that a `file://` URL names; None for any other.

    >>> local_path("file:///data/x").as_posix(), local_path("s3://bucket/x")
    ('/data/x', None)
    """
    protocol, _, rest = url.partition("://")
    return Path(rest) if protocol in LOCAL else None


def name_in_place(place: str | Path) -> str:
    """A file's name; of a page of the web without what is asked of it, which may be a key.

    >>> name_in_place("data/a.jsonl"), name_in_place("s3://bucket/a.jsonl#chosen"), name_in_place("https://host/b/a.jsonl?key=1#chosen")
    ('a.jsonl', 'a.jsonl#chosen', 'a.jsonl#chosen')
    """
    url = url_of(place)
    if url is None or not url.startswith(WEB):
        return Path(place).name
    address, sign, column = url.partition("#")
    return address.partition("?")[0].rpartition("/")[2] + sign + column


def shown_url(text: str) -> str:
    """A URL as it may be shown: without a user's name, a password, and what is asked of a page, which may be a key.

    >>> shown_url("https://me:pw@host/a.jsonl?token=1#chosen"), shown_url("s3://bucket/a?b.jsonl"), shown_url("data/a.jsonl")
    ('https://host/a.jsonl?…#chosen', 's3://bucket/a?b.jsonl', 'data/a.jsonl')
    """
    return hide_keys(text) if _URL.fullmatch(text) else text


def on_this_machine(place: str | Path) -> bool:
    """Is this a path of this machine, also as a `file://` URL?"""
    url = url_of(place)
    return url is None or local_path(url) is not None


@functools.cache
def _is_protocol(name: str) -> bool:
    from fsspec.registry import known_implementations

    return name in known_implementations


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system of fsspec that opens a URL, and the path in it. Nothing is remembered of what it lists.

    Raises:
        UserError: nobody knows the protocol, or the package that speaks it is not installed.
    """
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs

    protocol, _, rest = url.partition("://")
    if not rest.strip("/"):
        raise UserError(
            "That URL names nothing.", shown_url(url), f"name a bucket and a place in it: {protocol}://BUCKET/NAME"
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):  # we ask again ourselves
        options["config_kwargs"] = {"retries": {"max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}
    try:
        get_filesystem_class(protocol)
        filesystem, path = url_to_fs(url, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        fix = f"pip install 'pyrite[{extra}]'" if extra else str(error)
        raise UserError(f"{protocol}:// needs a package that is not installed.", shown_url(url), fix) from error
    except (TypeError, AttributeError, KeyError, OSError, RuntimeError) as error:
        detail = f"{shown_url(url)}: {type(error).__name__}: {error}"[:400]
        raise UserError(
            "That URL cannot be opened.", detail, "check the address, and what its protocol needs"
        ) from error
    except ValueError as error:
        fix = f"name one of these protocols: {', '.join(EXTRAS)}, https, file, or another of fsspec's"
        raise UserError("Nobody knows how to open that.", f"{shown_url(url)}: {error}", fix) from error
    return filesystem, path


def patiently(action: Callable[[], Answer], url: str) -> Answer:
    """What an action on a URL answers; where its server does not, it is asked again, less and less often.

    Raises:
        UserError: the server stays away, refuses us, or has no such bucket.
        FileNotFoundError, OSError: as the file system raises them otherwise.
    """
    ends = time.monotonic() + seconds_named("PYRITE_STORE_PATIENCE", PATIENCE)
    pause, waits = FIRST_PAUSE, False
    while True:
        try:
            return action()
        except PyriteError:
            raise
        except Exception as error:
            if (refused := refused_url(error, url)) is not None:
                raise refused from error
            if not is_passing(error):
                raise
            if time.monotonic() + pause > ends:
                fix = "look whether it runs and can be reached; then the same command again: finished steps are kept"
                raise UserError("The object store does not answer.", f"{shown_url(url)}: {error}"[:400], fix) from error
        if pause >= NOTICED_FROM and not waits:
            waits = True
            print(f"pyrite: {shown_url(url)} does not answer; it is asked again", file=sys.stderr)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def seconds_named(variable: str, default: float) -> float:
    """Seconds that a variable of the environment names.

    Raises:
        UserError: it names no number, or a negative one.
    """
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(
            f"${variable} is no number of seconds.", repr(text), f"such as {variable}={default:g}, or leave it out"
        )
    return seconds


def is_passing(error: BaseException) -> bool:
    """May the same call go well a little later?"""
    if type(error).__name__ == "ClientConnectorDNSError":  # nobody has that name
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if any(kind.__name__ in _PASSING_CLASSES for kind in type(error).__mro__):
        return True
    status = getattr(error, "code", None) or getattr(error, "status", None)  # gcsfs, aiohttp
    if isinstance(status, int) and (status >= 500 or status == 429):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING


def refused_url(error: BaseException, url: str) -> UserError | None:
    """What a server's refusal means for the user; None where it is none."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    if code == "NoSuchBucket":
        bucket = "/".join(url.split("/")[:3])
        return UserError("There is no such bucket.", shown_url(url), f"create it, or check the name: {bucket}")
    if isinstance(error, PermissionError) or type(error).__name__ in _REFUSALS:
        detail = f"{shown_url(url)}: {error}"[:400]
        return UserError("The object store refuses access.", detail, "check the keys, their rights and the endpoint")
    return None


def stays_within(name: str) -> bool:
    """Does a name that came from elsewhere lie in the folder that it is joined to?

    >>> [stays_within(name) for name in ("a/b.json", "/etc/passwd", "a/../../b", "..")]
    [True, False, False, False]
    """
    path = PurePosixPath(name)
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and (os.name != "nt" or "\\" not in name)
    )
