"""Only a part of the answers is measured (`--part`): rows without it, and rows without any answer."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.audit_kit import caller

from pyrite.audit.advice import data_kind
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.diversity import FLAW as DIVERSITY
from pyrite.audit.flaws.embedding import FLAW as EMBEDDING
from pyrite.audit.flaws.tokens import FLAW as TOKENS
from pyrite.audit.rows import Row, audit_row, part_of
from pyrite.records import Chat, Message

WORDS = [
    "the",
    "of",
    "cat",
    "dog",
    "river",
    "stone",
    "quickly",
    "green",
    "blue",
    "house",
    "under",
    "over",
    "tree",
    "walk",
    "run",
    "jump",
    "sing",
    "song",
    "night",
    "day",
]


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    call = caller(tmp_path, tiny_encoder, tiny_causal, capfd)
    any_meaning = ("--thresholds", "duplicates.semantic=1")  # to an encoder that learned nothing, all texts are alike
    return lambda *line, only: call(*line, *(any_meaning if "duplicates" in only else ()), only=only)


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count)).capitalize() + "."


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(path: Path, thoughts: int, plain: int, seed: int = 3) -> Path:
    """Distinct plain texts; the first so many begin with a thought."""
    rng = random.Random(seed)
    rows = [{"text": f"<think>\n{words(rng, 20)}\n</think>\n\n{words(rng, 30)}"} for _ in range(thoughts)]
    return jsonl(path, rows + [{"text": words(rng, 30)} for _ in range(plain)])


def finding(told: dict[str, Any], measure: str) -> dict[str, Any]:
    return next(entry for entry in told["findings"] if entry["measure"] == measure)  # type: ignore[no-any-return]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_texts_without_a_thought_are_no_copies_and_stay(tmp_path: Path, audit: Any) -> None:
    data, clean = texts(tmp_path / "data.jsonl", 60, 60), tmp_path / "clean.jsonl"
    code, told, err = audit(data, "--part", "thought", "--clean", clean, "--out", tmp_path / "out", only="duplicates")
    assert code == 0, err
    assert finding(told, "exact")["value"] == 0
    assert finding(told, "exact")["n"] == 60
    assert told["flagged"] == {"rows": 120, "flagged": 0, "clean": 120, "by": {}}
    assert lines(clean) == 120
    assert "60 of 120 rows of the data have no thought: they are left out of all flaws" in told["notes"]


def test_answers_cut_within_their_thought_are_no_copies(tmp_path: Path, audit: Any) -> None:
    rng, rows = random.Random(5), list[dict[str, str]]()
    for _ in range(60):
        asked = words(rng, 8)
        rows += [{"prompt": asked, "answer": f"<think>\n{words(rng, 60)}"} for _ in range(2)]
    rows += [
        {"prompt": words(rng, 8), "answer": f"<think>\n{words(rng, 20)}\n</think>\n{words(rng, 20)}"} for _ in range(60)
    ]
    data = jsonl(tmp_path / "data.jsonl", rows)
    code, told, err = audit(data, "--part", "final", only="duplicates,format,diversity")
    assert code == 0, err
    assert [finding(told, name)["value"] for name in ("exact", "near")] == [0, 0]
    assert told["sample"]["n"] == 60
    assert "120 of 180 rows of the data have no final answer: they are left out of all flaws" in told["notes"]
    assert not any("repeat another row" in note for note in told["notes"])


def test_the_thoughts_of_some_rows_are_measured_as_if_they_were_all_rows(tmp_path: Path, audit: Any) -> None:
    mixed, people = texts(tmp_path / "mixed.jsonl", 60, 60), texts(tmp_path / "people.jsonl", 70, 30, seed=4)
    alone = jsonl(tmp_path / "alone.jsonl", [json.loads(line) for line in mixed.read_text().splitlines()[:60]])
    only = "format,tokens,diversity,duplicates,embedding,perplexity"
    results = []
    for data in (mixed, alone):
        code, told, err = audit(data, "--reference", people, "--part", "thought", only=only)
        assert code == 0, err
        assert told["references"][0]["rows_sampled"] == 70
        assert told["sample"]["n"] == 60
        results.append({entry["measure"]: (entry["n"], entry["evidence"]["lines"][:1]) for entry in told["findings"]})
    assert results[0].keys() == results[1].keys()
    assert {name: n for name, (n, _) in results[0].items()} == {name: n for name, (n, _) in results[1].items()}
    assert results[0]["exact"] == results[1]["exact"]


def test_nothing_is_compared_with_references_that_have_no_thought(tmp_path: Path, audit: Any) -> None:
    data, people = texts(tmp_path / "data.jsonl", 60, 60), texts(tmp_path / "people.jsonl", 0, 120, seed=4)
    only = "format,tokens,diversity,duplicates,embedding,perplexity"
    code, told, err = audit(data, "--reference", people, "--part", "thought", only=only)
    assert code == 0, err
    assert all(entry["flaw"] == "duplicates" for entry in told["findings"])
    assert not any(entry["severity"] != "ok" for entry in told["findings"])
    why = {entry["why"] for entry in told["not_measured"] if entry["measure"] != "perplexity.instruction_difficulty"}
    assert why == {"needs a reference whose rows have a thought; this one has none"}
    assert "format.opening_concentration" in told["needs_reference"]
    assert "120 of 120 rows of the references have no thought: they are left out of all flaws" in told["notes"]


def test_data_without_the_part_is_refused(tmp_path: Path, audit: Any) -> None:
    code, _, err = audit(texts(tmp_path / "data.jsonl", 0, 60), "--part", "thought", only="format")
    assert code == 2
    assert "No row of the data has a thought." in err
    assert "none of 60 rows" in err


def test_evaluation_texts_are_found_in_prompts_without_an_answer(tmp_path: Path, audit: Any) -> None:
    rng = random.Random(1)
    secret = words(rng, 30)
    rows = [{"prompt": secret if at == 0 else words(rng, 8), "answer": f"<think>\n{words(rng, 20)}"} for at in range(3)]
    rows += [{"prompt": words(rng, 8), "answer": f"<think>a</think>{words(rng, 20)}"} for _ in range(60)]
    against = jsonl(tmp_path / "against.jsonl", [{"text": secret}])
    flagged = tmp_path / "flagged.jsonl"
    code, told, err = audit(
        jsonl(tmp_path / "data.jsonl", rows), "--against", against, "--part", "final", "--flagged", flagged,
        only="contamination,duplicates",
    )  # fmt: skip
    assert code == 0, err
    assert told["flagged"]["by"]["contamination.ngram_13"] == 1
    assert json.loads(flagged.read_text())["prompt"] == secret
    note = "3 of 63 rows of the data have no final answer: they are left out of all flaws but contamination"
    assert note in told["notes"]


# --- rows without any answer -----------------------------------------------------------------------------------------


def test_blank_turns_are_no_answers() -> None:
    turns = (Message("user", "q"), Message("assistant", " \n"), Message("user", "r"), Message("assistant", "yes"))
    assert audit_row(Chat(turns, "r"), 0).answers == ("yes",)
    assert part_of(Row(0, "r", "q", ("<think>why</think>4", "plain")), "thought").answers == ("why",)
    assert part_of(Row(0, "r", "q", ("<think>cut off",)), "final").answers == ()


def unanswered_and_answered(seed: int, count: int = 40) -> list[Row]:
    rng = random.Random(seed)
    rows = [Row(at, f"r{at}", "asked", (words(rng, 12),)) for at in range(count)]
    return [*rows, *(Row(count + at, f"u{at}", "asked", ()) for at in range(count))]


def test_meanings_of_no_answer_are_not_compared() -> None:
    rows = unanswered_and_answered(1) + unanswered_and_answered(2)
    points = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float32)
    extras = Extras(embeddings=points / np.linalg.norm(points, axis=1, keepdims=True))
    places = [at for at, row in enumerate(rows) if row.answers]
    assert all(difference.rows == places for difference in EMBEDDING.differences(rows, extras))
    data, people = Population(rows[:80], {}, ()), {"people": Population(rows[80:], {}, ())}
    few = Population([*rows[:40]], {}, ()), {"people": Population(rows[80:120], {}, ())}
    fewer = Extras(embeddings=extras.embeddings[places])  # type: ignore[index]
    for measure in ("classifier_auc", "mmd", "coverage_loss", "diversity_loss"):
        assert EMBEDDING.evidence(measure, data, people, extras) == EMBEDDING.evidence(measure, *few, fewer)
    assert EMBEDDING.drawn_values is not None
    assert len(EMBEDDING.drawn_values("classifier_auc", data, people, extras)["map"]) == 80


def test_shares_of_answers_are_of_rows_that_have_one(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [Row(at, str(at), "q", (f"As an AI language model, {words(rng, 9)}",)) for at in range(10)]
    rows += [Row(10 + at, str(at), "q", ()) for at in range(10)]
    extras = Extras()
    for flaw in (TOKENS, DIVERSITY):
        assert flaw.stream is not None
        assert flaw.merge is not None
        folder = tmp_path / flaw.name
        folder.mkdir()
        stream = flaw.stream(folder, extras)
        stream.add(rows)
        stream.close()
        assert flaw.merge([folder], tmp_path, extras)["rows"] == 10
    shown = TOKENS.evidence("boilerplate", Population(rows, {}, ()), {}, extras)
    assert shown.values["phrases"]["as an AI"]["data"] == 1
    repeated = DIVERSITY.evidence("cross_row_repetition", Population(rows, {}, ()), {}, extras)
    assert "is in 100 % of answers" in repeated.lines[0]


def test_the_kind_of_data_is_told_by_its_answers() -> None:
    code = Row(0, "a", "write it", ("def twice(x):\n    return 2 * x",))
    assert data_kind([code, *(Row(at, "b", "write it", ()) for at in range(1, 5))]) == "code"
