"""Contamination: shared runs by hand, leaks found and marked, clean data silent, parts merged to the same."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.audit.planted import human_rows, sentence, with_leak

from pyrite.audit import word_hashes
from pyrite.audit.baselines import DrawSettings, measure_difference
from pyrite.audit.extras import evaluation_texts
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.contamination import index as index_of_runs
from pyrite.audit.flaws.contamination import statistics as contamination
from pyrite.audit.flaws.contamination import stream as streams
from pyrite.audit.flaws.contamination.evidence import evidence
from pyrite.audit.rows import Row
from pyrite.errors import UserError

DRAWS = DrawSettings(permutations=399, subsamples=5, halves=20)
RULES: dict[str, dict] = {"ngram_13": {}, "ngram_8": {}}


def rows_of(*texts: str) -> list[Row]:
    return [Row(number, f"r{number}", "", (text,)) for number, text in enumerate(texts)]


@functools.cache
def people(seed: int) -> list[Row]:
    return human_rows(300, seed)


@functools.cache
def exam(words: int = 20) -> tuple[str, ...]:
    rng = np.random.default_rng(77)
    return tuple(sentence(rng, words, words + 1, shares=np.full(4000, 1 / 4000)) for _ in range(40))


def numbered(first: int, last: int) -> str:
    return " ".join(f"w{at}" for at in range(first, last))


def streamed(rows: Sequence[Row], folder: Path, extras: Extras, parts: int = 1) -> list[Path]:
    made = []
    for part in range(parts):
        made.append(folder / f"part-{part}")
        made[-1].mkdir(parents=True)
        stream = streams.Stream(made[-1], extras)
        stream.add([one for one in rows if one.number % parts == part])
        stream.close()
    return made


def marked(rows: Sequence[Row], extras: Extras) -> dict[str, list[float]]:
    return {name: found.tolist() for name, found in contamination.flag_scores(rows, RULES, extras, None).items()}


def test_thirteen_and_eight_words_by_hand() -> None:
    extras = Extras(against={"exam": [numbered(0, 20)]})
    texts = [numbered(0, 13), numbered(0, 12), f"x {numbered(5, 13)} y", numbered(5, 12), "", numbered(0, 20).upper()]
    rows = rows_of(*texts)
    assert marked(rows, extras) == {"ngram_13": [1, 0, 0, 0, 0, 1], "ngram_8": [1, 1, 1, 0, 0, 1]}
    counts = index_of_runs.runs_by_row(rows, index_of_runs.index_of(extras.against))
    assert counts["ngram_13"].tolist() == [1, 0, 0, 0, 0, 8]
    assert counts["ngram_8"].tolist() == [6, 5, 1, 0, 0, 13]


def test_a_run_does_not_go_on_in_the_next_row() -> None:
    extras = Extras(against={"exam": [numbered(0, 20)]})
    rows = rows_of(numbered(0, 7), numbered(7, 14), numbered(14, 20))
    assert marked(rows, extras) == {"ngram_13": [0, 0, 0], "ngram_8": [0, 0, 0]}


def test_short_texts_count_as_a_whole_for_eight_only() -> None:
    extras = Extras(against={"exam": ["what is five times six", "four words are few", numbered(0, 8)]})
    rows = rows_of("So: what is five times SIX?", "what is five times seven", "four words are few", numbered(0, 7))
    assert marked(rows, extras) == {"ngram_13": [0] * 4, "ngram_8": [1, 0, 0, 0]}


def test_boilerplate_is_dropped_and_counted(tmp_path: Path) -> None:
    common = "please answer with one of the following options"
    texts = [f"{common} {name} {name}" for name in ("a", "b", "c")]
    extras = Extras(against={"exam": texts, "copy": texts[:1]})
    index = index_of_runs.index_of(extras.against)
    assert index.boilerplate == 1
    assert marked(rows_of(common), extras)["ngram_8"] == [0]
    assert marked(rows_of(texts[0]), extras)["ngram_8"] == [1]
    two = Extras(against={"exam": [*texts[:2], texts[1].upper(), texts[1] + "!"]})
    assert index_of_runs.index_of(two.against).boilerplate == 0
    assert marked(rows_of(common), two)["ngram_8"] == [1]


def test_whole_counts_rows_sets_and_items(tmp_path: Path) -> None:
    sets = {"one": [numbered(0, 15), numbered(20, 35)], "two": [numbered(40, 55), "short", numbered(0, 15)]}
    extras = Extras(against=sets)
    rows = rows_of(numbered(0, 15), f"{numbered(0, 13)} {numbered(40, 53)}", numbered(40, 48), "free of it all")
    for parts in (1, 3):
        folders = streamed(rows, tmp_path / str(parts), extras, parts)
        told = streams.merge(folders, tmp_path, extras)
        assert told["rows"] == 4
        assert told["ngram_13"] == {"rows": 2, "share": 0.5}
        assert told["ngram_8"] == {"rows": 3, "share": 0.75}
        assert told["sets"]["one"] == {
            "items": 2,
            "ngram_13": {"rows": 2, "share": 0.5, "items_touched": 1},
            "ngram_8": {"rows": 2, "share": 0.5, "items_touched": 1},
        }
        assert told["sets"]["two"] == {
            "items": 3,
            "ngram_13": {"rows": 2, "share": 0.5, "items_touched": 2},
            "ngram_8": {"rows": 3, "share": 0.75, "items_touched": 2},
        }


def test_columns_of_the_stream(tmp_path: Path) -> None:
    extras = Extras(against={"exam": [numbered(0, 20)]})
    columns = streams.Stream(tmp_path, extras).add(rows_of(numbered(0, 14), "nothing"))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "contamination_13": [2, 0],
        "contamination_8": [7, 0],
    }
    assert all(column.dtype == np.uint16 for column in columns.values())


def test_without_evaluation_sets_there_is_nothing_to_tell(tmp_path: Path) -> None:
    rows = rows_of("a", "b")
    assert contamination.differences(rows, Extras()) == []
    assert contamination.alone(rows, Extras()) == []
    assert streams.merge(streamed(rows, tmp_path, Extras()), tmp_path, Extras()) == {"rows": 2}
    assert evidence("ngram_8", Population(rows, {}), {}, Extras()).lines == ()
    assert marked(rows, Extras()) == {"ngram_13": [0, 0], "ngram_8": [0, 0]}


def test_with_and_without_batches_and_sieve_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = with_leak(people(1), 0.1, 1, exam())
    index = index_of_runs.index_of({"exam": exam()})
    once = index_of_runs.runs_by_row(rows, index)
    wanted = {tuple(word_hashes.words(text)[at : at + 13]) for text in exam() for at in range(8)}
    slow = []
    for row in rows:
        words = word_hashes.words(row.text)
        slow.append(sum(tuple(words[at : at + 13]) in wanted for at in range(len(words))))
    assert once["ngram_13"].tolist() == slow
    monkeypatch.setattr(word_hashes, "AT_ONCE", 200)
    again = index_of_runs.runs_by_row(rows, index)
    assert all((once[name] == again[name]).all() for name in once)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_leaks_are_found_and_marked(share: float) -> None:
    rows, planted = with_leak(people(1), share, 1, exam())
    extras = Extras(against={"exam": exam()})
    for one in contamination.differences([*rows, *people(2)], extras):
        found = measure_difference(one, range(300), {"h": range(300, 600)}, DRAWS)
        assert found is not None
        assert (found.value, found.p) == (pytest.approx(share), 1 / 400)
    assert {at for at, on in enumerate(marked(rows, extras)["ngram_13"]) if on} == planted
    (alone, _) = contamination.alone(rows, extras)
    assert (alone.value, alone.null, alone.threshold, alone.n) == (share, None, 0.0, 300)
    assert alone.low is not None
    assert 0 < alone.low < share


def test_clean_data_is_silent() -> None:
    extras = Extras(against={"exam": exam()})
    for one in contamination.differences([*people(1), *people(2)], extras):
        found = measure_difference(one, range(300), {"h": range(300, 600)}, DRAWS)
        assert found is not None
        assert (found.value, found.p) == (0, 1)


def test_evidence_shows_words_and_item(tmp_path: Path) -> None:
    extras = Extras(against={"quiz": ["nothing of this is there at all"], "exam": [numbered(0, 20), numbered(30, 50)]})
    rows = [replace(one, number=one.number + 7) for one in rows_of("free", f"x {numbered(30, 44)} y", numbered(0, 20))]
    told = streams.merge(streamed(rows, tmp_path, extras), tmp_path, extras)
    shown = evidence("ngram_13", Population(rows, told), {"h": Population(rows_of("q"), {})}, extras)
    assert shown.lines == (
        "66.67% of rows (2 of 3) hold 13 words in a row of an evaluation text (references 0.00%)",
        "exam: 2 rows touch 2 of 2 texts",
        f"“{numbered(0, 20)}” (r2) is in text 1 of exam",
        f"“{numbered(30, 44)}” (r1) is in text 2 of exam",
    )
    assert shown.rows == (9, 8)


def test_hostile_texts(tmp_path: Path) -> None:
    texts = ["", "\0", "\ud800 lone", "مرحبا بالعالم " * 9, "你好世界再见了" * 4, "😀", "x" * 300_000]
    extras = Extras(against={"exam": texts})
    rows = rows_of(*texts)
    assert marked(rows, extras)["ngram_13"] == [0, 0, 0, 1, 1, 0, 0]
    streams.merge(streamed(rows, tmp_path, extras), tmp_path, extras)
    evidence("ngram_8", Population(rows, {}), {}, extras)


def test_a_row_of_100_megabytes_is_bounded_work() -> None:
    extras = Extras(against={"exam": [numbered(0, 20)]})
    began = time.perf_counter()
    assert marked(rows_of("lorem ipsum dolor " * 5_600_000, numbered(0, 20)), extras)["ngram_13"] == [0, 1]
    assert time.perf_counter() - began < 5


def test_texts_of_a_file_of_pairs_and_of_chats(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"premise": "A b c", "hypothesis": "d", "label": "neutral"}\n'
        '{"premise": "A b c", "hypothesis": "e", "label": "entailment"}\n'
    )
    assert evaluation_texts("nli", pairs) == ["A b c", "d", "e"]
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"instruction": "Say a", "input": "", "output": "b"}\n')
    assert evaluation_texts("mine", chats) == ["Say a\nb"]
    prompts = tmp_path / "input_data.jsonl"
    prompts.write_text('{"key": 1, "prompt": "No commas.", "instruction_id_list": [], "kwargs": []}\n')
    assert evaluation_texts("ifeval", prompts) == ["No commas."]
    with pytest.raises(UserError, match="no prompt"):
        evaluation_texts("ifeval", chats)


@pytest.mark.real
def test_tasks_that_pyrite_knows(data_folder: Path) -> None:
    sizes = {
        "ifeval/input_data.jsonl": 541,
        "mt_bench/question.jsonl": 80,
        "followbench": 124,
        "hans/heuristics_sample.jsonl": 10701,
    }
    for name, size in sizes.items():
        if not (data_folder / name).exists():
            pytest.skip(f"{name} is not in PYRITE_DATA")
        assert len(evaluation_texts(name.split("/")[0], data_folder / name)) == size
