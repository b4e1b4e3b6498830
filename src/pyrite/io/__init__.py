"""Records in, records out: files, saved data sets and the hub; nothing lost silently, nothing evaluated."""

from pyrite.io.chat_turns import turn_text
from pyrite.io.copies import copy_or_path, local_place, path_in
from pyrite.io.copy_rows import Part, check_target, copy_rows
from pyrite.io.files import SUFFIXES
from pyrite.io.hub import HubDataset, resolve_dataset
from pyrite.io.layouts import LAYOUTS, Layout
from pyrite.io.manifest import describe_reader, describe_source
from pyrite.io.raw_row import NO_LABEL, BadRow
from pyrite.io.read import (
    Counts,
    Reader,
    ReadOptions,
    SourceRow,
    check_any_kept,
    how_read,
    open_records,
    read_all,
    read_settings,
    stored_options,
)
from pyrite.io.resolve import ReadAs
from pyrite.io.sources import check_there, expand, file_hash, is_hub, with_split
from pyrite.io.spans import Span, most_spans, span_from_json, spans_of
from pyrite.io.urls import name_in_place
from pyrite.io.write import as_row, atomic_write, complete_lines, write_jsonl, write_parquet

__all__ = [
    "LAYOUTS",
    "NO_LABEL",
    "SUFFIXES",
    "BadRow",
    "Counts",
    "HubDataset",
    "Layout",
    "Part",
    "ReadAs",
    "ReadOptions",
    "Reader",
    "SourceRow",
    "Span",
    "as_row",
    "atomic_write",
    "check_any_kept",
    "check_target",
    "check_there",
    "complete_lines",
    "copy_or_path",
    "copy_rows",
    "describe_reader",
    "describe_source",
    "expand",
    "file_hash",
    "how_read",
    "is_hub",
    "local_place",
    "most_spans",
    "name_in_place",
    "open_records",
    "path_in",
    "read_all",
    "read_settings",
    "resolve_dataset",
    "span_from_json",
    "spans_of",
    "stored_options",
    "turn_text",
    "with_split",
    "write_jsonl",
    "write_parquet",
]
