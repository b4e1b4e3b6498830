"""A loaded model's answers: where they end, what each prompt draws from, and how a cut-off file goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models.remote_stub import ignore_progress, prompts

from pyrite.errors import OutOfTime, UserError
from pyrite.models import generate as generating
from pyrite.models.answers import Answer, AnswerFile, Writing, read_answers
from pyrite.models.template import BETWEEN, render_chat
from pyrite.models.write import answer_prompts, cut_at, end_ids, opened_prompt, seed_of, stopper, written_text
from pyrite.records import Chat, Message

TEXTS = ("the film was", "the meal 7 was awful and", "a", "the trip was cold and the room was", "song")
GREEDY, HOT = Writing(max_new_tokens=12), Writing(max_new_tokens=12, temperature=1.5, seed=3)


@pytest.fixture(scope="module")
def loaded(tiny_causal: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_causal).eval(), AutoTokenizer.from_pretrained(tiny_causal)


def answers(loaded: tuple[Any, Any], out: Path, writing: Writing, *texts: str, **options: Any) -> dict[str, Answer]:
    answer_prompts(*loaded, prompts(*(texts or TEXTS)), writing, out, report_progress=ignore_progress, **options)
    return {answer.id: answer for answer in read_answers(out)}


def texts_of(by_id: dict[str, Answer]) -> dict[str, str]:
    return {name: answer.text for name, answer in by_id.items()}


def library(loaded: tuple[Any, Any], text: str, count: int) -> list[int]:
    """The most probable tokens, by the library's own loop."""
    import torch

    model, tokenizer = loaded
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    return output[0, ids.shape[1] :].tolist()


class CallCounter:
    """Watches which prompts reach the model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = generating.generate

        def watched(model: Any, prompt_list: Any, **options: Any) -> Any:
            self.count += len(prompt_list)
            return real(model, prompt_list, **options)

        monkeypatch.setattr(generating, "generate", watched)


def test_a_greedy_answer_is_the_librarys(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    by_id = answers(loaded, tmp_path / "a.jsonl", GREEDY)
    for text in TEXTS:
        answer, ids = by_id[f"id-{text}"], library(loaded, text + BETWEEN, 12)
        assert answer.text == loaded[1].decode(ids, skip_special_tokens=True)
        assert (answer.finish, answer.tokens) == (("stop" if 2 in ids else "length"), len(ids))
        assert answer.prompt_tokens == len(loaded[1](text + BETWEEN)["input_ids"])
        assert answer.attempt == 0


def test_text_before_the_first_stop_string() -> None:
    assert cut_at("one two three", ["three", "two"]) == "one "
    assert cut_at("two", ["two"]) == ""
    assert cut_at("one two", ["four"]) is None
    assert cut_at("one", []) is None


def test_an_answer_ends_before_a_stop_string(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    """The stop string is one that the model is known to write; its size is what the model wrote until then."""
    ids = library(loaded, TEXTS[0] + BETWEEN, 12)
    full = loaded[1].decode(ids)
    stop = full[3:6]
    used = next(n for n in range(1, 13) if stop in loaded[1].decode(ids[:n]))
    writing = Writing(max_new_tokens=12, stop=(stop, "@@"))
    answer = answers(loaded, tmp_path / "a.jsonl", writing, TEXTS[0])[f"id-{TEXTS[0]}"]
    assert (answer.text, answer.finish) == (full[: full.find(stop)], "stop")
    assert used < 12
    assert answer.tokens == used  # there was no end marker to be counted


def test_a_stop_string_is_found_across_tokens(loaded: tuple[Any, Any]) -> None:
    tokenizer = loaded[1]
    ids = tokenizer("the film was lovely END and on")["input_ids"]
    ended = stopper(tokenizer, ["lovely END"])
    assert not ended(0, tokenizer("the film was lovely EN")["input_ids"])
    assert ended(0, ids)
    far = tokenizer("lovely END" + " film" * 60)["input_ids"]
    assert not ended(0, far)  # it was looked for when it was written, not again at every token


def test_a_long_stop_string_of_several_tokens_a_character_is_found(loaded: tuple[Any, Any]) -> None:
    """Thirty characters that are three tokens each: ninety tokens to look back over."""
    tokenizer, stop = loaded[1], "東京" * 15
    ids = tokenizer(f"the film {stop}")["input_ids"]
    assert len(tokenizer(stop)["input_ids"]) == 90
    assert stopper(tokenizer, [stop])(0, ids)


def test_a_prompts_own_temperature(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    """Prompts at temperature 0 answer as if all were; the one with its own as if all had that."""
    prompt_id = f"id-{TEXTS[1]}"
    cold = texts_of(answers(loaded, tmp_path / "cold.jsonl", GREEDY))
    hot = texts_of(answers(loaded, tmp_path / "hot.jsonl", HOT))
    cold_seeded = GREEDY.model_copy(update={"seed": HOT.seed})
    mixed = texts_of(answers(loaded, tmp_path / "mixed.jsonl", cold_seeded, temperatures={prompt_id: 1.5}))
    assert mixed == cold | {prompt_id: hot[prompt_id]}
    assert hot[prompt_id] != cold[prompt_id]


def test_a_prompt_draws_the_same_whatever_else_is_asked(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    all_of_them = texts_of(answers(loaded, tmp_path / "all.jsonl", HOT))
    alone = texts_of(answers(loaded, tmp_path / "alone.jsonl", HOT, TEXTS[2]))
    turned = texts_of(answers(loaded, tmp_path / "turned.jsonl", HOT, *reversed(TEXTS), rows=2))
    assert alone == {f"id-{TEXTS[2]}": all_of_them[f"id-{TEXTS[2]}"]}
    assert turned == all_of_them


def test_another_seed_or_attempt_draws_anew(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    first = texts_of(answers(loaded, tmp_path / "a.jsonl", HOT))
    again = texts_of(answers(loaded, tmp_path / "b.jsonl", HOT))
    other_seed = texts_of(answers(loaded, tmp_path / "c.jsonl", HOT.model_copy(update={"seed": 4})))
    assert again == first
    assert all(other_seed[name] != first[name] for name in first)
    answer_prompts(*loaded, prompts(*TEXTS), HOT, tmp_path / "a.jsonl", attempt=1, report_progress=ignore_progress)
    votes = list(read_answers(tmp_path / "a.jsonl"))
    assert [answer.attempt for answer in votes] == [0] * 5 + [1] * 5
    assert {answer.id: answer.text for answer in votes[:5]} == first
    assert all(answer.text != first[answer.id] for answer in votes[5:])
    seeds = {tuple(seed_of(*arguments)) for arguments in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))}
    assert len(seeds) == 4


@pytest.mark.parametrize("writing", [GREEDY, HOT])
def test_a_torn_file_goes_on(
    writing: Writing, loaded: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two answers and half of a third are there: three prompts are asked, and every answer is as of one run."""
    complete = answers(loaded, tmp_path / "whole.jsonl", writing)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(b"".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    counter = CallCounter(monkeypatch)
    counts = answer_prompts(*loaded, prompts(*TEXTS), writing, torn, report_progress=ignore_progress)
    assert (counter.count, counts["answers"], counts["kept"]) == (3, 5, 2)
    assert {answer.id: answer for answer in read_answers(torn)} == complete
    assert torn.read_bytes().splitlines(keepends=True)[:2] == lines[:2]
    assert answer_prompts(*loaded, prompts(*TEXTS), writing, torn, report_progress=ignore_progress)["kept"] == 5
    assert counter.count == 3


def test_what_is_kept_is_not_asked_again_even_if_it_reads_otherwise(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    with AnswerFile(out) as file:
        file.add(Answer("id-a", "from before", "stop"))
    assert answers(loaded, out, GREEDY)["id-a"].text == "from before"


def test_time_that_is_up_keeps_what_is_finished(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    progress_reports: list[tuple[float, float]] = []

    def report_progress(finished: float, total: float, unit: str) -> None:
        progress_reports.append((finished, total))

    with pytest.raises(OutOfTime):
        answer_prompts(
            *loaded, prompts(*TEXTS), GREEDY, out, report_progress=report_progress, expired=lambda: True, rows=1
        )
    assert [json.loads(line)["finish"] for line in out.read_text().splitlines()] == ["length"]
    assert progress_reports == [(1, 5)]
    for _ in range(3):
        with pytest.raises(OutOfTime):
            answer_prompts(
                *loaded, prompts(*TEXTS), GREEDY, out, report_progress=report_progress, expired=lambda: True, rows=1
            )
    answer_prompts(
        *loaded, prompts(*TEXTS), GREEDY, out, report_progress=report_progress, expired=lambda: True, rows=1
    )  # the last one: no time needed
    assert progress_reports == [(n, 5) for n in range(1, 6)]
    assert {answer.id: answer for answer in read_answers(out)} == answers(loaded, tmp_path / "b.jsonl", GREEDY)


def test_two_prompts_of_one_id_are_refused(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="same id"):
        answer_prompts(*loaded, prompts("a", "a"), GREEDY, tmp_path / "a.jsonl", report_progress=ignore_progress)


def test_what_the_model_reads(tiny_causal: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    chat = Chat((Message("user", "one"), Message("assistant", "two"), Message("user", "three")), "x")
    assert render_chat(tokenizer, chat.messages, opened=True, row_name="prompt") == "one\n\ntwo</s>\n\nthree\n\n"
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert (
        render_chat(tokenizer, chat.messages, opened=True, row_name="prompt")
        == "<s>[user] one\n[assistant] two\n[user] three\n[assistant]"
    )
    text, ids = opened_prompt(tokenizer, chat)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids) == text == render_chat(tokenizer, chat.messages, opened=True, row_name="prompt")


def test_the_tokens_that_end_an_answer(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    before = model.generation_config.eos_token_id
    try:
        for named, want in ((None, [2]), (7, [2, 7]), ([9, 2], [2, 9])):
            model.generation_config.eos_token_id = named
            assert end_ids(model, tokenizer) == want
    finally:
        model.generation_config.eos_token_id = before


THINKING = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[a] <think>\n{% endif %}"


def test_a_thought_that_the_prompt_opens_is_part_of_the_answer(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer = loaded[1]
    try:
        tokenizer.chat_template = THINKING
        by_id = answers(loaded, tmp_path / "a.jsonl", GREEDY, "a")
        tokenizer.chat_template = THINKING.replace("<think>", "{{ '<think>' if think is defined }}")
        plain = answers(loaded, tmp_path / "b.jsonl", GREEDY, "a")
        again = answers(loaded, tmp_path / "c.jsonl", GREEDY, "a", template_kwargs={"think": True})
    finally:
        tokenizer.chat_template = None
    assert by_id["id-a"].text.startswith("<think>\n")
    assert not plain["id-a"].text.startswith("<think>")
    assert again == by_id


def test_special_tokens_around_a_thought_are_kept(tiny_causal: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "[INST]"]})
    ids = tokenizer("[THINK]the film[/THINK][INST]was</s>", add_special_tokens=False)["input_ids"]
    assert written_text(tokenizer, ids) == "[THINK]the film[/THINK]was"
    assert written_text(tokenizer, ids[ids.index(tokenizer.convert_tokens_to_ids("[INST]")) :]) == "was"
