"""IFEval by hand: prompts are read or refused by line, verdicts are the expected ones, nothing leaks or hangs on chance."""

import gzip
import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.io import Counts
from pyrite.tasks import ifeval, punkt
from pyrite.tasks.scoring import ItemScore

pytest.importorskip("lm_eval", reason="the extra eval is not installed")

GOOD: dict[str, Any] = {
    "key": 7,
    "prompt": "Describe a mill.",
    "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
    "kwargs": [{}, {"num_bullets": 2}],
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence data go to a folder of the test run, not to the user's cache."""
    monkeypatch.setattr(punkt, "cache_folder", lambda: tmp_path_factory.getbasetemp() / "nltk")


def row(names: list[str], kwargs: list[Any], key: object = 1) -> dict[str, Any]:
    return {"key": key, "prompt": "Write.", "instruction_id_list": names, "kwargs": kwargs}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in rows))
    return path


def values(folder: Path, answer: str | None, *rows: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    items = ifeval.read(write(folder / "prompts.jsonl", *rows))
    measured = ifeval.measure(items, {item.id: answer for item in items})
    return {(score.item, score.metric): score.value for score in measured}


def test_the_published_layout_is_read_packed_or_not(tmp_path: Path) -> None:
    packed = tmp_path / "prompts.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    [item], [again] = ifeval.read(write(tmp_path / "prompts.jsonl", GOOD)), ifeval.read(packed)
    assert item == again
    assert item.id == "7"
    assert [(turn.role, turn.content) for turn in item.messages] == [("user", "Describe a mill.")]
    assert item.meta == {name: GOOD[name] for name in ("instruction_id_list", "kwargs")}


BAD_ROWS = {
    "missing field": {name: GOOD[name] for name in ("key", "prompt", "instruction_id_list")},
    "wrong type": GOOD | {"key": 1.5},
    "empty text": GOOD | {"key": 8, "prompt": " "},
    "lists of different length": GOOD | {"key": 8, "kwargs": [{}]},
    "unknown instruction": row(["punctuation:no_full_stop"], [{}]),
    "missing argument": row(["length_constraints:number_words"], [{"relation": "at least"}]),
    "unfit argument": row(["length_constraints:number_words"], [{"num_words": 3, "relation": "at most"}]),
    "key seen before": GOOD | {"prompt": "Another one."},
    "not an object": [1],
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_named_by_its_line_or_counted(reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.jsonl", GOOD, BAD_ROWS[reason])
    with pytest.raises(UserError, match=f"bad row: {reason}") as caught:
        ifeval.read(path)
    assert caught.value.found.startswith(f"{path}:2: ")
    items, counts = ifeval.read_counted(path, "skip")
    assert ([item.id for item in items], counts) == (["7"], Counts(2, 1, {reason: 1}))
    with pytest.warns(UserWarning, match=f"1 of 2 rows left out \\(1 {reason}\\)"):
        ifeval.read(path, "skip")


def test_a_file_of_bad_rows_offers_to_leave_none_out(tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.jsonl", BAD_ROWS["not an object"])
    with pytest.raises(UserError, match="no row could be read") as caught:
        ifeval.read(path)
    assert f"the first is {path}:1: " in caught.value.found
    assert "--on-bad-row" not in caught.value.fix


UNFIT = [
    ("keywords:existence", {"keywords": ["(unclosed"]}),
    ("length_constraints:number_words", {"num_words": "3", "relation": "at least"}),
    ("language:response_language", {"language": "xx"}),
    ("punctuation:no_comma", {"comma": 1}),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"},
    ),
]


@pytest.mark.parametrize(("name", "kwargs"), UNFIT)
def test_an_argument_that_a_checker_cannot_use_is_found_when_reading(
    name: str, kwargs: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="bad row: unfit argument"):
        ifeval.read(write(tmp_path / "prompts.jsonl", GOOD, row([name], [kwargs])))


def test_verdicts_worked_out_by_hand(tmp_path: Path) -> None:
    items = ifeval.read(write(tmp_path / "prompts.jsonl", GOOD, GOOD | {"key": 8}, GOOD | {"key": 9}))
    measured = ifeval.measure(items, {"7": "Here, for you:\n- old\n- dusty", "8": "- old\n- very, very dusty"})
    bullets = {"kind": "detectable_format", "instruction": "detectable_format:number_bullet_lists"}
    comma = {"kind": "punctuation", "instruction": "punctuation:no_comma"}
    expected = [
        ("7", (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)),  # the comma is in the first line, which loose forgives
        ("8", (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)),  # without its last line no comma, whole two bullets: each passes once
        ("9", (None, None, None), (None, None, None)),
    ]
    scores = []
    for key, *levels in expected:
        for level, (no_comma, two_bullets, prompt) in zip(("strict", "loose"), levels, strict=True):
            scores += [
                ItemScore(key, f"prompt_{level}", prompt, key),
                ItemScore(f"{key}#0", f"instruction_{level}", no_comma, key, comma),
                ItemScore(f"{key}#1", f"instruction_{level}", two_bullets, key, bullets),
            ]
    assert measured == scores
    assert {score.metric for score in measured} == {metric.name for metric in ifeval.METRICS}


def test_an_empty_answer_is_an_answer_that_follows_nothing(tmp_path: Path) -> None:
    assert set(values(tmp_path, " \n", GOOD).values()) == {0.0}


def test_sentences_are_counted_with_english_abbreviations(tmp_path: Path) -> None:
    prompt_row = row(["length_constraints:number_sentences"], [{"num_sentences": 3, "relation": "at least"}])
    assert values(tmp_path, "Dr. Smith of the U.S. Navy met Mr. Jones. He left.", prompt_row)["1", "prompt_strict"] == 0
    assert values(tmp_path, "Dr. Smith met Mr. Jones. He left. She did not.", prompt_row)["1", "prompt_strict"] == 1


def test_json_nested_too_deep_is_missing_unless_another_instruction_fails(tmp_path: Path) -> None:
    open_, settled = row(["detectable_format:json_format", "punctuation:no_comma"], [{}, {}]), GOOD | {"key": 2}
    settled |= {"instruction_id_list": ["detectable_format:json_format", "detectable_format:title"], "kwargs": [{}, {}]}
    with pytest.warns(UserWarning, match=r"a checker gave up, .* in 2 answers \(prompts 1, 2\)"):
        verdicts = values(tmp_path, "[" * 20_000, open_, settled)
    for level in ("strict", "loose"):
        assert verdicts["1#0", f"instruction_{level}"] is None
        assert verdicts["1#1", f"instruction_{level}"] == 1
        assert verdicts["1", f"prompt_{level}"] is None
        assert verdicts["2", f"prompt_{level}"] == 0


def test_a_language_that_cannot_be_told_counts_as_followed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt_row = row(["language:response_language"], [{"language": "de"}])
    with pytest.warns(UserWarning, match=r"no language could be told.* in 1 answers \(prompts 1\)"):
        assert values(tmp_path, "😀 1", prompt_row)["1", "prompt_strict"] == 1
    assert not caplog.records
    assert values(tmp_path, "Der Fluss ist alt und tief.", prompt_row)["1", "prompt_strict"] == 1
    assert values(tmp_path, "The river is old and deep.", prompt_row)["1", "prompt_strict"] == 0


def test_a_sign_that_is_no_letter_is_replaced_by_the_first_draw_after_the_seed(tmp_path: Path) -> None:
    prompt_row = row(["keywords:letter_frequency"], [{"letter": "#", "let_frequency": 4, "let_relation": "at least"}])
    assert random.Random(0).choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "y"
    for answer, value in (("yYyy", 1), ("yyy####", 0)):
        assert values(tmp_path, answer, prompt_row) == dict.fromkeys(
            [
                ("1", "prompt_strict"),
                ("1", "prompt_loose"),
                ("1#0", "instruction_strict"),
                ("1#0", "instruction_loose"),
            ],
            value,
        )


def test_measuring_repeats_itself_and_leaves_the_global_state_alone(tmp_path: Path) -> None:
    from langdetect import DetectorFactory

    prompt_row = row(["language:response_language", "keywords:letter_frequency"], [{"language": "fr"}, {}])
    prompt_row["kwargs"][1] = {"letter": "!", "let_frequency": 1, "let_relation": "at least"}
    items = ifeval.read(write(tmp_path / "prompts.jsonl", *[prompt_row | {"key": key} for key in range(12)]))
    texts = ["email internet", "is it de la"] * 6  # the detector's draws decide: French, Norwegian, Dutch
    answers = {item.id: text for item, text in zip(items, texts, strict=True)}
    results = []
    for seed in (1, 2):
        random.seed(seed)
        DetectorFactory.seed = seed
        before = random.getstate()
        results.append(ifeval.measure(items, answers))
        assert random.getstate() == before
        assert DetectorFactory.seed == seed
    DetectorFactory.seed = None
    assert results[0] == results[1]


SILENT = """
import socket, sys
def refuse(*given, **named): raise AssertionError(f"network: {given}")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from pyrite.tasks import ifeval
assert not {"torch", "transformers", "lm_eval", "nltk", "punkt", "langdetect"} & set(sys.modules)
import nltk
nltk.download = refuse
items = ifeval.read(Path(sys.argv[1]))
ifeval.measure(items, {item.id: "One. Two, three." for item in items})
ifeval.measure(items, {item.id: "1" for item in items})
assert "lm_eval.tasks.ifeval.instructions" in sys.modules
"""


def test_nothing_is_printed_and_nothing_is_downloaded(tmp_path: Path) -> None:
    sentences = row(["length_constraints:number_sentences"], [{"num_sentences": 3, "relation": "at least"}])
    path = write(tmp_path / "prompts.jsonl", sentences, row(["change_case:english_lowercase"], [{}], 2))
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "NLTK_DATA": ""}
    finished = subprocess.run(
        [sys.executable, "-c", SILENT, str(path)], capture_output=True, text=True, env=os.environ | home, check=False
    )
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr
    assert (tmp_path / "cache" / "pyrite" / "nltk" / punkt.SHA256[:16] / punkt.ENGLISH / "abbrev_types.txt").is_file()


def test_without_the_extra_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval.utils", None)
    ifeval.checkers.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'pyrite\[eval\]'"):
        ifeval.checkers()


def test_sentence_data_are_written_once_and_mended(tmp_path: Path) -> None:
    folder = punkt.make(tmp_path / "nltk")
    abbreviations = folder / punkt.ENGLISH / "abbrev_types.txt"
    words = abbreviations.read_text().split("\n")
    assert len(words) == 156
    assert {"dr", "u.s", "ph.d"} < set(words)
    changed = abbreviations.stat().st_mtime_ns
    punkt.make(folder)
    assert abbreviations.stat().st_mtime_ns == changed
    abbreviations.write_text("dr")
    assert not punkt.is_complete(folder)
    assert punkt.is_complete(punkt.make(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nltk", "nltk.lock"]


def test_other_parameters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {file: list(lines) for file, lines in punkt.packaged().items()}
    changed["abbrev_types.txt"].remove("dr")
    with pytest.raises(UserError, match="does not hold the parameters"):
        punkt.write_parameters(changed, tmp_path / "nltk")
    theirs = punkt.make(tmp_path / "theirs")
    (theirs / punkt.ENGLISH / "abbrev_types.txt").write_text("\n".join(changed["abbrev_types.txt"]))
    monkeypatch.setattr(importlib.import_module("nltk.data"), "path", [str(theirs)])
    with pytest.raises(UserError, match="NLTK finds English sentence data") as caught:
        punkt.provide()
    assert str(theirs) in caught.value.found
    assert f"NLTK_DATA={punkt.cache_folder()}" in caught.value.fix


def test_the_parameters_are_those_of_nltk_itself() -> None:
    data = importlib.import_module("nltk.data")
    ours = str(punkt.cache_folder())
    paths, data.path[:] = list(data.path), [path for path in data.path if path != ours]
    try:
        located = punkt.find_data(data)
    finally:
        data.path[:] = paths
    if located is None:
        pytest.skip("NLTK's own punkt_tab is not on this machine (NLTK_DATA names its folder)")
    assert "pyrite-punkt.txt" not in {path.name for path in located[0].parents[2].iterdir()}
    assert punkt.parameters_digest(located[1]) == punkt.parameters_digest(punkt.packaged()) == punkt.SHA256
