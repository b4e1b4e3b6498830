"""Public data as it is published: every file's layout is found and its rows are all accounted for."""

import os
from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, open_records, read_all, write_jsonl

pytestmark = pytest.mark.real

NLI = ("entailment", "neutral", "contradiction")
HANS = ("entailment", "non-entailment")

FILES = {
    "nli/mnli_dev_matched_part.jsonl": ("nli", 7815, NLI),
    "nli/snli_dev.jsonl": ("nli", 9842, NLI),
    "hans/heuristics_sample.jsonl": ("hans", 6000, HANS),
    "instruct/alpaca_en_demo.json": ("alpaca", 999, None),
    "instruct/alpaca_eval_gpt4_1106_preview.json": ("alpaca", 805, None),
    "instruct/alpaca_eval_text_davinci_003.json": ("alpaca", 805, None),
    "instruct/gpteacher_roleplay.json": ("alpaca", 1923, None),
    "instruct/human_user_oriented.jsonl": ("self-instruct", 252, None),
    "instruct/human_seed_tasks.jsonl": ("self-instruct", 175, None),
    "text/c4_demo.jsonl": ("text", 300, None),
    "text/wikitext2_valid.txt": ("text", 2461, None),
    "gsm8k/train_part.jsonl": ("question-answer", 3000, None),
    "gsm8k/test_part.jsonl": ("question-answer", 600, None),
}
EMPTY = {"instruct/alpaca_eval_text_davinci_003.json": 2}
"""Rows whose answer is the empty string, by hand from the files."""


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("PYRITE_DATA")
    if not folder:
        pytest.skip("PYRITE_DATA names no folder with the public data")
    return Path(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_published_file(name: str, data: Path, tmp_path: Path) -> None:
    if not (data / name).exists():
        pytest.skip(f"{name} is not in PYRITE_DATA")
    layout, rows, labels = FILES[name]
    empty = EMPTY.get(name, 0)
    reader = open_records(data / name, ReadOptions(labels=labels, on_bad_row="skip"))
    records = list(reader)
    assert reader.layout == layout
    assert reader.counts == Counts(rows, rows - empty, {"empty text": empty} if empty else {})
    assert len({record.id for record in records}) == len(records)
    write_jsonl(records, tmp_path / "copy.jsonl.zst")
    assert read_all(tmp_path / "copy.jsonl.zst")[0] == records


def test_empty_answers_are_named(data: Path) -> None:
    path = data / "instruct/alpaca_eval_text_davinci_003.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not in PYRITE_DATA")
    with pytest.raises(UserError, match=r"row 248: output is ''"):
        read_all(path)
