"""Which files does a source name? A file, a folder, a pattern, a URL of one of them, standard input or a data set on the hub.

train.jsonl      prefs.jsonl#chosen (the answers are in that column)      data/*.parquet      - (standard input)
saved/@train     clone/:en@train (a folder with splits, with configurations)      hf://org/name:en@train
s3://bucket/train.jsonl#chosen      (copied to this machine by `copies.py`, and named by its URL)
"""

import atexit
import contextlib
import functools
import glob
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyrite.errors import UserError
from pyrite.io.copies import copy_if_there, is_web, local_copy, named_by_url, urls_named
from pyrite.io.encodings import utf8_content
from pyrite.io.files import File, data_suffix, find_file, missing_file, open_uncompressed
from pyrite.io.formats import choose_split, saved_files
from pyrite.io.layouts import detect
from pyrite.io.raw_row import short_value
from pyrite.io.urls import url_of

if TYPE_CHECKING:
    from pyrite.io.hub import HubDataset

HUB = "hf://"
STDIN = "/dev/stdin"
"""Standard input; the command's `-`."""
SAVED = ("dataset_dict.json", "state.json")
"""What a data set that was saved as a folder holds."""
NO_DATA = re.compile(
    r"(readme|licen[cs]e|notice|changelog|requirements|citation|dataset_infos?|dataset_dict|state|\.)", re.IGNORECASE
)
"""How names of files begin that stand beside data and are none."""
_PATTERN = re.compile(r"[*?\[]")
_NAMED = re.compile(r"(?P<path>.+?)(?::(?P<config>[\w.+-]+))?(?:@(?P<split>[\w.+-]+))?", re.DOTALL)
_SPLIT = re.compile(
    r"(?:^|[/_. -])(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?|dev)|(?P<test>test(?:ing)?|eval(?:uation)?))(?=$|[/_. -])",
    re.IGNORECASE,
)
SPLITS = ("train", "validation", "test")
Splits = Mapping[str, Sequence[Path]]


@dataclass(frozen=True, slots=True)
class SourceName:
    """What the text that names a source says: `place` (a path, a pattern, `-`, or a reference to the hub), the
    configuration and the split, and the column that holds the answers."""

    place: str
    config: str | None = None
    split: str | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of a source in order, the names of its integer labels by column, the stem of its row ids."""

    files: Sequence[File]
    stem: str
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hub: "HubDataset | None" = None
    column: str | None = None


def is_hub(source: str | Path) -> bool:
    """Does this name a data set on the hub?"""
    return isinstance(source, str) and source.startswith(HUB) and url_of(source) is None


def parse_source(source: str | Path) -> SourceName:
    """The parts of a source's name. A file or folder that is called so comes first, whatever signs are in its name. What
    lies at a URL is copied to this machine, and the copy is the place.

    Raises:
        UserError: there is nothing at a URL, or it cannot be opened.
    """
    text = str(source)
    if text == "-":
        return SourceName(STDIN)
    if (url := url_of(text)) is not None:
        return parse_url(url)
    if text == STDIN or (not is_hub(text) and Path(text).exists()):
        return SourceName(text)
    rest, sign, column = text.rpartition("#")
    if not sign or (not is_hub(rest) and rest != STDIN and not _is_there(rest)):
        rest, column = text, ""
    if is_hub(rest) or rest == STDIN or Path(rest).exists():
        return SourceName(rest, column=column or None)
    match = _NAMED.fullmatch(rest)
    if match is not None and Path(match["path"]).exists():
        return SourceName(match["path"], match["config"], match["split"], column or None)
    return SourceName(rest, column=column or None)


def parse_url(url: str) -> SourceName:
    """The same for a URL, whose place is the copy on this machine."""
    rest, sign, column = url.rpartition("#")
    names_whole = [] if sign and is_web(url) else [(url, None)]  # a page is asked for without what follows the sign
    refusal: UserError | None = None
    for text, of_column in [*names_whole, *([(rest, column)] if sign else [])]:
        match = _NAMED.fullmatch(text)
        names: list[tuple[str, str | None, str | None]] = [(text, None, None)]
        if match is not None and match["path"] != text:
            names.append((match["path"], match["config"], match["split"]))
        for name, config, split in names:
            try:
                copy = copy_if_there(name)
            except UserError as error:  # some servers refuse what is not there
                refusal = refusal or error
                continue
            if copy is not None:
                return SourceName(str(copy), config, split, of_column)
    if refusal is not None:
        raise refusal
    return SourceName(str(local_copy(rest if sign and not names_whole else url)))


def _is_there(text: str) -> bool:
    match = _NAMED.fullmatch(text)
    return Path(text).exists() or bool(match and Path(match["path"]).exists()) or bool(matches(text))


def with_split(source: str, split: str | None) -> str:
    """The source's name with the split that is read of it, where it names none.

    Raises:
        UserError: it names another.
    """
    if split is None:
        return source
    name = parse_source(source)
    place, _, named = (
        name.place.partition("@") if is_hub(name.place) else (named_by_url(name.place, openable=True), "", name.split)
    )
    if named and named != split:
        raise UserError("two splits are named", f"{source} and --split {split}", "name one")
    config = f":{name.config}" if name.config else ""
    return f"{place}{config}@{split}" + (f"#{name.column}" if name.column else "")


def matches(text: str) -> list[Path]:
    """The files that a pattern such as `data/*.jsonl` names, sorted; none where the text is no pattern."""
    if not _PATTERN.search(text):
        return []
    paths = (Path(name) for name in sorted(glob.glob(text, recursive=True)))
    return [path for path in paths if path.is_file() and data_suffix(path.name)]


def locate(source: str | Path, *, revision: str | None = None, split: str | None = None, encoding: str | None = None,
           flag: str = "--split") -> SourceFiles:  # fmt: skip
    """The files of a source.

    Raises:
        UserError: there is no such source, it holds no data, or several splits of which none is named; with the `flag`
            that names one.
    """
    with urls_named():
        return _located(source, revision, split, encoding, flag)


def _located(
    source: str | Path, revision: str | None, split: str | None, encoding: str | None, flag: str
) -> SourceFiles:
    name = parse_source(source)
    if name.split is not None and split not in (None, name.split):
        raise UserError("two splits are named", f"{source} and split {short_value(split)}", "name one")
    split = name.split or split
    if is_hub(name.place):
        from pyrite.io.hub import resolve_dataset

        dataset = resolve_dataset(name.place, revision, split=split, flag=flag)
        files = [replace(file, encoding=encoding) for file in dataset.files]
        return SourceFiles(files, dataset.split, dataset.names, dataset, name.column)
    if name.place == STDIN:
        file = find_file(spooled(STDIN), "standard input", encoding=encoding, split=split)
        return SourceFiles([file], "stdin", column=name.column)
    path = Path(name.place)
    if path.is_fifo():
        file = find_file(spooled(name.place), name.place, encoding=encoding, split=split)
        return SourceFiles([file], "stdin", column=name.column)
    if path.is_dir():
        return replace(_folder(path, name.config, split, encoding, flag), column=name.column)
    if matching := [] if path.exists() else matches(name.place):
        paths: Sequence[Path] = (
            matching if split is None else _of_split(_by_split(matching, Path()), split, name.place, flag)
        )
        return SourceFiles([find_file(file, encoding=encoding) for file in paths], path.parent.name, column=name.column)
    if not path.exists() and _PATTERN.search(name.place):
        raise UserError("no data file has such a name", name.place, "check the pattern, and quote it in the shell")
    file = find_file(path, encoding=encoding, split=split)
    if split is not None and file.suffix != ".json":
        raise UserError("a file has no splits", f"{path}, split {short_value(split)}", "leave the split out")
    return SourceFiles([file], file.stem, column=name.column)


def _folder(path: Path, config: str | None, split: str | None, encoding: str | None, flag: str) -> SourceFiles:
    if any((path / name).is_file() for name in SAVED):
        files, names, chosen = saved_files(path, split, flag)
        return SourceFiles(files, chosen or path.name, names)
    from pyrite.io.hub import clone_files

    clone = clone_files(path, config, split, flag)
    if clone is not None:
        names_by_column, of_split, chosen = clone
        return SourceFiles([find_file(file, encoding=encoding) for file in of_split], chosen, names_by_column)
    base = path / config if config else path
    below = data_files(base) if base.is_dir() else []
    if not below:
        entries = sorted(entry.name for entry in path.iterdir())
        raise UserError(
            "this folder holds no data that Pyrite reads",
            f"{base} has {short_value(entries, 200)}" if base.is_dir() else f"{path} has no folder {config}",
            "name a folder with data files, or one that `save_to_disk` wrote (with dataset_dict.json or state.json)",
        )
    paths = _of_split(_by_split(below, base), split, str(path), flag)
    return SourceFiles([find_file(file, encoding=encoding) for file in paths], split or path.name)


def data_files(folder: Path) -> list[Path]:
    """The data files below a folder, sorted by their paths; nothing hidden, no README or licence, and nothing of folders
    that are saved data sets of their own."""
    entries = (entry for entry in folder.rglob("*") if entry.is_file() and data_suffix(entry.name))
    chosen = [
        entry
        for entry in entries
        if not NO_DATA.match(entry.name)
        and not any(part.startswith(".") for part in entry.relative_to(folder).parts)
        and not any((entry.parent / name).is_file() for name in SAVED)
    ]
    return sorted(chosen, key=lambda entry: entry.relative_to(folder).as_posix())


def _by_split(paths: Sequence[Path], base: Path) -> Splits:
    """The files by the split that their names say, under the hub's words; "" where any file says none."""
    by_split: dict[str, list[Path]] = {}
    for path in paths:
        name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
        match = _SPLIT.search(name.rpartition("/")[2]) or _SPLIT.search(name.rpartition("/")[0])
        by_split.setdefault(match.lastgroup or "" if match else "", []).append(path)
    return by_split


def _of_split(by_split: Splits, split: str | None, source: str, flag: str) -> Sequence[Path]:
    if split is None and ("" in by_split or len(by_split) == 1):
        return sorted(path for paths in by_split.values() for path in paths)
    return by_split[choose_split([name for name in SPLITS if name in by_split], split, source, flag)]


def expand(source: str, flag: str = "") -> list[str]:
    """The sources of one file each that a folder or a pattern is; any other source as it is. `flag`
    names a split, for messages."""
    name = parse_source(source)
    is_folder = not is_hub(name.place) and Path(name.place).is_dir()
    is_plain = is_folder and not any((Path(name.place) / inside).is_file() for inside in SAVED)
    if not is_plain and (is_folder or Path(name.place).exists() or not matches(name.place)):
        return [source]
    files = locate(source, flag=flag).files
    paths = [named_by_url(str(file.path), openable=True) for file in files]
    return [f"{path}#{name.column}" if name.column else path for path in paths]


def check_there(source: str | Path) -> None:
    """Refuse a source that is not there.

    Raises:
        UserError: no such file, folder or pattern; with what is near it.
    """
    name = parse_source(source)
    if is_hub(name.place) or name.place == STDIN or Path(name.place).exists() or matches(name.place):
        return
    if _PATTERN.search(name.place):
        raise UserError("no data file has such a name", name.place, "check the pattern, and quote it in the shell")
    raise missing_file(Path(name.place))


def file_hash(source: str | Path, *, revision: str | None = None) -> str:
    """What identifies this input? sha256 of a file's bytes; of a folder or pattern, of its files' names and hashes; a
    hub commit. The split and the column that its name says are part of it."""
    name = parse_source(source)
    if is_hub(name.place):
        from pyrite.io.hub import resolve_dataset

        identity = resolve_dataset(name.place, revision).commit
    else:
        identity = _content_hash(name)
    chosen = "".join(sign + part for sign, part in ((":", name.config), ("@", name.split), ("#", name.column)) if part)
    return identity if not chosen else hashlib.sha256(f"{identity}{chosen}".encode()).hexdigest()


def _content_hash(name: SourceName) -> str:
    path = Path(name.place)
    if name.place == STDIN or path.is_fifo():
        path = spooled(name.place)
    if path.is_dir():
        entries = (entry for entry in path.rglob("*") if entry.is_file())
        shown = (entry for entry in entries if not any(part.startswith(".") for part in entry.relative_to(path).parts))
        return _hash_of({file.relative_to(path).as_posix(): file for file in sorted(shown)})
    if not path.exists():
        check_there(name.place)
        return _hash_of({named_by_url(file.as_posix(), openable=True): file for file in matches(name.place)})
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _hash_of(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        with open(file, "rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@functools.cache
def spooled(place: str) -> Path:
    """Standard input, or a pipe, as a file with the suffix of what it holds: a source is read several times.

    Raises:
        UserError: nothing is piped in.
    """
    is_stdin = place == STDIN
    if is_stdin and (sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()):
        raise UserError("nothing is piped in", "- is standard input", "pipe rows in: `cat rows.jsonl | pyrite …`")
    folder = Path(tempfile.mkdtemp(prefix="pyrite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    raw = folder / "raw"
    with raw.open("wb") as out, contextlib.ExitStack() as stack:
        pipe = sys.stdin.buffer if is_stdin else stack.enter_context(open(place, "rb"))
        shutil.copyfileobj(pipe, out, 1 << 20)
    return raw.rename(folder / f"stdin{_suffix_of_content(raw)}")


def _suffix_of_content(path: Path) -> str:
    with path.open("rb") as source:
        head = source.read(8)
    packed = ".gz" if head.startswith(b"\x1f\x8b") else ".zst" if head.startswith(b"\x28\xb5\x2f\xfd") else ""
    with open_uncompressed(File(path, "", packed, "standard input")) as unpacked:
        start = unpacked.read(1 << 16)
    if start.startswith(b"PAR1"):
        return f".parquet{packed}"
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return f".arrow{packed}"
    lines = utf8_content(start).decode("utf-8", "replace").splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith(("{", "[")):
        return f".json{packed}"
    for suffix, delimiters in ((".tsv", "\t"), (".csv", ",;|")):
        if any(mark in first and _is_header(first.split(mark)) for mark in delimiters):
            return f"{suffix}{packed}"
    return f"{'.csv' if first.lower().startswith('sep=') or _is_header([first]) else '.txt'}{packed}"


def _is_header(cells: Sequence[str]) -> bool:
    return detect([cell.strip().strip('"') for cell in cells], {}) is not None
