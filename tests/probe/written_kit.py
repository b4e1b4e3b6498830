"""What tests of `pyrite probe` with written answers share: small files in the official layouts, and a judge to play."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models.remote_stub import Reply, Stub, good

from pyrite.cli import run

QUESTIONS = [  # (id, category, turns, reference)
    (81, "writing", ["Write of a film.", "Write it again."], None),
    (121, "math", ["What is 6 times 7?", "And 6 times 8?"], ["42", "48"]),
    (82, "roleplay", ["You are a critic.", "Now a guest."], None),
]
PROMPTS = [  # (key, instructions, arguments): short and without the strange word, so followed, not followed
    (7, ["length_constraints:number_words"], [{"relation": "less than", "num_words": 100}]),
    (8, ["keywords:existence"], [{"keywords": ["xylophone"]}]),
    (
        9,
        ["keywords:existence", "length_constraints:number_words"],
        [{"keywords": ["xylophone"]}, {"relation": "less than", "num_words": 100}],
    ),
]


def jsonl(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions_in(folder: Path) -> Path:
    rows = [{"question_id": at, "category": kind, "turns": turns} for at, kind, turns, _ in QUESTIONS]
    for row, (*_, reference) in zip(rows, QUESTIONS, strict=True):
        row |= {"reference": reference} if reference else {}
    return jsonl(rows, folder / "question.jsonl")


def instructions_in(folder: Path) -> Path:
    rows = [
        {"key": key, "prompt": f"the film {key} was", "instruction_id_list": names, "kwargs": given}
        for key, names, given in PROMPTS
    ]
    return jsonl(rows, folder / "input_data.jsonl")


def examples_in(folder: Path) -> Path:
    """Example 1 needs a judge; example 2 is checked against a target that the model never writes."""
    rows = [
        {
            "example_id": number, "category": "content", "source": source, "level": level, "target": "xylophone",
            "instruction": f"request {number} with {level}",
        }
        for number, source in ((1, "quora"), (2, "E2E"))
        for level in range(6)
    ]  # fmt: skip
    made = folder / "followbench"
    made.mkdir()
    (made / "content_constraints.json").write_text(json.dumps(rows))
    return made


class Says(dict[str, list[Reply]]):
    """The stub's script as a function of what is asked and how often it was asked before."""

    def __init__(self, reply: Callable[[str, int], str]) -> None:
        super().__init__()
        self.reply, self.times = reply, Counter[str]()

    def __getitem__(self, content: str) -> list[Reply]:
        self.times[content] += 1
        return [Reply(body=good(self.reply(content, self.times[content] - 1)))]


def judge(stub: Stub, reply: Callable[[str, int], str], *more: str) -> list[str]:
    """The flags of a judge that is asked one thing at a time, so that the order of its votes is known."""
    stub.script = Says(reply)  # type: ignore[assignment]
    return ["--judge-url", stub.url, "--judge-model", "j-1", "--concurrency", "1", *more]


def line(model: Path | str, task: str, store: Path, *more: str) -> list[str]:
    fixed = ["--max-new-tokens", "8", "--precision", "fp32", "--json", "--quiet", "--store", str(store)]
    return ["probe", str(model), "--task", task, *fixed, *more]


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    shown: dict[str, Any] = json.loads(out)
    return shown


def overall(card: dict[str, Any]) -> dict[str, tuple[float | None, int, int]]:
    """Each metric over all items: value, answered, missing."""
    rows = [{"metric": card["metric"], "by": "overall", **card["overall"]}, *card["slices"]]
    return {row["metric"]: (row["value"], row["n"], row["n_missing"]) for row in rows if row["by"] == "overall"}


def ratings(content: str, time: int) -> str:
    """81: 4 and 6 for turn 1, 8 twice for turn 2; 82: 2 always; 121: 5, and for turn 2 nothing that can be read."""
    second = "ANSWER 2" in content.partition("Every text stands")[2]
    if "a film" in content:
        return "Well.\nRATING: 8" if second else f"Well.\nRATING: {(4, 6)[time]}"
    if "a critic" in content:
        return "RATING: 2"
    return "I would rather not say." if second else "RATING: 5"
