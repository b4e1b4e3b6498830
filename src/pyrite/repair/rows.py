"""Which rows are forgotten, replayed, watched by the guard, and kept for the scorecard? None is in two of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import file_hash, is_hub, name_in_place, read_settings, with_split
from pyrite.io.sources import parse_source
from pyrite.models import hardware
from pyrite.models.load import portable_name
from pyrite.models.template import for_step, parse_template_kwargs
from pyrite.repair.config import RepairConfig
from pyrite.steps import Source, Step, Store
from pyrite.train.split import APART, PROMPT, REST, SPLIT

if TYPE_CHECKING:
    from pyrite.repair.source_model import SourceModel

FORGET = ("forget", "guard_forget", "scorecard_forget")
REPLAY = ("replay", "guard_replay", "scorecard_replay")
"""Pools of each side: trained on, looked at by the guard, looked at by the scorecard."""


SELF = "self="
"""Before a replay file: its prompts are answered by the model before the harm."""


@dataclass(frozen=True)
class RowSteps:
    """The steps that hold the rows of both sides; every pool is a file POOL.jsonl of its side's step. A side that was not
    given is None. `answered`: the replay rows that are trained on and watched, where their answers are the model's own."""

    forget: Step | None
    replay: Step | None
    hashes: Mapping[str, str]
    """Of every file as it was given: its sha256, or a data set's commit."""
    answered: Step | None = None

    def of(self, pool: str) -> Step:
        """The step that holds a pool."""
        step = self.forget if pool in FORGET else self.replay
        if self.answered is not None and pool in ("replay", "guard_replay"):
            step = self.answered
        assert step is not None
        return step

    @property
    def sides(self) -> dict[str, Step]:
        """The sides that were given, by name."""
        return {name: step for name, step in (("forget", self.forget), ("replay", self.replay)) if step is not None}


def replay_files(config: RepairConfig) -> tuple[tuple[str, ...], bool]:
    """The replay files without `self=`, and whether their prompts are answered by the model before.

    Raises:
        UserError: some files with `self=` and some without.
    """
    is_self = [file.startswith(SELF) for file in config.replay]
    if any(is_self) and not all(is_self):
        fix = "write self= before every --replay, or before none"
        raise UserError("Replay rows are people's or the model's own.", ", ".join(config.replay), fix)
    return tuple(file.removeprefix(SELF) for file in config.replay), any(is_self)


def plan_rows(
    config: RepairConfig, labels: Sequence[str] = (), original: "SourceModel | None" = None, *, trains: bool = True
) -> RowSteps:
    """The steps that read and divide both sides; replay rows that are also forget rows are left out, and counted.

    `labels` are a classifier's, in lower case: the rows are then labelled ones. A method that does not train holds out
    rows for the scorecard only.

    Raises:
        UserError: a file that is not there, or the same file twice.
    """
    forget_files = tuple(with_split(file, config.split) for file in config.forget)
    config = config.model_copy(update={"forget": forget_files})
    files, self_replay = replay_files(config)
    files = tuple(with_split(file, config.split) for file in files)
    hashes = {file: file_hash(file) for file in (*config.forget, *files)}
    refuse_twice(config.forget, files, hashes)
    guard = {"guard_forget": config.guard_forget_rows, "guard_replay": config.guard_rows}

    def pools(names: Sequence[str]) -> dict[str, int | str]:
        trained, watched, held_out = names
        return {trained: REST, **({watched: guard[watched]} if trains else {}), held_out: config.scorecard_rows}

    forget = replay = None
    if config.forget:
        forget = split_rows("forget", {file: hashes[file] for file in config.forget}, pools(FORGET), config, labels)
    if files:
        by_prompt = (
            PROMPT if self_replay and trains else None
        )  # two answers of people to one prompt become one of the model's
        replay = split_rows(
            "replay",
            {file: hashes[file] for file in files},
            pools(REPLAY),
            config,
            labels,
            apart=forget,
            group=by_prompt,
        )
    answered = None
    if self_replay and trains:
        assert replay is not None
        assert original is not None
        answered = answered_step(replay, original.full_model, original.name, original.source, config, labels)
    return RowSteps(forget, replay, hashes, answered)


def answered_step(
    replay: Step, original: "Step | Source", name: str, source: Source, config: RepairConfig, labels: Sequence[str]
) -> Step:  # fmt: skip
    """The step in which the model before answers the prompts of the replay rows.

    Raises:
        UserError: a classifier, which writes nothing.
    """
    from pyrite.repair.self_replay import SELF_REPLAY

    if labels:
        fix = "give replay rows with their labels, without self="
        raise UserError("A classifier writes no answers of its own.", "--replay self=FILE", fix)
    chosen: dict[str, Any] = {
        "pools": ["replay", "guard_replay"],
        "written_by": portable_name(name, source),
        "temperature": config.self_temperature,
        "max_new_tokens": config.self_tokens,
        "compute": hardware.choose(config.precision).as_config(),
        "seed": config.seed,
        **for_step(parse_template_kwargs(config.chat_template_kwargs)),
    }
    if config.on_bad_row == "skip":
        chosen["on_bad_row"] = "skip"
    label = "the model before answers the replay prompts"
    return Step(SELF_REPLAY, chosen, {"rows": replay, "base": original}, label=label)


def split_rows(
    side: str, files: Mapping[str, str], pools: dict[str, int | str], config: RepairConfig, labels: Sequence[str], *,
    apart: Step | None = None, group: str | None = None,
) -> Step:  # fmt: skip
    """One side's step, from files with their hashes; rows of one `group` are in one pool."""
    inputs: dict[str, Step | Source] = {f"file{at}": Source(*pair) for at, pair in enumerate(files.items())}
    names = {
        f"file{at}": f"{file}#{content}" if is_hub(file) else name_in_place(file)
        for at, (file, content) in enumerate(files.items())
    }
    chosen: dict[str, Any] = {
        "names": names,
        "columns": mapping("--columns", config.columns),
        "on_bad_row": config.on_bad_row,
        **read_settings(config, mapping("--roles", config.roles)),
        "duplicates": "drop",
        "pools": pools,
        "seed": config.seed,
    }
    if labels:
        chosen["labels"] = list(labels)
    if group is not None:
        chosen["group"] = group
    if apart is not None:
        inputs["apart"] = apart
        chosen["apart"] = [f"{pool}.jsonl" for pool in FORGET if pool in apart.config["pools"]]
    return Step(SPLIT, chosen, inputs, label=f"read and divide the {side} rows")


def refuse_twice(forget: Sequence[str], replay: Sequence[str], hashes: Mapping[str, str]) -> None:
    """Refuse a file that is given twice, on one side or on both, under one name or two."""
    first_use: dict[str, str] = {}
    for side, files in (("--forget", forget), ("--replay", replay)):
        for file in files:
            content = file if is_hub(file) else hashes[file]
            if content in first_use:
                detail = f"{first_use[content]} and {side} {file}"
                raise UserError("The same rows are given twice.", detail, "name every file once, on one side")
            first_use[content] = f"{side} {file}"


def too_few(error: UserError) -> UserError:
    """The message of a side that has too few rows, with the flags that ask for them."""
    if "too few rows" not in error.what:
        return error
    fix = "give more rows, or hold out fewer: --scorecard-rows, --guard-rows, --guard-forget-rows"
    return UserError(error.what, error.found, fix)


def overlap_record(rows: RowSteps, store: Store, limit: float) -> dict[str, Any]:
    """How many forget rows are also replay rows (by their normalised text), and how many share only their prompt?

    `left_out` counts the replay rows that were left out for it. Rows that share a prompt only are kept and reported:
    the answer to keep stands against the one to forget. Labelled rows are the same where their fields are; `other_label`
    counts those of them whose labels differ.

    Raises:
        UserError: the share of forget rows that are also replay rows is above `limit`.
    """
    if rows.forget is None or rows.replay is None:
        none = {"rows": 0, "shared": 0, "share": 0.0, "shared_prompts": 0, "left_out": 0}
        return {**none, "limit": limit, "pools": {}}
    pools = store.read_json(rows.replay, "overlap.json")
    total = sum(pool["rows"] for pool in pools.values())
    shared = sum(pool["shared"] for pool in pools.values())
    prompts = sum(pool["shared_prompts"] for pool in pools.values())
    if shared > limit * total:
        by_pool = ", ".join(
            f"{pool_counts['shared']} in {pool}" for pool, pool_counts in pools.items() if pool_counts["shared"]
        )
        detail = f"{shared} of {total} forget rows ({shared / total:.1%}) are also replay rows ({by_pool})"
        fix = f"take them out of one side, or raise --overlap-limit ({limit:g}): they then leave the replay rows"
        raise UserError("The rows to forget are also rows to keep.", detail, fix)
    left_out = side_counts(rows.replay, store)["dropped"].get(APART, 0)
    summary = {
        "rows": total,
        "shared": shared,
        "share": shared / total,
        "shared_prompts": prompts,
        "left_out": left_out,
    }
    if any("other_label" in pool for pool in pools.values()):
        summary["other_label"] = sum(pool["other_label"] for pool in pools.values())
    return {**summary, "limit": limit, "pools": pools}


def side_counts(step: Step, store: Store) -> dict[str, Any]:
    """Rows of a side: read, kept, dropped by reason, and by pool."""
    counts_by_side: dict[str, Any] = store.read_json(step, "counts.json")
    return counts_by_side


def is_chat(rows: RowSteps, store: Store) -> bool:
    """Are the rows chats? Those to forget, or, without such, those to replay; without any: no."""
    for side, step in rows.sides.items():
        with (store.path(step.key) / f"{side}.jsonl").open("rb") as handle:
            return "messages" in orjson.loads(handle.readline())
    return False


def file_records(config: RepairConfig, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every row file by side, name, hash (of a data set on the hub: its commit) and size in bytes."""
    files_record = []
    for side, files in (("forget", config.forget), ("replay", replay_files(config)[0])):
        for file in files:
            size = None if is_hub(file) else sum(path.stat().st_size for path in below(Path(parse_source(file).place)))
            name = file if is_hub(file) else name_in_place(file)
            files_record.append({"side": side, "name": name, "hash": hashes[file], "bytes": size})
    return files_record


def below(path: Path) -> list[Path]:
    """The files of a file or folder."""
    return [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
