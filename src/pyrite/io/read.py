"""How does any supported source become records, with every row accounted for?

    reader = open_records("train.jsonl", ReadOptions(labels=("entailment", "neutral", "contradiction")))
    for record in reader: ...
    print(reader.layout, reader.counts)

Rows stream in bounded memory (a JSON array is the exception). `read = kept + dropped by reason` holds whenever a reader
is exhausted; a row that yields several records (a seed task with several instances) counts as one row.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyrite.errors import UserError
from pyrite.io.files import File, find_file, missing_file
from pyrite.io.formats import label_names, raw_rows, saved_files
from pyrite.io.layouts import LAYOUTS, Layout, columns_by_our_name, detect, layout_named, unknown_layout
from pyrite.io.raw_row import ID_COLUMNS, BadRow, Ids, LayoutContext, RawRow, UnnamedLabels, short_value
from pyrite.records import Pair, Record

if TYPE_CHECKING:
    from pyrite.io.hub import HubDataset

HUB = "hf://"
PEEK_ROWS = 32
"""So many rows are looked at before a file's columns are said to be of no layout."""

SKIP = "or leave such rows out, counted, with `--on-bad-row skip` (in a YAML file: on_bad_row: skip)"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says about a source; everything has a default that asks the file.

    Attributes:
        layout: a name out of `LAYOUTS`; None finds it by the columns.
        columns: our name of a column -> its name in the file, as {"premise": "s1", "label": "gold"}.
        labels: the labels that are allowed; any other makes a bad row. A pair's `-` (no agreement) always passes.
        label_map: a label in the file (an integer as text) -> the label it stands for.
        on_bad_row: "stop" raises at the first bad row, "skip" counts it and goes on.
        text_fields: the columns that a model reads, in their order. They make the layout `labelled`, but for a layout
            of pairs that has them (premise, hypothesis).
        split: of a saved data set or a data set on the hub.
        revision: commit, branch or tag of a data set on the hub; None is its main branch.
    """

    layout: str | None = None
    columns: Mapping[str, str] | None = None
    labels: Sequence[str] | None = None
    label_map: Mapping[str, str] | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    text_fields: Sequence[str] | None = None
    split: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a source: how many were read, kept, and dropped for which reason."""

    read: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.read == self.kept + sum(self.dropped.values()), self

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values, for run folders."""
        return {"read": self.read, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}


@dataclass(frozen=True, slots=True)
class _Source:
    """What a source turned out to be: its files in order, the names of its integer labels, the stem of its row ids."""

    files: Sequence[File]
    names: Mapping[str, Sequence[str]]
    stem: str
    hub: "HubDataset | None" = None


class Reader:
    """The records of one source. Every `iter()` starts again from the first row.

    `layout` is the layout's name once the first row was looked at; `counts` are known when the reader is
    exhausted; `path` is the source as it was given, `hub` the pinned data set where it came from the hub.
    """

    def __init__(self, source: str | Path, options: ReadOptions) -> None:
        self.path = source
        self.options = options
        self.layout: str | None = options.layout
        self._source = _locate(source, options)
        self._counts: Counts | None = None
        if options.layout is not None:
            layout_named(options.layout)

    @property
    def counts(self) -> Counts:
        """Rows read, kept and dropped, over the last whole pass."""
        assert self._counts is not None, "the counts are known when the reader is exhausted"
        return self._counts

    @property
    def hub(self) -> "HubDataset | None":
        """The data set on the hub, with its commit; None for files and folders."""
        return self._source.hub

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read, in order."""
        return tuple(file.path for file in self._source.files)

    def __iter__(self) -> Iterator[Record]:
        options = self.options
        read, n_kept, dropped = 0, 0, Counter[str]()
        rows = self._numbered_rows()
        first, layout = self._peek(rows)
        example = ""
        if layout is not None:
            self.layout = layout.name
            context = self._context(layout)
        for number, location, raw in _refilled(first, rows):
            read += 1
            try:
                if isinstance(raw, BadRow):
                    raise raw
                assert layout is not None
                records = layout.build(RawRow(raw, number, context))
            except UnnamedLabels as error:
                if n_kept == 0:
                    raise _unnamed_labels(location, error) from error
                bad = BadRow(
                    "unknown label", f"{error.column} is the integer {error.value}, the labels before are names"
                )
            except BadRow as error:
                bad = error
            else:
                n_kept += 1
                yield from records
                continue
            if options.on_bad_row == "stop":
                raise _bad_row(location, bad)
            example = example or f"{location}: {bad.detail}"
            dropped[bad.reason] += 1
        if read == 0:
            raise UserError("no rows", f"{self.path} is empty", "give a file with at least one row")
        if n_kept == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
            raise UserError("no row could be read", f"{self.path}: {reasons}; the first is {example}", "mend the file")
        self._counts = Counts(read, n_kept, dict(sorted(dropped.items())))

    def _numbered_rows(self) -> Iterator[tuple[int, str, Mapping[str, Any] | BadRow]]:
        """Raw rows of all files, with a number that is unique in the source and the place in words."""
        several = len(self._source.files) > 1
        count = 0
        for file in self._source.files:
            for number, raw in raw_rows(file):
                count += 1
                yield (count if several else number), file.location(number), raw

    def _peek(
        self, rows: Iterator[tuple[int, str, Mapping[str, Any] | BadRow]]
    ) -> tuple[list[tuple[int, str, Mapping[str, Any] | BadRow]], Layout | None]:
        """Look at rows until one shows the layout; returns the rows taken. No layout means that all of them are bad."""
        options = self.options
        renamed = options.columns or {}
        peeked: list[tuple[int, str, Mapping[str, Any] | BadRow]] = []
        unknown: UserError | None = None
        tried = 0
        for item in rows:
            peeked.append(item)
            _, location, raw = item
            if isinstance(raw, BadRow):
                if options.on_bad_row == "stop":
                    break
                continue
            try:
                return peeked, self._layout_for(location, list(raw), renamed)
            except UserError as error:
                unknown = unknown or error
            tried += 1
            if tried == PEEK_ROWS:
                break
        if unknown is not None:
            raise unknown
        return peeked, None

    def _layout_for(self, location: str, columns: Sequence[str], renamed: Mapping[str, str]) -> Layout:
        options = self.options
        absent = [theirs for theirs in renamed.values() if theirs not in columns]
        if absent:
            raise UserError(
                "a named column is not in the file",
                f"{location}: no {short_value(absent)} among {short_value(list(columns), 300)}",
                "name it as the file does: `--columns ours=theirs` (in a YAML file: columns: {ours: theirs})",
            )
        layout: Layout | None
        if options.layout is not None:
            layout = LAYOUTS[options.layout]
        else:
            layout = detect(columns, renamed)
            if options.text_fields is not None and not _is_pair(layout, options.text_fields):
                layout = LAYOUTS["labelled"]
            if layout is None:
                raise unknown_layout(location, columns)
        if layout.name == "labelled":
            if "fields" in columns_by_our_name(columns, renamed):
                return layout
            lacking = set(options.text_fields or ()) - columns_by_our_name(columns, renamed)
            if lacking:
                raise UserError(
                    "a text field is not in the file",
                    f"{location}: no {short_value(sorted(lacking))} among {short_value(list(columns), 300)}",
                    "name the text columns as the file does, or rename them with `--columns ours=theirs` (in a YAML file: columns)",
                )
        else:
            strange = [ours for ours in renamed if ours not in layout.uses() and ours not in ID_COLUMNS]
            if strange:
                raise UserError(
                    "the layout has no such column",
                    f"--columns {short_value(strange)} with layout {layout.name}",
                    f"columns are named ours=theirs; ours: {layout.describe()}",
                )
        return layout

    def _context(self, layout: Layout) -> LayoutContext:
        options, source = self.options, self._source
        renamed = dict(options.columns or {})
        ours = (layout.uses() | set(renamed)) - set(ID_COLUMNS) | {"meta"}
        if layout.name == "labelled":
            ours |= set(options.text_fields or ())
        names = dict(source.names)
        for file in source.files[:1]:
            names.update(label_names(file))
        return LayoutContext(
            columns=renamed,
            labels=options.labels,
            label_map=dict(options.label_map or {}),
            text_fields=options.text_fields,
            names=names,
            stringly=any(file.stringly for file in source.files),
            used=frozenset({renamed.get(name, name) for name in ours} | set(layout.ignored)),
            ids=Ids(source.stem),
        )


def open_records(source: str | Path, options: ReadOptions = ReadOptions()) -> Reader:
    """A reader of a file, of a folder saved with `save_to_disk`, or of `hf://org/name[:config][@split]`.

    Raises:
        UserError: there is no such source, or Pyrite cannot read its kind. Iterating raises it too: for an empty source,
            columns of no layout, integer labels without names, and, unless told to skip, the first bad row.
    """
    return Reader(source, options)


def read_all(source: str | Path, options: ReadOptions = ReadOptions()) -> tuple[list[Record], Counts]:
    """All records of a source at once, and the counts of its rows."""
    reader = open_records(source, options)
    records = list(reader)
    return records, reader.counts


def file_hash(path: str | Path, *, revision: str | None = None) -> str:
    """What identifies this input? sha256 of a file's bytes; of a folder, of its files' names and hashes; a hub commit."""
    if is_hub(path):
        from pyrite.io.hub import resolve_dataset

        return resolve_dataset(str(path), revision).commit
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            digest.update(
                f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()
    if not path.exists():
        raise missing_file(path)
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_hub(source: str | Path) -> bool:
    """Does this name a data set on the hub?"""
    return isinstance(source, str) and source.startswith(HUB)


def _locate(source: str | Path, options: ReadOptions) -> _Source:
    if is_hub(source):
        from pyrite.io.hub import resolve_dataset

        dataset = resolve_dataset(str(source), options.revision, split=options.split)
        return _Source(dataset.files, dataset.names, dataset.split, dataset)
    path = Path(source)
    if path.is_dir():
        files, names, split = saved_files(path, options.split)
        return _Source(files, names, split or path.name)
    file = find_file(path)
    return _Source([file], {}, file.stem)


def _is_pair(layout: Layout | None, fields: Sequence[str]) -> bool:
    """Are these the fields that a pair has anyway, in a layout of pairs?"""
    return layout is not None and layout.kind is Pair and set(fields) <= {"premise", "hypothesis"}


def _refilled(first: list[Any], following: Iterator[Any]) -> Iterator[Any]:
    while first:
        yield first.pop(0)
    yield from following


def _bad_row(location: str, bad: BadRow) -> UserError:
    fix = (
        "say what it stands for with `--label-map THEIRS=OURS` (in a YAML file: label_map) or mend it, "
        if bad.reason == "unknown label"
        else "mend the row, "
    )
    return UserError(f"bad row: {bad.reason}", f"{location}: {bad.detail}", fix + SKIP)


def _unnamed_labels(location: str, error: UnnamedLabels) -> UserError:
    return UserError(
        "the labels are integers, and nothing says what they mean",
        f"{location}: {error.column} is {error.value}",
        "say it: `--label-map 0=entailment --label-map 1=neutral …` (in a YAML file: label_map); "
        "the order differs between data sets, so it is never assumed",
    )
