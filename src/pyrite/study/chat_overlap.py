"""How many rows of a probe or a guard are also trained on? Row by row over all data of a study, for its run folder."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.data.keys import prompt_key, row_key
from pyrite.errors import UserError
from pyrite.probe.generative import GenerativeProbe
from pyrite.probe.perplexity import Perplexity
from pyrite.probe.probe_task import ProbeTask
from pyrite.records import Chat, Text
from pyrite.steps import Store
from pyrite.study.cells import Plan
from pyrite.study.chat_uses import roles_of
from pyrite.study.labelled_overlap import percent
from pyrite.study.pool_perplexity import PoolPerplexity
from pyrite.tasks.generative_tasks import GENERATIVE
from pyrite.train.split import read_pool

Row = Chat | Text


@dataclass(frozen=True)
class HeldOutRows:
    """Rows that nothing should be trained on: of each its key and that of its prompt. A row that has no answer, as the
    prompts of a benchmark, is its prompt: there `rows` holds None."""

    name: str
    role: str
    rows: tuple[bytes | None, ...]
    prompts: tuple[bytes | None, ...]

    @classmethod
    def of(cls, name: str, role: str, rows: Sequence[Row]) -> "HeldOutRows":
        """The keys of these rows."""
        return cls(name, role, tuple(map(whole_key, rows)), tuple(map(prompt_key, rows)))

    def against(self, name: str, count: int, rows: Collection[bytes], prompts: Collection[bytes]) -> dict[str, Any]:
        """One line of the table: this set and one with these keys."""
        shared = [
            key in rows if key is not None else prompt in prompts
            for key, prompt in zip(self.rows, self.prompts, strict=True)
        ]
        shared_prompts = [not same and prompt in prompts for same, prompt in zip(shared, self.prompts, strict=True)]
        line = {"a": f"{self.role} {self.name}", "b": name, "rows_a": len(shared), "rows_b": count}
        return {**line, "shared": sum(shared), "shared_prompts": sum(shared_prompts)}


def whole_key(row: Row) -> bytes | None:
    """The key of a row; None of a chat without an answer."""
    if isinstance(row, Chat) and all(turn.role != "assistant" for turn in row.messages):
        return None
    return row_key(row)


def overlaps(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Each probe with each pool that is trained on or that a guard reads, and each guard's pool with each trained one.

    `rows_a` and `rows_b` count rows; `shared` those of a that b has, too (whole rows, up to case and blanks; the system's
    turn does not count); `shared_prompts` those of which b has the prompt with another answer. Of a probe all rows of
    its file count, drawn or not. Chats are compared with chats and plain text with plain text; a harness task, whose
    items come with it, is not compared.

    Raises:
        UserError: every row of a probe or a guard is trained on, or every row of a probe is read by a guard.
    """
    roles = roles_of(plan.spec, plan.damage)
    held = [
        HeldOutRows.of(name, "probe", rows)
        for name, probe in plan.probe_tasks.items()
        if (rows := rows_asked(probe, store))
    ]
    pools = {name: store.path(step.key) / file for name, (step, file) in plan.pools.items()}
    held += [HeldOutRows.of(name, "guard", read_pool(file)) for name, file in pools.items() if roles[name] == "guard"]
    held_keys = {key for held_set in held for key in (*held_set.rows, *held_set.prompts) if key is not None}
    table = []
    for name, file in pools.items():
        if roles[name] == "probe":
            continue
        count, row_keys, prompts = keys_of(file, held_keys)
        for held_set in held:
            if held_set.role == "probe" or roles[name] == "trained":
                table.append(held_set.against(f"{roles[name]} {name}", count, row_keys, prompts))
    for line in table:
        if line["rows_a"] and line["shared"] == line["rows_a"]:
            detail = f"all {line['rows_a']} rows of {line['a']} are in {line['b']}"
            raise UserError("The study's rows are not kept apart.", detail, "give other rows")
    return table


def keys_of(file: Path, held_keys: Collection[bytes]) -> tuple[int, set[bytes], set[bytes]]:
    """How many rows has a pool, and which of these keys do its rows and prompts have?"""
    rows: set[bytes] = set()
    prompts: set[bytes] = set()
    count = 0
    for row in read_pool(file):
        count += 1
        key, prompt = row_key(row), prompt_key(row)
        if key in held_keys:
            rows.add(key)
        if prompt is not None and prompt in held_keys:
            prompts.add(prompt)
    return count, rows, prompts


def rows_asked(probe: ProbeTask, store: Store) -> list[Row]:
    """The rows that a probe may ask; none of a harness task."""
    if isinstance(probe, PoolPerplexity):
        assert probe.rows is not None
        return list(read_pool(store.path(probe.rows.key) / probe.source))
    if isinstance(probe, Perplexity):
        return list(rows_of_file(probe))
    if isinstance(probe, GenerativeProbe):
        return list(GENERATIVE[probe.name].read(Path(probe.source), probe.config.on_bad_row)[0])
    return []


def rows_of_file(probe: Perplexity) -> Iterator[Row]:
    """A perplexity probe's file, read as the probe reads it."""
    from pyrite.config_base import mapping
    from pyrite.io import ReadOptions, file_hash, is_hub, open_records

    revision = file_hash(probe.source) if is_hub(probe.source) else None
    options = ReadOptions(
        columns=mapping("--columns", probe.config.columns), on_bad_row=probe.config.on_bad_row, revision=revision
    )
    return (row for row in open_records(probe.source, options) if isinstance(row, Chat | Text))


def remarks(table: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a reader must know of it: whole rows that are shared, pool by pool; of prompts, the pool that has the most."""
    for line in table:
        if line["shared"]:
            yield remark(line, "shared", "rows")
    most: dict[tuple[str, str], dict[str, Any]] = {}
    for line in table:
        about = line["a"], line["b"].partition(" ")[0]
        if line["shared_prompts"] > most.get(about, {"shared_prompts": 0})["shared_prompts"]:
            most[about] = line
    for line in most.values():
        yield remark(line, "shared_prompts", "prompts, with another answer,")


def remark(line: Mapping[str, Any], key: str, what: str) -> str:
    """One line of the table as a sentence."""
    (role, _, name), (role_of_pool, _, pool) = line["a"].partition(" "), line["b"].partition(" ")
    says = {"trained": "are trained on", "guard": "are read by a guard"}[role_of_pool]
    return (
        f"{role} {name}: {line[key]} of {line['rows_a']} {what} {says} ({pool}; {percent(line[key] / line['rows_a'])})"
    )
