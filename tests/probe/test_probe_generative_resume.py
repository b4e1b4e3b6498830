"""Answers and judgements that were cut off: what is there is kept, and only the rest is asked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.models.remote_stub import Reply, Stub, served
from tests.probe.written_kit import Says, judge, line, overall, questions_in, ratings, told

from pyrite.cli import run
from pyrite.models import generate as generating
from pyrite.models import write as writing
from pyrite.probe import generative_steps


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return questions_in(tmp_path)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with served() as it:
        yield it


def finished(store: Path, name: str) -> bytes:
    (file,) = store.glob(f"done/*/*/{name}")
    return file.read_bytes()


def test_a_cut_off_run_asks_only_the_rest(
    tiny_causal: Path,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in the first turn, then torn, then stopped in the second: the answers are those of one run."""
    real_write, real_generate = writing.answer_prompts, generating.generate
    asked: list[int] = []
    left = 2  # answers before the time is up

    def hasty(*given: Any, expired: Callable[[], bool], **more: Any) -> Any:
        def over() -> bool:
            nonlocal left
            left -= 1
            return left <= 0

        return real_write(*given, expired=over, rows=1, **more)

    def counted(model: Any, prompts: Any, **more: Any) -> Iterator[Any]:
        for one in real_generate(model, prompts, **more):
            asked.append(1)
            yield one

    monkeypatch.setattr(writing, "answer_prompts", hasty)
    monkeypatch.setattr(generating, "generate", counted)
    command = line(tiny_causal, f"mt_bench={questions}", tmp_path / "cut")
    assert run(command) == 130
    assert "Run the same command again" in capsys.readouterr().err
    (file,) = (tmp_path / "cut").glob("attempts/*/checkpoint-*/answers.jsonl")
    assert file.read_bytes().count(b"\n") == len(asked) == 2
    with file.open("ab") as sink:
        sink.write(b'{"id":"82","te')
    left = 3
    assert run(command) == 130
    assert file.read_bytes().count(b"\n") == len(asked) == 5
    left = 100
    assert run(command) == 0
    assert len(asked) == 6  # three questions of two turns, each answered once
    assert run(line(tiny_causal, f"mt_bench={questions}", tmp_path / "whole")) == 0
    assert finished(tmp_path / "cut", "answers.jsonl") == finished(tmp_path / "whole", "answers.jsonl")
    answers = [json.loads(row) for row in finished(tmp_path / "cut", "answers.jsonl").splitlines()]
    assert [one["id"] for one in answers] == ["81", "121", "82", "81/2", "121/2", "82/2"]


def test_a_cut_off_judge_is_asked_only_the_rest(
    tiny_causal: Path, questions: Path, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flags = judge(stub, ratings, "--judge-votes", "2")
    command = line(tiny_causal, f"mt_bench={questions}", tmp_path / "s", *flags)
    real = generative_steps.chat
    with monkeypatch.context() as patch:
        patch.setattr(
            generative_steps, "chat", lambda *a, expired, **k: real(*a, expired=lambda: len(stub.asked) >= 5, **k)
        )
        assert run(command) == 130
    assert len(stub.asked) == 5
    capsys.readouterr()
    assert overall(told(capsys, command)) == {"score": (pytest.approx(4.4), 5, 1)}
    assert len(stub.asked) == 12


def test_a_judge_reads_anew_when_the_answers_are_made_anew(
    tiny_causal: Path, questions: Path, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Cut off after five replies; then the answers are deleted and written again: the five were about others."""
    command = line(tiny_causal, f"mt_bench={questions}", tmp_path / "s", *judge(stub, ratings, "--judge-votes", "2"))
    real = generative_steps.chat
    with monkeypatch.context() as patch:
        patch.setattr(
            generative_steps, "chat", lambda *a, expired, **k: real(*a, expired=lambda: len(stub.asked) >= 5, **k)
        )
        assert run(command) == 130
    (answers,) = (tmp_path / "s").glob("done/*/*/answers.jsonl")
    assert run(["store", "rm", answers.parent.name, "--store", str(tmp_path / "s")]) == 0
    capsys.readouterr()
    stub.asked.clear()
    stub.script = Says(ratings)  # type: ignore[assignment]
    assert overall(told(capsys, command)) == {"score": (pytest.approx(4.4), 5, 1)}
    assert len(stub.asked) == 12


def test_a_judge_has_a_name(tiny_causal: Path, questions: Path, tmp_path: Path, stub: Stub, capsys: Any) -> None:
    """Its stored replies are found by it."""
    assert run(line(tiny_causal, f"mt_bench={questions}", tmp_path / "s", "--judge-url", stub.url)) == 2
    assert "--judge-model" in capsys.readouterr().err
    assert not stub.asked


def test_what_two_turns_took_is_added_up() -> None:
    first = {"answers": 3, "tokens": 10, "seconds": 1.5, "cost": None, "engine": "rows"}
    second = {"answers": 2, "tokens": 7, "seconds": 0.5, "cost": None, "engine": "rows"}
    assert generative_steps.summed_usage(first, second) == {
        "answers": 5,
        "tokens": 17,
        "seconds": 2.0,
        "cost": None,
        "engine": "rows",
    }


def test_prompts_of_all_temperatures_are_asked_before_a_failure_is_told(
    questions: Path, tmp_path: Path, stub: Stub, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MT-Bench asks maths at 0 and writing at 0.7: the failing prompt is of the lowest temperature, asked first."""
    monkeypatch.setattr("pyrite.models.remote_pace.LONGEST_BACKOFF", 0.001)
    stub.script["What is 6 times 7?"] = [Reply(500, {}) for _ in range(20)]
    flags = ["--backend", "openai", "--base-url", stub.url, "--concurrency", "1", "--retries", "1"]
    assert run(line("stub", f"mt_bench={questions}", tmp_path / "s", *flags)) == 2
    assert "Some prompts got no answer" in capsys.readouterr().err
    asked = [one["messages"][-1]["content"] for one in stub.asked]
    assert {"Write of a film.", "You are a critic."} <= set(asked)
