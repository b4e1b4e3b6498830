"""An endpoint that fails: what is asked again, what stops the run, what is told, and that the key is told nowhere."""

import json
import socket
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from remote_stub import Reply, Stub, good, ignore_progress, prompts, served

from pyrite.errors import UserError
from pyrite.models.answers import Writing, read_answers
from pyrite.models.remote import Endpoint, Usage, chat
from pyrite.models.remote_fault import retry_after

KEY = "sk-test-0123456789abcdef"
WHOLE = json.dumps(good()).encode()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as server:
        yield server


def ask(url: str, texts: str, out: Path, usage: Usage | None = None, **options: Any) -> Usage:
    endpoint = Endpoint(**{"base_url": url, "model": "stub", **options})
    return chat(
        endpoint, prompts(*texts), Writing(), out, report_progress=ignore_progress, usage=usage, base_wait=0.001
    )


def everything_told(error: BaseException | None) -> str:
    """An error's message, representation and traceback, and those of all errors behind it, shown or not."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


FAULTS = {
    "429 at once": Reply(429, {"error": {"message": "slow down"}}, {"retry-after": "0"}),
    "429": Reply(429, {"error": {"message": "slow down"}}),
    "500": Reply(500, b"<html>Internal Server Error</html>", {"content-type": "text/html"}),
    "502": Reply(502, b""),
    "503": Reply(503, {"detail": "loading"}),
    "504": Reply(504, {}),
    "529": Reply(529, {}),
    "late": Reply(body=good("late"), delay=1.5),
    "dripping": Reply(body=good("late"), drip=0.02),
    "no reply": Reply(drop=True),
    "a page": Reply(body=b"<html>hello</html>", headers={"content-type": "text/html"}),
    "not JSON": Reply(body=b"\xff\xfe garbage"),
    "torn": Reply(body=WHOLE[: len(WHOLE) // 2]),
    "not packed as it says": Reply(body=b"\x1f\x8b garbage", headers={"content-encoding": "gzip"}),
    "nothing": Reply(body=b""),
    "a list": Reply(body=[1]),
    "no choices": Reply(body={"model": "stub"}),
    "an error inside": Reply(body={"error": {"message": "upstream is down"}}),
    "empty choices": Reply(body={**good(), "choices": []}),
    "odd choices": Reply(body={**good(), "choices": ["x"]}),
    "no message": Reply(body={**good(), "choices": [{"finish_reason": "stop"}]}),
    "null": Reply(body=good(None)),
    "parts without text": Reply(body=good([{"type": "image", "image": "x"}])),
    "a torn stream": Reply(body=b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'),
    "a stream's error": Reply(body=b'data: {"error": {"message": "busy", "code": 503}}\n\n'),
    "busy inside": Reply(body={"error": {"message": "busy", "code": 429}}),
    "busy inside a choice": Reply(body={**good("half"), "choices": [{"error": {"code": 502, "message": "lost"}}]}),
    "the key": Reply(body=good(f"You are {KEY}")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_asked_again(stub: Stub, tmp_path: Path, name: str) -> None:
    stub.script["b"] = [FAULTS[name]]
    ask(stub.url, "a", tmp_path / "a")  # loads the client, so that the short time below is the server's alone
    usage = ask(stub.url, "ab", tmp_path / "a", timeout_s=1.0 if name in ("late", "dripping") else 60)
    assert {answer.id: answer.text for answer in read_answers(tmp_path / "a")} == {"id-a": "fine", "id-b": "fine"}
    assert (usage.requests, usage.retries, usage.failed) == (2, 1, 0)
    assert stub.texts() == ["a", "b", "b"]
    assert len({body["seed"] for body in stub.asked}) == 2  # the same seed again


def test_a_lasting_fault_fails_its_prompt_only(stub: Stub, tmp_path: Path) -> None:
    stub.script["b"] = [Reply(body=good(None))] * 3
    stub.script["d"] = [FAULTS["500"]] * 3
    usage = Usage()
    with pytest.raises(UserError, match="Some prompts got no answer") as caught:
        ask(stub.url, "abcde", tmp_path / "a", usage, retries=2, concurrency=1)
    assert caught.value.found == (
        "1 failed; first: prompt 'id-d', attempt 0: status 500: a web page: Internal Server Error"
    )
    assert "4 answers are kept" in caught.value.fix
    assert "on_failure" in caught.value.fix
    missing = {answer.id: answer.meta["detail"] for answer in read_answers(tmp_path / "a") if answer.why_missing}
    assert missing == {"id-b": "the reply's content is null (finish_reason: stop)"}
    assert (usage.requests, usage.retries, usage.failed, usage.missing) == (9, 4, 1, 1)
    assert usage.prompt_tokens == 60  # null replies cost too
    stub.script["d"] = [FAULTS["500"], Reply(500, {"error": {"message": f"no \x1b[31mmemory for {KEY}\nat all"}})]
    with pytest.raises(UserError) as caught:
        ask(stub.url, "abcde", tmp_path / "a", retries=1)
    assert "status 500: no [31mmemory for [key] at all" in caught.value.found
    assert ask(stub.url, "abcde", tmp_path / "a").requests == 1
    assert KEY not in (tmp_path / "a").read_text()


@pytest.mark.parametrize(
    ("status", "fix"),
    [(400, "check the key"), (401, r"\$OPENAI_API_KEY \(set\)"), (403, "check the key"), (404, "/v1")],
)
def test_what_no_retry_can_mend_stops_at_once(stub: Stub, tmp_path: Path, status: int, fix: str) -> None:
    stub.script["b"] = [Reply(status, {"error": {"message": f"Incorrect API key: {KEY}.", "code": "no"}})]
    with pytest.raises(UserError, match=fix) as caught:
        ask(stub.url, "abcdef", tmp_path / "a", concurrency=1)
    assert f"prompt 'id-b': status {status}: Incorrect API key: [key]." in caught.value.found
    assert stub.texts() == ["a", "b"]
    assert [answer.id for answer in read_answers(tmp_path / "a")] == ["id-a"]
    assert KEY not in everything_told(caught.value)
    assert ask(stub.url, "abcdef", tmp_path / "a").requests == 5


def test_requests_under_way_are_kept_when_another_stops_the_run(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(404, {"detail": "no such model"}, delay=0.05)]
    stub.script["b"] = [Reply(body=good("slow"), delay=0.4)]
    with pytest.raises(UserError, match="no such model"):
        ask(stub.url, "abcd", tmp_path / "a", concurrency=2)
    assert [(answer.id, answer.text) for answer in read_answers(tmp_path / "a")] == [("id-b", "slow")]
    assert stub.texts() == ["a", "b"]


def test_an_account_without_credit_is_not_asked_again(stub: Stub, tmp_path: Path) -> None:
    stub.always = Reply(429, {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}})
    with pytest.raises(UserError, match="credit"):
        ask(stub.url, "ab", tmp_path / "a", concurrency=1)
    assert len(stub.asked) == 1


def test_a_prompt_that_the_filter_refuses_is_an_answer(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(400, {"error": {"message": "The prompt was filtered.", "code": "content_filter"}})]
    usage = ask(stub.url, "ab", tmp_path / "a", concurrency=1)
    first, _ = read_answers(tmp_path / "a")
    assert (first.finish, first.text, first.tokens) == ("refused", "", None)
    assert (usage.refused, usage.unknown_tokens, usage.failed) == (1, 1, 0)


def test_a_break_that_is_asked_for_holds_all_requests(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(429, {}, {"retry-after": "0.4"})]
    ask(stub.url, "abc", tmp_path / "a", concurrency=1)
    assert stub.times[1] - stub.times[0] >= 0.4
    stub.times.clear()
    stub.script["d"] = [Reply(429, {}, {"retry-after-ms": "400"})]
    stub.script["e"] = [Reply(body=good(), delay=0.1)]
    ask(stub.url, "defg", tmp_path / "a", concurrency=2)
    assert stub.times[2] - stub.times[0] >= 0.4  # f waits too


def test_a_break_holds_requests_that_had_their_turn(stub: Stub, tmp_path: Path) -> None:
    """At 600 a minute eight requests have turns 0.1 s apart; the first is told to wait 0.5 s, and so do all."""
    stub.script["a"] = [Reply(429, {}, {"retry-after-ms": "500"})]
    ask(stub.url, "abcdefgh", tmp_path / "a", concurrency=8, requests_per_minute=600)
    assert len(stub.times) == 9
    assert stub.times[1] - stub.times[0] >= 0.45
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(stub.times))  # and at their pace after it


def test_too_long_a_break_stops(stub: Stub, tmp_path: Path) -> None:
    stub.always = Reply(429, {"error": {"message": "daily limit"}}, {"retry-after": "3599"})
    with pytest.raises(UserError, match="asks to wait 3599 s") as caught:
        ask(stub.url, "ab", tmp_path / "a", concurrency=1)
    assert "in 60 minutes" in caught.value.fix
    assert len(stub.asked) == 1


def test_reading_retry_after() -> None:
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    date = format_datetime(now.replace(minute=2), usegmt=True)
    assert date == "Sun, 01 Mar 2026 12:02:00 GMT"
    read = {
        text: retry_after({"retry-after": text}, now.timestamp())
        for text in ("7", "-3", date, "soon", "nan", "inf", "")
    }
    assert read == {"7": 7.0, "-3": 0.0, date: 120.0, "soon": None, "nan": None, "inf": None, "": None}
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}, 0) == 0.25
    assert retry_after({}, 0) is None


def test_no_redirect_is_followed(stub: Stub, tmp_path: Path) -> None:
    with served() as second_server:
        stub.always = Reply(307, b"", {"location": f"{second_server.url}/chat/completions"})
        with pytest.raises(UserError, match=r"status 307.*points to") as caught:
            ask(stub.url, "ab", tmp_path / "a", concurrency=1)
        assert second_server.url in caught.value.found
        assert "final address" in caught.value.fix
        assert second_server.asked == []


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    """A hundred prompts are not each tried to the end: after sixteen failures in a row the rest is left."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        usage = Usage()
        began = time.monotonic()
        with pytest.raises(UserError, match="no connection") as caught:
            ask(url, "".join(chr(200 + at) for at in range(100)), tmp_path / "a", usage, retries=1, concurrency=8)
        assert time.monotonic() - began < 10
    assert 16 <= usage.failed <= 24
    assert f"{usage.failed} failed, {100 - usage.failed} were then not asked" in caught.value.found
    with pytest.raises(UserError, match="the list of models: no connection"):
        ask(url, "a", tmp_path / "b", retries=1, model=None)


def test_a_key_cut_in_half_by_a_short_message_is_not_told(stub: Stub, tmp_path: Path) -> None:
    stub.always = Reply(body=b"x" * 290 + KEY.encode() + b"y" * 50)
    with pytest.raises(UserError) as caught:
        ask(stub.url, "a", tmp_path / "a", retries=0)
    assert "sk-test" not in everything_told(caught.value)
    assert "x" * 100 in caught.value.found


def test_the_key_is_in_nothing_that_is_kept(stub: Stub, tmp_path: Path) -> None:
    stub.always = Reply(body={**good("fine", refusal=f"not for {KEY}"), "model": f"m-{KEY}"})
    ask(stub.url, "a", tmp_path / "a")
    written = (tmp_path / "a").read_text()
    assert KEY not in written
    assert '"m-[key]"' in written
    endpoint = Endpoint(base_url=stub.url)
    assert KEY not in repr(endpoint) + str(endpoint.model_dump_json())
