"""What every verb that writes a run folder needs: may it be written there, which command makes it again, which text fits."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from pyrite.errors import UserError
from pyrite.io import local_place
from pyrite.io.copies import urls_named
from pyrite.io.uploads import Upload
from pyrite.io.urls import local_path, shown_url, url_of
from pyrite.redact import redact_existing_path
from pyrite.runs import FILES, VERBS

Verb = TypeVar("Verb", bound=Callable[..., Any])


def takes_urls(
    *,
    ins: Collection[str] = (),
    outs: Collection[str] = (),
    runs: Collection[str] = (),
    below: Callable[[Any], str] | None = None,
) -> Callable[[Verb], Verb]:
    """Makes a verb whose configuration may have URLs: of `ins`, it reads copies; what it writes to `outs` is written on this
    machine, and uploaded where it ends well. Those of them that are a run's own folder are its `runs`. A verb that writes a folder
    of its own below its place says which (`below`)."""

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def run(config: Any) -> Any:
            local = {name: copied(getattr(config, name)) for name in ins}
            config = changed(config, local)
            uploads = {}
            for name in outs:
                url = None if getattr(config, name) is None else url_of(getattr(config, name))
                if url is not None and (path := local_path(url)) is not None:
                    config = changed(config, {name: path})
                elif url is not None:
                    uploads[name] = Upload(
                        f"{url}/{below(config)}" if below else url, runs=FILES if name in runs else ()
                    )
            local = {name: upload.path.parent if below else upload.path for name, upload in uploads.items()}
            with urls_named():
                result = verb(changed(config, local))
            for upload in uploads.values():
                count = upload.send(FILES)
                if count and not getattr(config, "quiet", False):
                    files = "1 file" if count == 1 else f"{count} files"
                    print(f"pyrite: {files} uploaded to {shown_url(upload.url)}", file=sys.stderr)
            return result

        return run  # type: ignore[return-value]

    return decorate


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """A configuration with other values; itself where they are its own."""
    return config.model_copy(update=dict(values)) if any(getattr(config, n) != v for n, v in values.items()) else config


def copied(value: Any) -> Any:
    """A place to read, or several, with copies in the place of URLs."""
    if isinstance(value, tuple):
        return tuple(copied(entry) for entry in value)
    return type(value)(local_place(value)) if isinstance(value, str | Path) and url_of(value) else value


def check_folder(folder: Path, verb: str) -> None:
    """Refuse, before anything runs, a folder that holds something else than a run of this verb, or cannot be written.

    Raises:
        UserError: the folder is a file, holds other files or the run of another verb, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError("The run folder is a file.", str(folder), "name a folder with --out")
    files = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if files:
        held = held_by(folder)
        if held != verb:
            detail = f"{folder} holds " + (f"a run of pyrite {held}" if held else few(files))
            raise UserError("The run folder is in use.", detail, "name another with --out, or move it away")
    check_writable(folder)


def held_by(folder: Path) -> str | None:
    """The verb of the run that a folder holds, whole or not, of whatever version; None where it holds none."""
    for file in (folder / name for name in FILES):
        try:
            record = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            continue
        if isinstance(record, dict) and record.get("verb") in VERBS:
            return str(record["verb"])
    return None


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written or made; makes nothing.

    Raises:
        UserError: it, or what is there of the folders above it, is a file or closed to us.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError("The run folder cannot be written.", str(folder), "name another with --out")


def few(names: Sequence[str]) -> str:
    """The first three names, and how many more there are.

    >>> few(["a", "b"]), few(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def storable(text: str, longest: int) -> str:
    """A text cut to `longest` characters; half a character pair, which no file can hold, becomes a question mark.

    >>> storable("abc" + chr(0xD83D), 9), storable("abcdef", 3)
    ('abc?', 'abc')
    """
    return text[:longest].encode("utf-8", "replace").decode("utf-8")


def plain_flag(_: str, text: str) -> str:
    """A flag's value without the folders of this machine."""
    return redact_existing_path(text)


def command_line(
    words: Sequence[str],
    config: BaseModel,
    options: type[BaseModel],
    *,
    unsaid: Collection[str],
    plain: Callable[[str, str], str] = plain_flag,
) -> str:
    """The command that makes a run again: `words`, then every flag of `options` that is not at its default.

    `unsaid` names flags that change nothing in the result; `plain(name, text)` is a flag's value as it may be shown.
    """
    line = list(words)
    for name, field in options.model_fields.items():
        value = getattr(config, name)
        if name in unsaid or (not field.is_required() and value == field.get_default(call_default_factory=True)):
            continue
        flag = f"--{name.replace('_', '-')}"
        for item in value if isinstance(value, tuple) else (value,):
            line += [flag] if item is True else [flag, plain(name, str(item))]
    return shlex.join(line)


def open_page(page: Path) -> None:
    """Open a page in the user's browser; where there is none, its path on stderr is all that can be done."""
    import sys
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print(f"pyrite: no browser could be opened; the page is {page}", file=sys.stderr)
