"""What text counts: copies are alike in prompt and answer, shared text does not count, thought and answer apart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.audit_kit import caller
from tests.audit.planted import human_rows, sentence

from pyrite.audit import minhash
from pyrite.audit.advice import data_kind, is_code
from pyrite.audit.embedded_texts import Cutter, notes_on_cut, own_sides, without_shared_lead
from pyrite.audit.flaw import Extras
from pyrite.audit.flaws.duplicates import statistics as duplicates
from pyrite.audit.flaws.duplicates import stream as streams
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import CUT, is_unread
from pyrite.audit.rows import Row, audit_row, holds_thought, part_of, row_from_json
from pyrite.records import Chat, Labelled, Message

NONE = Extras()
SYSTEM = "You are a careful assistant. " + " ".join(
    f"Rule {at}: never say word{at} to anyone who asks." for at in range(40)
)
PASSAGE = " ".join(sentence(np.random.default_rng(at)) for at in range(30))
QUESTIONS = (
    "Which animal lives in the old mill?", "Is the river deep enough for large boats?", "Did they sell all their apples?",
    "Would a doctor agree with her plan?", "Has winter come before the harvest ended?",
)  # fmt: skip


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    return caller(tmp_path, tiny_encoder, tiny_causal, capfd)


def chat(number: int, asked: str, answered: str, system: str = "") -> Row:
    turns = [Message("system", system)] if system else []
    return audit_row(Chat((*turns, Message("user", asked), Message("assistant", answered)), f"r{number}"), number)


def copies(rows: Sequence[Row], folder: Path) -> dict[str, int]:
    """Copies of the whole, beside the pairs of the sample."""
    folder.mkdir(parents=True)
    stream = streams.Stream(folder, NONE)
    stream.add(rows)
    stream.close()
    (folder / "out").mkdir()
    totals = streams.merge([folder], folder / "out", NONE)
    pairs = duplicates.find_pairs(rows, None)
    assert (len(pairs.near[0]) > 0) == (totals["near"]["rows"] > 0)
    assert len(rows) - len(np.unique(pairs.text_of)) == totals["exact"]["copies"]
    return {name: totals[name]["copies"] for name in ("exact", "near")}


def test_a_system_text_makes_no_copies(tmp_path: Path) -> None:
    texts = human_rows(10, 1)
    rows = [chat(at, row.prompt, row.answer[:60], SYSTEM) for at, row in enumerate(texts)]
    assert copies(rows, tmp_path / "own") == {"exact": 0, "near": 0}
    again = chat(10, texts[0].prompt, texts[0].answer[:60], "Another system text altogether.")
    assert copies([*rows, again], tmp_path / "again") == {"exact": 1, "near": 0}
    assert rows[0].whole_prompt == f"{SYSTEM}\n{texts[0].prompt}"
    assert row_from_json(rows[0].as_json()) == rows[0]


@pytest.mark.parametrize("form", ["{passage}\n\n{question}", "{question}\n{passage}", "{passage} {question} Answer:"])
@pytest.mark.parametrize(
    "answer", ["Yes.", "No one in the passage says so, and nothing in it lets us tell either way."]
)
def test_questions_on_one_passage_are_no_copies(form: str, answer: str, tmp_path: Path) -> None:
    rows = [chat(at, form.format(passage=PASSAGE, question=asked), answer) for at, asked in enumerate(QUESTIONS)]
    assert copies(rows, tmp_path / "own") == {"exact": 0, "near": 0}
    changed = PASSAGE.replace("ba", "bo", 2)
    near = chat(5, form.format(passage=changed, question=QUESTIONS[0]), answer)
    assert copies([*rows, near], tmp_path / "near") == {"exact": 0, "near": 1}


def test_fields_of_labelled_rows_are_sides(tmp_path: Path) -> None:
    def rows(names: tuple[str, str]) -> list[Row]:
        values = [(PASSAGE, asked) if names[0] == "passage" else (asked, PASSAGE) for asked in QUESTIONS]
        records = [Labelled(dict(zip(names, pair, strict=True)), "yes", f"r{at}") for at, pair in enumerate(values)]
        return [audit_row(record, at) for at, record in enumerate(records)]

    for names in (("passage", "question"), ("question", "passage")):
        own = rows(names)
        assert copies(own, tmp_path / names[0]) == {"exact": 0, "near": 0}
        again = audit_row(Labelled({**own[0].fields}, "no", "again"), 5)
        assert copies([*own, again], tmp_path / f"{names[0]}-again") == {"exact": 1, "near": 0}


def test_both_sides_of_a_copy_are_alike(tmp_path: Path) -> None:
    long = PASSAGE[:400]
    same_prompt = [
        chat(at, long, " ".join(sentence(np.random.default_rng([at, 7])) for _ in range(3))) for at in range(5)
    ]
    assert copies(same_prompt, tmp_path / "prompt") == {"exact": 0, "near": 0}
    same_answer = [chat(at, sentence(np.random.default_rng([at, 8]), 9, 16), long) for at in range(5)]
    assert copies(same_answer, tmp_path / "answer") == {"exact": 0, "near": 0}
    moved = [chat(0, "one two three", "four five six seven"), chat(1, "one two", "three four five six seven")]
    assert copies(moved, tmp_path / "moved")["exact"] == 0


def test_the_sketch_of_prompts_says_what_their_words_say() -> None:
    rng = np.random.default_rng(3)
    pairs = []
    for share in np.repeat([0.0, 0.1, 0.2, 0.9], 50):
        shared = [sentence(rng, 8, 16) for _ in range(rng.integers(0, 25))]
        own = [f"w{at}" for at in rng.integers(10**9, size=20)]
        other = [word if rng.random() >= share else f"x{rng.integers(10**9)}" for word in own]
        pairs.append((" ".join([*shared, " ".join(own) + "."]), " ".join([*shared, " ".join(other) + "."])))
    made = minhash.sketches([""] * 400, [text for pair in pairs for text in pair]).prompts
    told = minhash.prompts_alike(made.padded(np.arange(0, 400, 2)), made.padded(np.arange(1, 400, 2)))
    true = np.array([minhash.same_prompts(*pair) for pair in pairs])
    assert true.sum() > 80
    assert np.mean(told == true) > 0.95


def test_semantic_copies_are_close_in_both_sides() -> None:
    rows = [chat(at, f"question number {at} of a list", f"answer number {at} that is long enough") for at in range(4)]
    asked = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    answered = np.array([[1, 0], [1, 0], [1, 0], [0.9, 0.43589]], dtype=np.float32)
    pairs = duplicates.find_pairs(rows, (asked, answered)).semantic
    assert sorted(zip(*map(np.ndarray.tolist, pairs[:2]), strict=True)) == [(0, 1), (1, 0)]
    bare = duplicates.find_pairs(rows, (np.zeros_like(asked), answered)).semantic
    assert len(bare[0]) == 6
    half = np.where(np.arange(4)[:, None] == 0, 0, asked)
    assert len(duplicates.find_pairs(rows, (half, answered)).semantic[0]) == 0


def test_what_others_ask_too_is_left_out_of_what_is_embedded() -> None:
    rows = [chat(at, f"{PASSAGE}\n{asked}", "Yes.") for at, asked in enumerate(QUESTIONS)]
    assert own_sides(rows) == [(asked, "Yes.") for asked in QUESTIONS]
    alone = chat(0, PASSAGE, "Yes.")
    assert own_sides([alone, alone]) == [(PASSAGE, "Yes.")] * 2
    template = "Below is an instruction that describes a task. Write a response to it."
    texts = [Row(at, str(at), "", (f"{template}\n{asked}",)) for at, asked in enumerate(QUESTIONS)]
    assert without_shared_lead(texts, lambda text: True) == list(QUESTIONS)
    assert without_shared_lead(texts, lambda text: False) == [row.answer for row in texts]
    assert without_shared_lead(rows, lambda text: True) == ["Yes."] * 5


def test_both_ends_of_a_long_prompt_are_read(tiny_encoder: Path) -> None:
    cutter = Cutter.of(tiny_encoder, 64)
    assert cutter.both_ends("short enough") == "short enough"
    long = f"First of all, {PASSAGE * 3} and what is asked last?"
    read = cutter.both_ends(long)
    assert read.startswith("First")
    assert read.endswith("last?")
    assert cutter.is_cut(long)
    assert not cutter.is_cut(read)


def test_texts_that_are_cut_are_counted(tmp_path: Path, audit: Any) -> None:
    rows = human_rows(60, 1)
    texts = [row.answer if at % 3 else row.answer + PASSAGE * 12 for at, row in enumerate(rows)]
    for name, seed in (("data", texts), ("people", [row.answer for row in human_rows(60, 2)])):
        lines = [json.dumps({"instruction": f"{name} {at}", "output": text}) for at, text in enumerate(seed)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    _, told, _ = audit(tmp_path / "data.jsonl", "--reference", tmp_path / "people.jsonl", only="embedding")
    cut = [note for note in told["notes"] if "the embedder reads" in note]
    assert len(cut) == 1
    assert cut[0].startswith("answers longer than the ")
    numbers = [int(word) for word in cut[0].replace(",", "").split() if word.isdigit()]
    assert numbers[1] >= 20
    assert "their beginnings were read" in cut[0]


def test_an_embedder_that_knows_no_word_of_it_measures_nothing(tmp_path: Path) -> None:
    sides = {"rows": 100, "answers_cut": 0, "prompts_cut": 0}
    for share, unread in ((0.1, False), (0.7, True)):
        counts = {"limit": 256, "data": {**sides, "unknown": share}, "references": {**sides, "unknown": 0.0}}
        (tmp_path / CUT).write_text(json.dumps(counts))
        assert is_unread(tmp_path) == unread
        assert any("does not know 70 %" in note for note in notes_on_cut("embeddings", counts)) == unread


# --- thought and final answer ---------------------------------------------------------------------------------------


def test_parts_of_a_row() -> None:
    row = Row(0, "r", "q", ("<think>why</think>4", "plain"))
    assert holds_thought(row)
    assert not holds_thought(Row(0, "r", "q", ("plain", "it writes <think> tags")))
    assert part_of(row, "answer") == row
    assert part_of(row, "final").answers == ("4", "plain")
    assert part_of(row, "thought").answers == ("why",)


def test_a_flaw_of_thoughts_is_seen_in_thoughts_alone(tmp_path: Path, audit: Any) -> None:
    def write(name: str, seed: int, opening: str) -> Path:
        thoughts, finals = human_rows(120, seed), human_rows(120, seed + 50)
        lines = [
            {"instruction": row.prompt, "output": f"<think>{opening}{row.answer}</think>{final.answer}"}
            for row, final in zip(thoughts, finals, strict=True)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    data, people = write("data", 1, "Okay, so the user wants "), write("people", 2, "")
    found = {}
    for part in ("answer", "final", "thought"):
        _, told, _ = audit(data, "--reference", people, "--part", part, only="format")
        found[part] = {one["measure"]: one["severity"] for one in told["findings"]}["opening_concentration"]
        assert any("120 of 120 rows of the data have a thought" in note for note in told["notes"])
    assert found == {"answer": "fail", "final": "ok", "thought": "fail"}


# --- advice ---------------------------------------------------------------------------------------------------------

CODE = "Here it is:\n```python\ndef twice(x):\n    return 2 * x\n\nprint(twice(2))\n```"


def test_kinds_of_data() -> None:
    assert is_code(CODE)
    assert is_code("int main() {\n  int x = 1;\n  return x;\n}")
    assert not is_code("Use `print`. It prints.\n\n1. Open it.\n2. Close it.")
    assert data_kind([Row(0, "a", "write it", (CODE,))]) == "code"
    assert data_kind([Row(0, "a", "write it", ("A poem.",))]) == "chat"
    assert data_kind([Row(0, "a", "", ("A text.",))]) == "text"
    assert data_kind([Row(0, "a", "", ("A text.",), "yes", {"text": "A text."})]) == "labelled"


def test_advice_fits_the_rows() -> None:
    statistics = [statistic for flaw in FLAWS.values() for statistic in flaw.statistics]
    for statistic in statistics:
        for kind in ("chat", "code", "labelled", "text"):
            advice = statistic.advice_for(kind)
            assert advice[0].isupper(), statistic.full_name
            assert advice.endswith("."), statistic.full_name
    by_name = {statistic.full_name: statistic for statistic in statistics}
    closing, shift = by_name["format.closing_concentration"], by_name["perplexity.shift"]
    assert not any("cut" in closing.advice_for(kind).lower() for kind in ("code", "text", "labelled"))
    assert "Replace" not in shift.advice
    assert "arXiv 2501.14315" in shift.advice
