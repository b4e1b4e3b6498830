"""Endpoints through the command: what is missing and why, what was left out, which replies of a judge hold no verdict."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.models.remote_stub import Reply, Stub, good, served
from tests.probe.written_kit import instructions_in, jsonl, judge, line, overall, questions_in, ratings, told

from pyrite.cli import run

KEY = "sk-test-0123456789abcdef"
TOO_LONG = {"error": {"message": f"This model's maximum context length is 8 tokens. ({KEY})", "code": 400}}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as server:
        yield server


def endpoint(stub: Stub, *more: str) -> list[str]:
    return ["--backend", "openai", "--base-url", stub.url, "--concurrency", "1", "--retries", "1", *more]


def gsm8k_in(folder: Path, count: int) -> Path:
    return jsonl([{"question": f"What is {at}?", "answer": f"#### {at}"} for at in range(count)], folder / "q.jsonl")


class Script(dict[str, list[Reply]]):
    """The stub's replies as a function of what is asked; None is answered well."""

    def __init__(self, reply: Callable[[str], Reply | None]) -> None:
        super().__init__()
        self.reply = reply

    def __getitem__(self, content: str) -> list[Reply]:
        reply = self.reply(content)
        return [] if reply is None else [reply]


def asked(stub: Stub) -> list[str]:
    return [body["messages"][-1]["content"] for body in stub.asked]


def test_a_prompt_that_is_refused_is_one_missing_item(
    tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three prompts the second is too long, and one reply holds no text: n and n_missing, reasons, and no key."""
    pytest.importorskip("lm_eval")
    file = instructions_in(tmp_path)
    stub.script["the film 8 was"] = [Reply(400, TOO_LONG)]
    stub.script["the film 9 was"] = [Reply(body=good(None))] * 2
    command = line("stub", f"ifeval={file}", tmp_path / "s", *endpoint(stub), "--out", str(tmp_path / "run"))
    card = told(capsys, command)
    assert overall(card)["prompt_strict"] == (1.0, 1, 2)
    first = card["notes"][0]
    assert first.startswith(
        "67% of the answers are missing, more than the 10% that a verdict bears: 2 of 3 prompts got no answer and count "
        "as missing: longer than the model reads 1, a reply without text 1; first: 8: status 400: This model's maximum"
    )
    assert card["details"]["answers"]["missing"] == {"longer than the model reads": 1, "a reply without text": 1}
    for file in [path for folder in ("s", "run") for path in (tmp_path / folder).rglob("*") if path.is_file()]:
        assert KEY.encode() not in file.read_bytes(), file
    count = len(stub.asked)
    assert told(capsys, command)["overall"] == card["overall"]
    assert len(stub.asked) == count  # the same command asks nothing: missing is final


def test_missing_answers_leave_a_gate_undecided_and_are_the_first_line(
    tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that came back is right, and the interval says so; two of ten lack, so the gate is undecided."""
    file = gsm8k_in(tmp_path, 10)

    def reply(content: str) -> Reply:
        number = content.rpartition("What is ")[2].partition("?")[0]
        return Reply(400, TOO_LONG) if number in ("3", "7") else Reply(body=good(f"#### {number}"))

    stub.script = Script(reply)
    flags = [*endpoint(stub), "--gate", "gsm8k.accuracy >= 50%"]
    command = [word for word in line("stub", f"gsm8k={file}", tmp_path / "s", *flags) if word != "--json"]
    code = run(command)
    out = capsys.readouterr().out
    assert code == 3, out
    lines = [text for text in out.splitlines() if text.strip()]
    assert "2 of 10 items have no value, more than the share of 0.1 that a verdict bears" in lines[0]
    assert "gate undecided" in out


def test_a_fault_of_the_setting_stops_and_names_it(
    tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"message": "max_tokens is too large: 8. At most 4.", "param": "max_tokens"}
    stub.always = Reply(400, {"error": error})
    assert run(line("stub", f"gsm8k={gsm8k_in(tmp_path, 20)}", tmp_path / "s", *endpoint(stub))) == 2
    err = capsys.readouterr().err
    assert "max_tokens is too large: 8" in err
    assert "leave it out" in err
    assert len(stub.asked) == 4


def test_parameters_are_left_out_and_said_to_be(tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The server refuses `seed` once; `top_p` is left out by the settings, which is part of what the answers are known by."""
    file = gsm8k_in(tmp_path, 3)

    refusal = Reply(422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    stub.script = Script(lambda content: refusal if "seed" in stub.asked[-1] else None)
    flags = endpoint(stub, "--leave-out", "top_p", "--rename", "max_tokens=max_output")
    card = told(capsys, line("stub", f"gsm8k={file}", tmp_path / "s", *flags))
    assert {
        "max_tokens was sent as max_output (as set): 3 of 3 answers",
        "seed was left out (the server refuses it): 3 of 3 answers",
        "top_p was left out (as set): 3 of 3 answers",
    } <= set(card["notes"])
    assert set(stub.asked[-1]) == {"model", "messages", "max_output", "temperature"}
    assert len(stub.asked) == 4
    told(capsys, line("stub", f"gsm8k={file}", tmp_path / "s", *endpoint(stub)))
    assert len(stub.asked) > 4  # other requests, other answers
    before = len(stub.asked)
    slash = [word.replace("/v1", "/v1/") if word == stub.url else word for word in flags]
    told(capsys, line("stub", f"gsm8k={file}", tmp_path / "s", *slash))
    assert len(stub.asked) == before


def test_options_that_cannot_be(tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--leave-out", "seeds"], ["--rename", "seed"]):
        assert run(line("stub", f"gsm8k={gsm8k_in(tmp_path, 3)}", tmp_path / "s", *endpoint(stub, *flags))) == 2
        assert "An endpoint's options do not fit" in capsys.readouterr().err


def test_another_model_than_the_one_that_was_asked_for(
    tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    card = told(capsys, line("big-model", f"gsm8k={gsm8k_in(tmp_path, 3)}", tmp_path / "s", *endpoint(stub)))
    assert "asked for big-model; the server says that it is stub-1" in card["notes"]
    card = told(capsys, line("stub", f"gsm8k={gsm8k_in(tmp_path, 3)}", tmp_path / "s", *endpoint(stub)))
    assert not any("asked for" in note for note in card["notes"])


def test_a_missing_first_turn_has_no_second(tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The only prompt of the lowest temperature is asked first and refused: others are answered, so it is missing."""
    stub.script["What is 6 times 7?"] = [Reply(400, TOO_LONG)]
    stub.script["Write it again."] = [Reply(body=good(None, finish="length", reasoning="Hm"))]
    card = told(capsys, line("stub", f"mt_bench={questions_in(tmp_path)}", tmp_path / "s", *endpoint(stub)))
    assert "And 6 times 8?" not in asked(stub)
    assert card["details"]["answers"]["missing"] == {
        "longer than the model reads": 1, "cut at the limit before any text": 1,
    }  # fmt: skip


def test_why_a_judge_could_not_be_read(
    tiny_causal: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six replies: two ratings, one without a line, one out of the scale, one empty, one cut at its limit."""

    replies: Iterator[Any] = iter([
        good("RATING: 8"), good("I would rather not say."), good("Splendid.\nRATING: 11"), good(""),
        good("First, it is", finish="length"), good("RATING: 4"),
    ])  # fmt: skip
    flags = judge(stub, ratings)
    stub.script = Script(lambda content: Reply(body=next(replies)))
    command = line(tiny_causal, f"mt_bench={questions_in(tmp_path)}", tmp_path / "s", *flags)
    card = told(capsys, command)
    assert overall(card) == {"score": (6.0, 2, 4)}
    unread = card["details"]["judge"]["unread"]
    assert (unread["replies"], unread["unread"]) == (6, 4)
    assert unread["reasons"] == {
        "no line of the verdict's form": 1,
        "its verdict is outside the scale": 1,
        "empty": 1,
        "cut at the limit before its verdict": 1,
    }
    assert [example["reply"] for example in unread["examples"]] == [
        "I would rather not say.",
        "Splendid.\nRATING: 11",
        "",
    ]
    (note,) = [note for note in card["notes"] if "replies of the judge" in note]
    assert note.startswith("4 of 6 replies of the judge could not be read and count as missing: no line of the verdict")
    assert "'I would rather not say.'" in note
    (kept,) = (tmp_path / "s").glob("done/*/*/replies.jsonl")
    assert [json.loads(row)["text"] for row in kept.read_text().splitlines()][1] == "I would rather not say."


def test_a_reply_that_the_judge_withholds_is_missing_with_its_reason(
    tiny_causal: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    withheld = Reply(400, {"error": {"code": "content_filter", "message": "filtered"}})
    rated = Reply(body=good("RATING: 5"))
    replies = iter([rated, withheld, Reply(400, TOO_LONG), rated, rated, rated])
    flags = judge(stub, ratings)
    stub.script = Script(lambda content: next(replies))
    card = told(capsys, line(tiny_causal, f"mt_bench={questions_in(tmp_path)}", tmp_path / "s", *flags))
    assert overall(card) == {"score": (5.0, 4, 2)}
    assert card["details"]["judge"]["unread"]["reasons"] == {"withheld": 1, "longer than the model reads": 1}
