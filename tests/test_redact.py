"""Names without folders: one rule for all that leaves this machine."""

from pathlib import Path

import pytest

from pyrite.redact import redact_existing_path, redact_outside_paths, redact_path, unlike


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/home/me/a b/mine", "mine"),
        ("../../home/me/priv/s", "s"),
        ("a/../../b", "b"),
        ("one/two/three", "three"),
        ("base/gp.json", "gp.json"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("hans=/home/me/secret=x/hans.jsonl", "hans=hans.jsonl"),
        ("perplexity=../me/held", "perplexity=held"),
        ("org/name", "org/name"),
        ("org/name-1.5B@refs/pr/1", "org/name-1.5B@refs/pr/1"),
        ("hf://org/name:config@train", "hf://org/name:config@train"),
        ("nli=hf://org/name", "nli=hf://org/name"),
        ("packaged:minilm-l6", "packaged:minilm-l6"),
        ("study:human", "study:human"),
        ("loop:flagged", "loop:flagged"),
        ("https://host/v1/chat", "https://host/v1/chat"),
        ("hans.accuracy >= 0.6", "hans.accuracy >= 0.6"),
        ("Say yes/no.\n/home", "Say yes/no.\n/home"),
        ("..", ".."),
        ("", ""),
    ],
)
def test_of_a_path_the_last_part_stays_and_all_else_whole(given: str, told: str) -> None:
    assert redact_path(given) == told
    assert redact_path(redact_path(given)) == told


def test_what_exists_here_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert redact_existing_path("models/mine") == "models/mine"  # nothing of that name here: a name on the hub
    monkeypatch.chdir(tmp_path)
    assert redact_existing_path("models/mine") == "mine"
    assert redact_existing_path("own=models/mine") == "own=mine"
    assert redact_existing_path("x" * 5000) == "x" * 5000  # longer than a file's name can be
    assert redact_existing_path("a\x00b") == "a\x00b"


def test_names_are_told_apart_whatever_they_are() -> None:
    for names in (["a", "a"], ["a", "a", "a (1)", "a (2)"], ["b", "b", "b (1) (1)"], []):
        assert len(set(unlike(names))) == len(names)


def test_a_file_to_use_again_keeps_the_folders_within_its_own() -> None:
    told = redact_outside_paths(
        {"data": {"x": {"files": ["/home/me/a.jsonl", "mnli/dev.jsonl"]}}, "on": ("~/b.txt",), "seeds": [1]}
    )
    assert told == {"data": {"x": {"files": ["a.jsonl", "mnli/dev.jsonl"]}}, "on": ["b.txt"], "seeds": [1]}
