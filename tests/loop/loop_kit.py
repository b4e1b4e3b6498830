"""A loop over made-up chats with a planted opening, on the tiny causal model: seconds, every part real."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "audit"))

from planted import human_rows, with_opening

from pyrite.audit.rows import Row

LOOP = """\
loop: tiny
says: made-up chats
synthetic: [synthetic.jsonl]
human: [one.jsonl, two.jsonl]
audit: {{only: [format], permutations: 499, embedder: {encoder}, model: {causal}}}
model: {causal}
probe: {{task: [perplexity=held.jsonl]}}
repair: {{steps: 3, scorecard_rows: 12, guard_rows: 6, guard_forget_rows: 6, precision: fp32, max_tokens: 96, learning_rate: 1.0e-3}}
gates: ["audit: severity < fail", "repair: perplexity.nats_per_token[against=before] <= 5"]
"""


def chats(rows: Sequence[Row], path: Path) -> Path:
    """Rows as chats, one a line."""
    lines = [
        {
            "messages": [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}],
            "id": row.id,
        }
        for row in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def make_loop(folder: Path, causal: Path, encoder: Path, text: str = LOOP) -> Path:
    """The loop file with its data beside it."""
    rows, _ = with_opening(human_rows(240, 1, source="made"), 0.5, 1)
    chats(rows, folder / "synthetic.jsonl")
    chats(human_rows(120, 2, source="one", topic=1), folder / "one.jsonl")
    chats(human_rows(120, 3, source="two", topic=2), folder / "two.jsonl")
    chats(human_rows(20, 4, source="held"), folder / "held.jsonl")
    path = folder / "tiny.yaml"
    path.write_text(text.format(causal=causal, encoder=encoder))
    return path


def line(path: Path, *options: str) -> list[str]:
    """The command that runs a loop file, with its data, store and run folder beside it."""
    folder = path.parent
    return [
        "run",
        str(path),
        "--data",
        str(folder),
        "--store",
        str(folder / "store"),
        "--out",
        str(folder / "runs"),
        *options,
    ]
