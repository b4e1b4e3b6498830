"""Answers from an endpoint: what is sent, kept, resumed, bounded, counted; and where the key does not go."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from remote_stub import Reply, Stub, good, ignore_progress, prompts, served

from pyrite.errors import OutOfTime, UserError
from pyrite.models.answers import Writing, read_answers
from pyrite.models.remote import Endpoint, Usage, chat, ordered

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as server:
        yield server


def ask(stub: Stub, texts: str, out: Path, writing: Writing | None = None, **overrides: Any) -> Usage:
    """Ask one prompt for each letter; options of the endpoint and of `chat` are told apart by name."""
    options = {key: overrides.pop(key) for key in list(overrides) if key in Endpoint.model_fields}
    endpoint = Endpoint(**{"base_url": stub.url, "model": "stub", **options})
    arguments = {"report_progress": ignore_progress, "base_wait": 0.001, **overrides}
    return chat(endpoint, prompts(*texts), writing or Writing(), out, **arguments)


def test_what_is_sent_and_what_is_kept(stub: Stub, tmp_path: Path) -> None:
    reports: list[tuple[float, float, str]] = []
    writing = Writing(max_new_tokens=7, temperature=0.5, top_p=0.9, stop=("END",), seed=4)
    usage = ask(stub, "abc", tmp_path / "a", writing, report_progress=lambda *report: reports.append(report))
    assert stub.texts() == ["a", "b", "c"]
    body = next(body for body in stub.asked if body["messages"][-1]["content"] == "a")
    seed = body.pop("seed")
    assert body == {
        "model": "stub", "messages": [{"role": "user", "content": "a"}], "max_tokens": 7, "temperature": 0.5,
        "top_p": 0.9, "stop": ["END"],
    }  # fmt: skip
    assert 0 <= seed < 2**31
    assert set(stub.keys) == {f"Bearer {KEY}"}
    assert reports == [(done, 3, "answers") for done in range(4)]
    answers = ordered(tmp_path / "a", prompts(*"cxab"))
    assert [answer and answer.id for answer in answers] == ["id-c", None, "id-a", "id-b"]
    assert answers[0] is not None
    assert (answers[0].text, answers[0].finish, answers[0].tokens, answers[0].prompt_tokens) == ("fine", "stop", 5, 10)
    assert answers[0].meta == {"model": "stub-1", "system_fingerprint": "fp_9"}
    assert (usage.requests, usage.retries, usage.failed, usage.unknown_tokens, usage.cost) == (3, 0, 0, 0, None)


def test_votes_have_seeds_of_their_own_that_repeat(stub: Stub, tmp_path: Path) -> None:
    for name in "xy":
        ask(stub, "ab", tmp_path / name, attempts=3)
    first, second = stub.asked[:6], stub.asked[6:]
    seeds = [{(body["messages"][0]["content"], body["seed"]) for body in half} for half in (first, second)]
    assert seeds[0] == seeds[1]
    assert len({seed for _, seed in seeds[0]}) == 6
    votes = ordered(tmp_path / "x", prompts(*"ab"), 3)
    expected = [(f"id-{text}", at) for text in "ab" for at in range(3)]
    assert [(vote.id, vote.attempt) for vote in votes if vote] == expected


def test_a_finished_file_asks_nothing_and_more_votes_ask_only_those(stub: Stub, tmp_path: Path) -> None:
    ask(stub, "ab", tmp_path / "a")
    assert ask(stub, "ab", tmp_path / "a").requests == 0
    assert ask(stub, "ab", tmp_path / "a", attempts=2).requests == 2
    assert len(stub.asked) == 4


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """A process that was started in the background ignores the signal: listen to it for this test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_file_that_goes_on(stub: Stub, tmp_path: Path, hears_ctrl_c: None) -> None:
    def interrupt(finished: float, total: float, unit: str) -> None:
        if finished == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ask(stub, "abcdefgh", tmp_path / "a", report_progress=interrupt, concurrency=1)
    finished_ids = {answer.id for answer in read_answers(tmp_path / "a")}
    assert len(finished_ids) == 3
    with (tmp_path / "a").open("ab") as sink:
        sink.write(b'{"id":"id-h","text":"torn')
    assert ask(stub, "abcdefgh", tmp_path / "a").requests == 5
    assert len(list(read_answers(tmp_path / "a"))) == 8


def test_time_over_stops_asking_and_keeps_what_was_under_way(stub: Stub, tmp_path: Path) -> None:
    stub.always.delay = 0.05
    with pytest.raises(OutOfTime, match=r"2 answers are kept in .*, 6 are left"):
        ask(stub, "abcdefgh", tmp_path / "a", concurrency=2, expired=lambda: len(stub.asked) >= 2)
    assert len(stub.asked) == 2
    assert ask(stub, "abcdefgh", tmp_path / "a").requests == 6
    assert ask(stub, "abcdefgh", tmp_path / "a", expired=lambda: True).requests == 0  # nothing left: not out of time


def test_time_over_ends_a_wait(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(503, {}, {"retry-after": "300"})]
    began = time.monotonic()
    with pytest.raises(OutOfTime, match="1 are left"):
        ask(stub, "a", tmp_path / "a", expired=lambda: time.monotonic() > began + 0.3)
    assert time.monotonic() - began < 3
    assert len(stub.asked) == 1


def test_no_more_than_so_many_at_once(stub: Stub, tmp_path: Path) -> None:
    stub.always.delay = 0.05
    ask(stub, "abcdefghijkl", tmp_path / "a", concurrency=3)
    assert stub.peak == 3


def test_the_rate_is_evenly_spread(stub: Stub, tmp_path: Path) -> None:
    """1200 a minute are 50 ms apart: six take a quarter of a second, and no two come together."""
    ask(stub, "abcdef", tmp_path / "a", requests_per_minute=1200)
    gaps = [later - sooner for sooner, later in zip(stub.times, stub.times[1:], strict=False)]
    assert stub.times[-1] - stub.times[0] > 0.22
    assert sum(gap > 0.02 for gap in gaps) >= 4


def test_tokens_and_cost(stub: Stub, tmp_path: Path) -> None:
    """Three answers of 10 + 5 tokens at 2 and 8 a million: (30 * 2 + 15 * 8) / 1e6 = 0.00018; a fourth tells none."""
    stub.script["d"] = [Reply(body=good(usage=None))]
    usage = ask(stub, "abcd", tmp_path / "a", price_in=2.0, price_out=8.0)
    assert (usage.prompt_tokens, usage.tokens, usage.unknown_tokens) == (30, 15, 1)
    assert usage.cost == pytest.approx(0.00018)
    assert 0 < usage.seconds < 10
    last = ordered(tmp_path / "a", prompts("d"))[0]
    assert last is not None
    assert (last.tokens, last.prompt_tokens) == (None, None)


def test_a_resumed_run_tells_what_all_its_answers_cost(stub: Stub, tmp_path: Path) -> None:
    stub.script["d"] = [Reply(body=good(usage=None)), Reply(body=good(None, refusal="I will not."))]
    first = ask(stub, "abd", tmp_path / "a", price_in=2.0, price_out=8.0)
    again = ask(stub, "abcd", tmp_path / "a", price_in=2.0, price_out=8.0)
    assert (first.kept, first.requests, first.unknown_tokens) == (0, 3, 1)
    assert (again.kept, again.requests, again.unknown_tokens, again.refused) == (3, 1, 1, 0)
    assert (again.prompt_tokens, again.tokens) == (30, 15)
    assert again.cost == pytest.approx(0.00018)
    nothing_left = ask(stub, "abcd", tmp_path / "a", price_in=2.0, price_out=8.0)
    assert (nothing_left.kept, nothing_left.requests, nothing_left.cost) == (4, 0, pytest.approx(0.00018))


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (good("so it is", finish="length"), "so it is", "length"),
        (good("one END two END"), "one ", "stop"),
        (good("one END two", finish="length"), "one ", "stop"),
        (good(""), "", "stop"),
        (good(None, finish="length"), "", "missing"),  # all of the limit went into thinking
        (good(" ", finish="length"), "", "missing"),
        (good("", finish=None, usage={"prompt_tokens": 1, "completion_tokens": 9}), "", "missing"),
        (good("x", finish=None), "x", "stop"),
        (good("x", finish=None, usage={"prompt_tokens": 1, "completion_tokens": 9}), "x", "length"),
        (good("half a", finish="content_filter"), "", "refused"),
        (good(None, refusal="I will not."), "", "refused"),
    ],
)
def test_how_answers_end(stub: Stub, tmp_path: Path, body: Any, text: str, finish: str) -> None:
    stub.script["a"] = [Reply(body=body)]
    usage = ask(stub, "a", tmp_path / "a", Writing(stop=("END",), max_new_tokens=9))
    (answer,) = read_answers(tmp_path / "a")
    assert (answer.text, answer.finish) == (text, finish)
    assert (usage.refused, usage.missing) == (finish == "refused", finish == "missing")
    assert answer.why_missing == {"missing": "cut at the limit before any text", "refused": "withheld"}.get(finish, "")
    assert answer.meta.get("refusal") == ("I will not." if body["choices"][0]["message"].get("refusal") else None)


def test_the_only_model_is_taken(stub: Stub, tmp_path: Path) -> None:
    ask(stub, "a", tmp_path / "a", model=None)
    assert stub.asked[0]["model"] == "stub"
    for models, detail in ((["one", "two"], "2 models: one, two"), ([], "0 models: none")):
        stub.models = models
        with pytest.raises(UserError, match="exactly one model") as caught:
            ask(stub, "b", tmp_path / "b", model=None)
        assert caught.value.found == detail
    assert len(stub.asked) == 1


def test_a_model_that_wants_the_newer_name_of_the_limit(stub: Stub, tmp_path: Path) -> None:
    error = {"message": "Use 'max_completion_tokens'.", "param": "max_tokens", "code": "unsupported_parameter"}
    stub.script["a"] = [Reply(400, {"error": error})]
    assert ask(stub, "abc", tmp_path / "a", Writing(max_new_tokens=6), concurrency=1, retries=0).requests == 4
    limits = [{key: value for key, value in body.items() if key.startswith("max")} for body in stub.asked]
    assert limits == [{"max_tokens": 6}] + [{"max_completion_tokens": 6}] * 3


def test_a_local_server_needs_no_key(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ask(stub, "a", tmp_path / "a")
    monkeypatch.setenv("MINE", "my-own-key")
    ask(stub, "b", tmp_path / "b", key_variable="MINE")
    assert stub.keys == ["Bearer none", "Bearer my-own-key"]
    monkeypatch.setenv("MINE", "two words")
    with pytest.raises(UserError, match=r"\$MINE") as caught:
        ask(stub, "c", tmp_path / "c", key_variable="MINE")
    assert "two words" not in str(caught.value)


def test_an_event_loop_that_runs_already(stub: Stub, tmp_path: Path) -> None:
    async def notebook() -> Usage:
        return ask(stub, "ab", tmp_path / "a")

    assert asyncio.run(notebook()).requests == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"base_url": "ftp://host/v1"}, "http"),
        ({"base_url": "localhost:8000/v1"}, "http"),
        ({"base_url": "http:///v1"}, "names a host"),
        ({"base_url": "http://host:x/v1"}, "no address"),
        ({"base_url": "https://me:sk-secret-123@host/v1"}, "no place in an address"),
        ({"base_url": "https://host/v1?key=sk-secret-123"}, "leave out what follows"),
        ({"key_variable": "sk-secret-123"}, "key_variable"),
        ({"price_in": 1.0}, "give both"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Endpoint(**{"base_url": "http://host/v1", **wrong})
    assert "sk-secret-123" not in str(caught.value)


def test_loading_the_options_loads_no_client() -> None:
    code = "import sys, pyrite.models.remote; print([m for m in ('openai', 'tenacity', 'torch') if m in sys.modules])"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)) == []
