"""The audit command with tiny models, and rows written as files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from planted import human_rows, with_near_duplicates

from pyrite.audit.config import AuditConfig
from pyrite.audit.plan import Planned, plan
from pyrite.audit.rows import Row
from pyrite.audit.runner import StepRunner
from pyrite.audit.spans import FILE
from pyrite.cli import run
from pyrite.steps import Store, for_several_runs

LIGHT = "format,duplicates,diversity"
"""Families that need no model; semantic duplicates do, see `caller`."""


def chat_line(row: Row) -> dict[str, Any]:
    """A row as a chat."""
    turns = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}]
    return {"messages": turns, "id": row.id}


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as JSON lines: pairs where they have labels, else chats."""
    lines = [
        {**row.fields, "label": row.label, "id": row.id} if row.fields else chat_line(row) for row in rows
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def caller(
    folder: Path, encoder: Path, causal: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs the command with these models, its store in the folder; returns (exit code, what --json told, stderr)."""

    def call(*words: object, only: str = LIGHT, store: str = "store") -> tuple[int, dict[str, Any], str]:
        line = ["audit", *map(str, words), "--only", only, "--store", str(folder / store), "--json"]
        line += ["--embedder", str(encoder), "--model", str(causal)]
        line += [] if "--permutations" in line else ["--permutations", "499"]
        line += [] if "--workers" in line else ["--workers", "1"]
        code = run(line)
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


STREAMED = ["format", "duplicates", "diversity", "tokens"]
"""Flaws that read every row; none of their reading needs a model library."""


def repeated_rows(count: int) -> list[Row]:
    """Rows of which a tenth are nearly one another, which stand in other spans."""
    return with_near_duplicates(human_rows(count, 1, source="made"), 0.1, 1)[0]


def read_and_merge(config: AuditConfig, flaws: Sequence[str] = STREAMED) -> tuple[Planned, Store]:
    """The part of an audit that reads every row."""
    store = Store(config.store or Path())
    runner, planned = StepRunner(config, store), plan(config, flaws)
    with for_several_runs(config.engine):
        runner.read(planned.reading_steps())
        runner.run([step for step in planned.files.values() if step.kind is FILE])
        runner.run([planned.totals, planned.sample])
    return planned, store


def stored_bytes(store: Store) -> dict[str, bytes]:
    """Everything in a store, by key and name, but for seconds, and for tables in which pyarrow says when it wrote them."""
    held = {}
    for file in store.root.glob("done/*/*/**/*"):
        if file.is_file() and file.name != "step.json":
            content = file.read_bytes()
            if file.name == "counts.json" and file.parent.parent.parent.name == "done":
                content = orjson.dumps({**orjson.loads(content), "seconds": 0})
            held[str(file.relative_to(store.root))] = content
    return held
