"""The audit command with tiny models, and rows written as files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyrite.audit.rows import Row
from pyrite.cli import run

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
