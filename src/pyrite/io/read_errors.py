"""What is said of a source that cannot be read, with the flags that mend it."""

import re
from collections.abc import Sequence
from pathlib import Path

from pyrite.errors import UserError
from pyrite.io.delimited import first_columns, header_cells
from pyrite.io.files import TEXT_SUFFIXES, File
from pyrite.io.raw_row import BadRow, UnnamedLabels, short_value
from pyrite.io.undecodable import first_undecodable, undecodable_error

SKIP = "or leave such rows out, counted, with `--on-bad-row skip` (in a YAML file: on_bad_row: skip)"
_WAYS = {
    "unknown label": "say what it stands for with --label-map THEIRS=OURS (in a YAML file: label_map)",
    "unknown role": "say who it is with --roles THEIRS=OURS (ours: system, user, assistant, tool)",
}
_FLAG = re.compile(r"--(encoding|columns)\b")


def with_flags(error: UserError, flags: str | None) -> UserError:
    """What a file's reader says, with the flags of its source: `flags` is what they begin with, None where there are none."""
    if flags is None:
        return UserError(error.what, error.found, "mend the file" if "`--" in error.fix else error.fix)
    detail, fix = (_FLAG.sub(rf"--{flags}\1", text) for text in (error.found, error.fix))
    return UserError(error.what, detail, fix)


def bad_row_error(file: File, line: int, bad: BadRow, flags: str | None, *, alone: bool = True) -> UserError:
    """What is wrong with a row, and what to do; `alone`: others can be read, so that it may be left out."""
    what, skip = f"bad row: {bad.reason}", SKIP if alone and flags is not None else ""
    byte = first_undecodable(file) if bad.reason == "not UTF-8" and file.suffix in TEXT_SUFFIXES else None
    if byte is not None:
        flag = "" if flags is None else f"--{flags}encoding"
        return undecodable_error(file, byte, what=f"bad row: not {byte.encoding}", flag=flag, skip=skip)
    way = _WAYS.get(bad.reason) if flags is not None else None
    mend = "mend it" if way else "mend the row" if alone else "mend the file"
    return UserError(what, f"{file.location(line)}: {bad.detail}", ", ".join(filter(None, [way, mend, skip])))


def no_rows_error(source: str | Path, files: Sequence[File], flags: str | None) -> UserError:
    """A source without rows: empty, or a table with names and nothing under them."""
    fix = "give a file with at least one row"
    names = next(filter(None, map(header_cells, files)), None)
    if names is None:
        return UserError("no rows", f"{source} is empty", fix)
    if flags is not None:
        fix += f"; where that line is a row, name the columns by number{first_columns(names)}"
    detail = f"{source}: nothing follows the names of columns, {short_value(names, 200)}"
    return with_flags(UserError("no rows", detail, fix), flags)


def unnamed_labels_error(location: str, error: UnnamedLabels) -> UserError:
    """Integer labels of which nothing says what they mean."""
    example = " ".join(f"--label-map {at}={name}" for at, name in enumerate(("entailment", "neutral", "contradiction")))
    return UserError(
        "the labels are integers, and nothing says what they mean",
        f"{location}: {error.column} is {error.value}",
        f"say it (in a YAML file: label_map), with `{example}` where that is their order; "
        "the order differs between data sets, so it is never assumed",
    )
