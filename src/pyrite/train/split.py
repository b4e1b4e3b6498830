"""Step: rows of files, divided into pools that share no row; read = in pools + dropped by reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.data.keys import prompt_key, row_key
from pyrite.errors import UserError
from pyrite.io import ReadOptions, open_records, stored_options, write_jsonl
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text
from pyrite.steps import Context, StepType
from pyrite.tasks.groups import column_value, grouped, whole_groups
from pyrite.tasks.nli import NO_LABEL
from pyrite.tasks.rows import as_labelled, read_rows, write_rows

REST = "rest"
PROMPT = "prompt"
"""As the column of a group: what stands before a chat's first answer."""
IN_NO_POOL = "in no pool"
REPEATED = "same text as an earlier row"
COPIED = "same text as a row of another pool"
APART = "also a row of the other side"
NO_GOLD = "no gold label"
STRANGE = "a label that the model does not have"

Row = Chat | Text | Labelled


def split_step(context: Context) -> None:
    """Step: files → `POOL.jsonl` for each pool, `counts.json`, and with an input `apart` also `overlap.json`.

    Rows are shuffled by the seed, so that a pool's first rows are a fair draw. With a `group`, rows that have it in common
    are in one pool. With `apart` (a step of row files, named in
    config["apart"]), rows whose text is among those files are dropped, counted, and reported. With duplicates
    "keep", copies of a text go to the pool that takes the rest, and are dropped where another pool has the text.

    A row that holds several conversations counts as one for each of them.

    Chats or plain text; with config["labels"] (in lower case) labelled rows, written in the form of `tasks.rows`.
    """
    config = context.config
    dropped: Counter[str] = Counter()
    names = sorted(name for name in context.inputs if name != "apart")
    read_as: dict[str, str] = {}
    rows = read_files({name: context.inputs[name] for name in names}, config, dropped, read_as)
    read = len(rows) + dropped.total()
    if "apart" in context.inputs:
        rows = drop_overlap(context, rows, dropped)
    keys: set[bytes] = set()
    unique: list[Row] = []
    copies: list[Row] = []
    for row in rows:
        key = row_key(row)
        (copies if key in keys else unique).append(row)
        keys.add(key)
    if config["duplicates"] == "drop":
        dropped[REPEATED] += len(copies)
        copies = []
    rng = np.random.default_rng(config["seed"])
    shuffled = [unique[at] for at in rng.permutation(len(unique))]
    source = ", ".join(config["names"][name].rpartition("/")[2] for name in names)
    if config.get("group"):
        groups = grouped(
            range(len(shuffled)), lambda at: group_key(shuffled[at], config["group"]), f"{source}: {config['group']}"
        )
        groups = [groups[at] for at in rng.permutation(len(groups))]
        pools = divide_groups(shuffled, groups, config["pools"], source, dropped)
    else:
        pools = divide_rows(shuffled, config["pools"], source, dropped)
    place_copies(copies, pools, config["pools"], dropped)
    for name, pool_rows in pools.items():
        write_pool(pool_rows, context.out / f"{name}.jsonl")
    n_kept = sum(len(pool_rows) for pool_rows in pools.values())
    dropped = +dropped
    assert read == n_kept + dropped.total(), (read, n_kept, dropped)
    sizes = {name: len(pool_rows) for name, pool_rows in pools.items()}
    counts = {
        "read": read,
        "kept": n_kept,
        "dropped": dict(sorted(dropped.items())),
        "pools": sizes,
        "read_as": read_as,
    }
    (context.out / "counts.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))


def read_files(
    files: Mapping[str, Path], config: Mapping[str, Any], dropped: Counter[str], read_as: dict[str, str] | None = None
) -> list[Row]:
    """All rows of all files; bad ones are counted. Of several files, ids begin with the input's name. `read_as` is
    told how each file was read.

    Raises:
        UserError: rows of another kind than asked for, chats and plain text together, and all that reading a file can
            raise.
    """
    rows: list[Row] = []
    labels = config.get("labels")
    for name, file in files.items():
        hub, _, revision = config["names"][name].partition("#")
        is_hub = hub.startswith("hf://")
        named = config["columns"] or {}
        fields = [ours for ours in named if ours not in ("label", "id")]
        plain = labels is not None and "label" in named and fields and not {"premise", "hypothesis"} & set(fields)
        options = ReadOptions(
            columns=config["columns"],
            on_bad_row=config["on_bad_row"],
            revision=(revision or None) if is_hub else None,
            layout="labelled" if plain else None,
            **stored_options(config),
        )
        reader = open_records(hub if is_hub else file, options)
        for record in reader:
            row_id = record.id if len(files) == 1 else f"{name}/{record.id}"
            if labels is None:
                row: Row | None = language_row(record, row_id, hub, rows)
            else:
                row = labelled_row(record, row_id, hub, labels, dropped, stop=config["on_bad_row"] == "stop")
            if row is not None:
                rows.append(row)
        dropped.update(reader.counts.dropped)
        if read_as is not None and reader.read_as is not None:
            read_as[name] = reader.read_as.in_words()
    return rows


def language_row(record: Record, row_id: str, file: str, before: Sequence[Row]) -> Chat | Text:
    """A chat or plain text under its own id."""
    if not isinstance(record, Chat | Text):
        fix = "give plain text, or chats (messages, ShareGPT, Alpaca, prompt and completion, question and answer)"
        raise UserError("Rows to train on are texts or chats.", f"row {record.id} of {file} is labelled", fix)
    if before and type(record) is not type(before[0]):
        kinds = f"{file}: row {record.id} is a {record_kind(record)}, rows before are {record_kind(before[0])}s"
        raise UserError("The files hold chats and plain text.", kinds, "give files of one kind")
    if isinstance(record, Text):
        return Text(record.text, row_id, record.meta)
    return Chat(record.messages, row_id, record.meta)


def labelled_row(
    record: Record, row_id: str, file: str, labels: Sequence[str], dropped: Counter[str], *, stop: bool
) -> Labelled | None:
    """A labelled row under its own id, its label in lower case; None where it was dropped and counted.

    Plain text with a column `label` is a labelled row, too.
    """
    if isinstance(record, Text) and "label" in record.meta:
        meta = {name: value for name, value in record.meta.items() if name != "label"}
        label = None if record.meta["label"] is None else str(record.meta["label"])
        record = Labelled({"text": record.text}, label, record.id, meta)
    elif isinstance(record, Pair):
        record = as_labelled(record, ("premise", "hypothesis"))
    if not isinstance(record, Labelled):
        detail = f"row {record.id} of {file} is a {record_kind(record)} without a label"
        fix = "give premise, hypothesis and label, or text and label (--columns text=… --columns label=…)"
        raise UserError("Rows for a classifier are labelled.", detail, fix)
    if record.label is None or record.label == NO_LABEL:
        dropped[NO_GOLD] += 1
        return None
    if record.label.lower() not in labels:
        if stop:
            fix = f"the model's labels are {', '.join(labels)}; rename the file's, or --on-bad-row skip"
            raise UserError(
                "A row has a label that the model lacks.", f"row {record.id} of {file}: {record.label}", fix
            )
        dropped[STRANGE] += 1
        return None
    return Labelled(record.fields, record.label.lower(), row_id, record.meta)


def record_kind(record: Row) -> str:
    """The kind of a row, in a word."""
    return type(record).__name__.lower()


def drop_overlap(context: Context, rows: Sequence[Row], dropped: Counter[str]) -> list[Row]:
    """The rows whose text is in none of the files to stay apart from; writes `overlap.json`.

    By file: its `rows`, how many of them are `shared` with the rows read here (whole row), and how many share their
    prompt only (`shared_prompts`). Rows that share a prompt stay: another answer to the same question is another row.
    Of labelled rows also how many of the shared ones have another label there (`other_label`).
    """
    labelled = bool(context.config.get("labels"))
    by_key = {row_key(row): row for row in reversed(rows)}
    prompts = {key for row in rows if (key := prompt_key(row)) is not None}
    apart_keys: set[bytes] = set()
    overlap = {}
    for name in context.config["apart"]:
        file = context.inputs["apart"] / name
        apart_rows: Sequence[Row] = read_rows(file) if labelled else read_pool(file)
        keys = [row_key(row) for row in apart_rows]
        apart_keys.update(keys)
        shared = [key in by_key for key in keys]
        shares_prompt = [
            not is_shared and prompt_key(row) in prompts for row, is_shared in zip(apart_rows, shared, strict=True)
        ]
        pool = name.removesuffix(".jsonl")
        overlap[pool] = {"rows": len(apart_rows), "shared": sum(shared), "shared_prompts": sum(shares_prompt)}
        if labelled:
            pairs = [(row, by_key[key]) for row, key in zip(apart_rows, keys, strict=True) if key in by_key]
            overlap[pool]["other_label"] = sum(
                label_of(apart_row) != label_of(read_row) for apart_row, read_row in pairs
            )
    remaining = [row for row in rows if row_key(row) not in apart_keys]
    dropped[APART] += len(rows) - len(remaining)
    (context.out / "overlap.json").write_bytes(orjson.dumps(overlap, option=orjson.OPT_INDENT_2))
    return remaining


def label_of(row: Row) -> str | None:
    """A labelled row's label."""
    return row.label if isinstance(row, Labelled) else None


def group_key(record: Row, column: str) -> str | None:
    """The group of a chat or text: its prompt, or the value of a column; None where it has none."""
    if isinstance(record, Chat) and column == PROMPT:
        key = prompt_key(record)
        return None if key is None else key.hex()
    return column_value(record.meta, column)


def divide_groups(
    rows: Sequence[Row],
    groups: Sequence[Sequence[int]],
    sizes: Mapping[str, int | str],
    source: str,
    dropped: Counter[str],
) -> dict[str, list[Row]]:
    """Rows → pools by whole groups (places among the rows), so that a pool has its rows or as few more as its groups allow.

    Raises:
        UserError: too few rows, or groups too large to leave one for every pool.
    """
    pools: dict[str, list[Row]] = {}
    remaining = list(groups)
    for name, size in sorted(sizes.items(), key=lambda item: (item[1] == REST, item[0])):
        count = sum(map(len, remaining)) if size == REST else int(size)
        chosen = set(whole_groups([len(group) for group in remaining], count))
        places = sorted(place for at in chosen for place in remaining[at])
        remaining = [group for at, group in enumerate(remaining) if at not in chosen]
        pools[name] = [rows[place] for place in places]
        if len(places) < max(1, count):
            detail = f"{source}: {len(places)} of {max(1, count)} rows for pool {name}; {len(rows)} rows in {len(groups)} groups"
            raise UserError("There are too few rows.", detail, "give more rows, or ask for smaller pools")
    dropped[IN_NO_POOL] += sum(map(len, remaining))
    return pools


def divide_rows(
    rows: Sequence[Row], sizes: Mapping[str, int | str], source: str, dropped: Counter[str]
) -> dict[str, list[Row]]:
    """Rows in order → pools: those of a stated size by name, then the rest; no rest, and the others are dropped.

    Raises:
        UserError: too few rows; a pool of the rest needs one at least.
    """
    counts = {name: size for name, size in sorted(sizes.items()) if isinstance(size, int)}
    rest_pools = [name for name, size in sizes.items() if size == REST]
    assert len(counts) + len(rest_pools) == len(sizes), sizes
    assert len(rest_pools) <= 1, "one pool takes the rest"
    needed = sum(counts.values()) + len(rest_pools)
    if len(rows) < needed:
        needs = " + ".join(
            [*(f"{size} {name}" for name, size in counts.items()), *(f"1 {name}" for name in rest_pools)]
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()) if count)
        detail = f"{source}: {len(rows)} rows are left" + (f" (dropped: {reasons})" if reasons else "")
        fix = "give more rows, or ask for smaller pools"
        raise UserError("There are too few rows.", f"{detail}; {needed} are needed: {needs}", fix)
    pools: dict[str, list[Row]] = {}
    at = 0
    for name, size in counts.items():
        pools[name] = list(rows[at : at + size])
        at += size
    if rest_pools:
        pools[rest_pools[0]] = list(rows[at:])
    else:
        dropped[IN_NO_POOL] += len(rows) - at
    return pools


def place_copies(
    copies: Sequence[Row],
    pools: dict[str, list[Row]],
    sizes: Mapping[str, int | str],
    dropped: Counter[str],
) -> None:
    """Copies join the pool of the rest, unless another pool has their text."""
    if not copies:
        return
    rest_pool = next((name for name, size in sizes.items() if size == REST), None)
    used_keys = {row_key(row) for name, pool_rows in pools.items() if name != rest_pool for row in pool_rows}
    for row in copies:
        if row_key(row) in used_keys:
            dropped[COPIED] += 1
        elif rest_pool is None:
            dropped[IN_NO_POOL] += 1
        else:
            pools[rest_pool].append(row)


def write_pool(rows: Sequence[Row], file: Path) -> None:
    """Write the rows of one pool."""
    labelled = [row for row in rows if isinstance(row, Labelled)]
    if labelled:
        write_rows(labelled, file)
    else:
        write_jsonl(rows, file)


def read_pool(file: Path) -> list[Chat | Text]:
    """Chats or texts of one pool, as `split_step` wrote them; an empty pool has none."""
    rows: list[Chat | Text] = []
    for line in file.read_bytes().splitlines():
        row = orjson.loads(line)
        meta = row.get("meta") or {name: row[name] for name in row if name not in ("id", "messages", "text")}
        if "messages" in row:
            turns = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
            rows.append(Chat(turns, row["id"], meta))
        else:
            rows.append(Text(row["text"], row["id"], meta))
    return rows


SPLIT = StepType("data.split", 2, split_step)
