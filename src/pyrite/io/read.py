"""How does any supported source become records, with every row accounted for?

    reader = open_records("train.jsonl", ReadOptions(labels=("entailment", "neutral", "contradiction")))
    for record in reader: ...
    print(reader.layout, reader.counts)

Rows stream in bounded memory (a JSON array is the exception). `read = kept + dropped by reason` holds whenever a reader
is exhausted; a row that yields several records (a seed task with several instances) counts as one row.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pyrite.errors import UserError
from pyrite.io.chat_turns import ChatOptions, check_roles
from pyrite.io.delimited import has_no_names
from pyrite.io.encodings import check_encoding
from pyrite.io.files import File
from pyrite.io.formats import label_names, raw_rows
from pyrite.io.json_cells import columns_of_json, with_json
from pyrite.io.layouts import layout_named
from pyrite.io.no_header import columns_by_number
from pyrite.io.raw_row import ID_COLUMNS, BadRow, Ids, LayoutContext, RawRow, UnnamedLabels, short_value
from pyrite.io.read_errors import bad_row_error, no_rows_error, unnamed_labels_error, with_flags
from pyrite.io.resolve import (
    Asked,
    ReadAs,
    Resolved,
    read_as,
    refuse_names_by_number,
    resolve,
    settle_columns,
    unwrapped,
)
from pyrite.io.sources import SourceFiles, locate
from pyrite.io.spans import Span
from pyrite.records import Chat, Record

if TYPE_CHECKING:
    from pyrite.io.hub import HubDataset

PEEK_ROWS = 32
"""So many rows are looked at before a file's columns are said to be of no layout."""


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
        split: of a folder, a saved data set, a data set on the hub, or a JSON file that holds several lists of rows.
        revision: commit, branch or tag of a data set on the hub; None is its main branch.
        roles: who speaks in chats -> the role that it is (system, user, assistant, tool).
        tool_calls: "text" keeps calls of tools and their answers, "leave-out" reads chats without them.
        encoding: of text files; None is UTF-8, or what the first bytes show.
        flags: what the command's flags for these options begin with ("reference-" for `--reference-columns`), so that
            messages name them; None where there are none.
    """

    layout: str | None = None
    columns: Mapping[str, str] | None = None
    labels: Sequence[str] | None = None
    label_map: Mapping[str, str] | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    text_fields: Sequence[str] | None = None
    split: str | None = None
    revision: str | None = None
    roles: Mapping[str, str] | None = None
    tool_calls: Literal["text", "leave-out"] = "text"
    encoding: str | None = None
    flags: str | None = ""

    def chats(self) -> ChatOptions:
        """How chats are read."""
        return ChatOptions(check_roles(self.roles), self.tool_calls)

    @property
    def split_flag(self) -> str:
        """The flag that names a split; empty where there is none."""
        return "--split" if self.flags == "" else ""


def read_settings(options: Any, roles: Mapping[str, str] | None) -> dict[str, Any]:
    """What a verb's `encoding` and `tool_calls`, and its roles, add to the configuration of a step that reads: nothing
    where they are as usual, so that the step's key is the one that it had before there were such options."""
    settings = {
        "encoding": options.encoding,
        "roles": roles,
        "tool_calls": options.tool_calls if options.tool_calls != "text" else None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def stored_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same out of a step's configuration, as arguments of `ReadOptions`."""
    return {name: config[name] for name in ("encoding", "roles", "tool_calls") if name in config}


class SourceRow(NamedTuple):
    """A row of a source that was read: its file (by its place among the source's), its number in it, its records."""

    file: int
    number: int
    records: Sequence[Record]


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


_Raw = tuple[int, int, int, Mapping[str, Any] | BadRow]
"""A row before its layout is applied: its file, its number there, a number that is unique in the source, its columns."""


class Reader:
    """The records of one source. Every `iter()` starts again from the first row.

    `layout` is the layout's name and `read_as` what is made of the columns, once the first rows were looked at;
    `counts` are known when the reader is exhausted; `path` is the source as it was given, `hub` the pinned data set
    where it came from the hub. With a `span` (`pyrite.io.spans`) of a source of one file, the records that stand there: read
    as the file's first rows say, with their numbers in the whole file. An id is then unique within its span.
    """

    def __init__(self, source: str | Path, options: ReadOptions, span: Span | None = None) -> None:
        self.path = source
        self.options = options
        self.span = span
        self.layout: str | None = options.layout
        self.read_as: ReadAs | None = None
        flag = f"--{options.flags or ''}encoding"
        encoding = None if options.encoding is None else check_encoding(options.encoding, flag)
        self._chats = options.chats()
        self._source: SourceFiles = locate(
            source, revision=options.revision, split=options.split, encoding=encoding, flag=options.split_flag
        )
        if numbers := columns_by_number(self._named_columns, options.text_fields):
            files = [replace(file, numbers=numbers) for file in self._source.files]
            self._source = replace(self._source, files=files)
        self._counts: Counts | None = None
        if options.layout is not None:
            layout_named(options.layout, f"--{options.flags or ''}layout")

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
        return tuple(file.path for file in self.data_files)

    @property
    def data_files(self) -> Sequence[File]:
        """The same, with their kinds."""
        return self._source.files

    def __iter__(self) -> Iterator[Record]:
        for row in self.rows():
            yield from row.records

    def rows(self) -> Iterator[SourceRow]:
        """Every row that can be read, with its records."""
        options = self.options
        read, n_kept, dropped = 0, 0, Counter[str]()
        rows = self._raw_rows()
        first = self._first_rows(rows)
        if self.span is not None:
            rows.close()
            rows = self._raw_rows(self.span)
            last = first[-1] if first else None
            if last is not None and isinstance(last[3], BadRow) and options.on_bad_row == "stop":
                raise bad_row_error(self._source.files[last[0]], last[1], last[3], options.flags)
        json_columns = self._json_columns(first)
        if json_columns:
            rows = (_with_json(raw, json_columns) for raw in rows)
            first = [_with_json(raw, json_columns) for raw in first]
        resolved = self._resolve(first)
        example: tuple[int, int, BadRow] | None = None
        context = layout = within = None
        if resolved is not None:
            layout, within = resolved.layout, resolved.within
            self.layout = layout.name
            context = self._context(resolved)
            looked_at = _inner_rows(first, within)
            settle_columns(looked_at, layout, context)
            by_number = has_no_names(self._source.files[0])
            self.read_as = read_as(looked_at, resolved, context, by_number=by_number)
        for raw in _refilled(first, rows) if self.span is None else rows:
            file, line, number, values = raw
            read += 1
            try:
                if isinstance(values, BadRow):
                    raise values
                assert layout is not None
                assert context is not None
                if within is not None:
                    if not isinstance(inner := values.get(within), Mapping):
                        raise BadRow("wrong type", f"{within} is {short_value(inner)}, not an object with columns")
                    values = unwrapped(values, within)
                records = layout.build(RawRow(values, number, context))
            except UnnamedLabels as error:
                if n_kept == 0 and (self.span is None or self.span.before == 0):
                    raise unnamed_labels_error(self._location(file, line), error) from error
                bad = BadRow(
                    "unknown label", f"{error.column} is the integer {error.value}, the labels before are names"
                )
            except BadRow as error:
                bad = error
            else:
                n_kept += 1
                yield SourceRow(file, line, records)
                continue
            if options.on_bad_row == "stop":
                alone = n_kept > 0 or self._can_leave_out()
                raise bad_row_error(self._source.files[file], line, bad, options.flags, alone=alone)
            example = example or (file, line, bad)
            dropped[bad.reason] += 1
        self._counts = Counts(read, n_kept, dict(sorted(dropped.items())))
        if self.span is None:
            self._check_any_kept(self._counts, example)

    def _can_leave_out(self) -> bool:
        """Can any row be read, once bad ones are left out? Of a span, others may hold such rows."""
        if self.span is not None:
            return True
        try:
            return next(Reader(self.path, replace(self.options, on_bad_row="skip")).rows(), None) is not None
        except UserError:
            return False

    def _check_any_kept(self, counts: Counts, example: tuple[int, int, BadRow] | None) -> None:
        """Refuse a source without a row that could be read; `example`: a bad row with its file and line."""
        if counts.read == 0:
            raise no_rows_error(self.path, self._source.files, self.options.flags)
        if counts.kept == 0:
            assert example is not None
            at, line, bad = example
            first_bad = bad_row_error(self._source.files[at], line, bad, self.options.flags, alone=False)
            found = f"{self.path}: {reasons_of(counts)}; the first is {first_bad.found}"
            raise UserError("no row could be read", found, first_bad.fix)

    def _raw_rows(self, span: Span | None = None) -> Generator[_Raw]:
        """Raw rows of all files, or of a span of the one."""
        several = len(self._source.files) > 1
        count = 0
        for at, file in enumerate(self._source.files):
            try:
                for number, values in raw_rows(file, span):
                    count += 1
                    yield at, number, count if several else number, values
            except UserError as error:
                raise with_flags(error, self.options.flags) from error

    def _location(self, file: int, line: int) -> str:
        return self._source.files[file].location(line)

    def _first_rows(self, rows: Iterator[_Raw]) -> list[_Raw]:
        """The first rows, up to the number that are looked at, or to a bad one where that stops the reading."""
        options = self.options
        peeked: list[_Raw] = []
        good = 0
        for raw in rows:
            peeked.append(raw)
            if isinstance(raw[3], BadRow):
                if options.on_bad_row == "stop":
                    break
                continue
            good += 1
            if good == PEEK_ROWS:
                break
        return peeked

    @property
    def _named_columns(self) -> dict[str, str]:
        """The file's names of columns by ours, as the user gives them."""
        answer = {} if self._source.column is None else {"answer": self._source.column}
        return {**(self.options.columns or {}), **answer}

    def _json_columns(self, first: Sequence[_Raw]) -> frozenset[str]:
        """The columns whose lists and objects stand in these rows as text."""
        is_table = all(file.suffix not in (".json", ".jsonl") for file in self._source.files)
        return columns_of_json(_inner_rows(first, None), self._named_columns, is_table=is_table)

    def _resolve(self, peeked: Sequence[_Raw]) -> Resolved | None:
        """How these first rows are read; None where all of them are bad."""
        options = self.options
        asked = Asked(
            options.layout,
            self._named_columns,
            options.text_fields,
            options.flags,
            str(self.path),
            is_table=any(file.suffix in (".csv", ".tsv") for file in self._source.files),
        )
        whole = [
            (self._location(file, line), values) for file, line, _, values in peeked if not isinstance(values, BadRow)
        ]
        if whole and asked.is_table:
            refuse_names_by_number(*whole[0], asked)
        unknown: UserError | None = None
        for at, (location, values) in enumerate(whole):
            try:
                return resolve(location, [values, *(row for _, row in whole[at + 1 :])], asked)
            except UserError as error:
                unknown = unknown or error
        if unknown is not None:
            raise unknown
        return None

    def _context(self, resolved: Resolved) -> LayoutContext:
        options, layout, renamed = self.options, resolved.layout, dict(resolved.columns)
        ours = (layout.uses() | set(renamed)) - set(ID_COLUMNS) | {"meta"}
        if layout.name == "labelled":
            ours |= set(options.text_fields or ())
        names = dict(self._source.names)
        for file in self._source.files[:1]:
            names.update(label_names(file))
        return LayoutContext(
            columns=renamed,
            labels=options.labels,
            label_map=dict(options.label_map or {}),
            text_fields=options.text_fields,
            names=names,
            stringly=any(file.stringly for file in self._source.files),
            used=frozenset({renamed.get(name, name) for name in ours} | set(layout.ignored)),
            ids=Ids(self._source.stem),
            numbers=layout.kind is Chat,
            chats=self._chats,
        )


def check_any_kept(source: str, counts: Counts) -> None:
    """Refuse a source without a row that could be read, of whose rows only the counts are at hand."""
    if counts.read == 0:
        raise UserError("no rows", f"{source} is empty", "give a file with at least one row")
    if counts.kept == 0:
        raise UserError("no row could be read", f"{source}: {reasons_of(counts)}", "mend the file")


def reasons_of(counts: Counts) -> str:
    """Why rows were dropped, and how many for each reason."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.dropped.items()))


def open_records(source: str | Path, options: ReadOptions = ReadOptions(), span: Span | None = None) -> Reader:
    """A reader of a file, of a folder saved with `save_to_disk`, or of `hf://org/name[:config][@split]`; of one large file, of
    one `span` of it.

    Raises:
        UserError: there is no such source, or Pyrite cannot read its kind. Iterating raises it too: for an empty source,
            columns of no layout, integer labels without names, and, unless told to skip, the first bad row.
    """
    return Reader(source, options, span)


def how_read(reader: Reader) -> str:
    """How a source is read, in words, by its first rows."""
    next(iter(reader.rows()), None)
    return reader.read_as.in_words() if reader.read_as else ""


def read_all(source: str | Path, options: ReadOptions = ReadOptions()) -> tuple[list[Record], Counts]:
    """All records of a source at once, and the counts of its rows."""
    reader = open_records(source, options)
    records = list(reader)
    return records, reader.counts


def _refilled(first: list[Any], following: Iterator[Any]) -> Iterator[Any]:
    while first:
        yield first.pop(0)
    yield from following


def _with_json(raw: _Raw, columns: frozenset[str]) -> _Raw:
    file, line, number, values = raw
    return raw if isinstance(values, BadRow) else (file, line, number, with_json(values, columns))


def _inner_rows(peeked: Sequence[_Raw], within: str | None) -> list[Mapping[str, Any]]:
    rows = [values for *_, values in peeked if not isinstance(values, BadRow)]
    return rows if within is None else [unwrapped(row, within) for row in rows if isinstance(row.get(within), Mapping)]
