"""Rows that a chat template or a model's length refuses: counted before a run stops, or left out and counted."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import save_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from pyrite.audit.flaw import WITH_PROMPT, WITHOUT_PROMPT
from pyrite.audit.reading import answer_nll
from pyrite.audit.rows import Row
from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.answers import Writing, read_answers
from pyrite.models.hardware import Compute
from pyrite.models.refusals import encode_each
from pyrite.models.template import BY_TEMPLATE, RowRefused
from pyrite.models.write import answer_prompts
from pyrite.records import Chat, Message
from pyrite.steps import Source, Step, StepType
from pyrite.study.plan_graph import left_out_if_bad
from pyrite.train.rows import encode_rows

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' or 'forbidden' in m.content %}{{ raise_exception('not this one') }}"
    "{% endif %}{% if m.role == 'assistant' %}A:\n{{ m.content }}</s>\n{% else %}Q: {{ m.content }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}A:\n{% endif %}"
)
FP32 = Compute("cpu", "fp32")


def ignore_progress(*_: Any) -> None:
    pass


@pytest.fixture(scope="module")
def chatty(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_causal, tmp_path_factory.mktemp("chatty") / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with 64 learned positions, and no `max_position_embeddings` in its file."""
    folder = tmp_path_factory.mktemp("short") / "model"
    size = save_tokenizer(folder, pair=False)
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, **special)
    ).save_pretrained(folder)
    return folder


def chat(number: int, *, system: bool = False) -> Chat:
    turns = (Message("user", f"how was the film {number}"), Message("assistant", "it was lovely"))
    return Chat((Message("system", "be kind"), *turns) if system else turns, str(number))


def chats_file(folder: Path, count: int = 8) -> Path:
    """Chats, every fourth of which (from the second on) has a system message."""
    path = folder / "chats.jsonl"
    rows = [chat(number, system=number % 4 == 1) for number in range(count)]
    path.write_text(
        "".join(
            json.dumps({"messages": [{"role": m.role, "content": m.content} for m in row.messages]}) + "\n"
            for row in rows
        )
    )
    return path


def test_every_refusal_is_counted_and_the_first_is_named() -> None:
    def encode(number: int) -> int:
        if number % 3 == 0:
            raise RowRefused("No.", f"row {number}", "leave it out", reason="a third")
        return number * number

    assert encode_each(range(1, 8), encode, skip=True) == ([1, 2, 4, 5, 7], [1, 4, 16, 25, 49], {"a third": 2})
    with pytest.raises(UserError, match="No") as caught:
        encode_each(range(1, 8), encode, skip=False)
    assert caught.value.found == "2 of 7 rows are refused, the first: row 3"
    assert "--on-bad-row skip" in caught.value.fix


def test_where_every_row_is_refused_the_template_is_named_and_several_rows_are_shown(chatty: Path) -> None:
    tokenizer = load.load_tokenizer(chatty)
    rows = [chat(number, system=True) for number in range(5)]
    with pytest.raises(UserError) as caught:
        encode_rows(tokenizer, rows, "answers", 64, long_rows="drop")
    assert caught.value.found.startswith("all 5 learn rows are refused, such as")
    assert caught.value.found.count("not this one") == 3
    assert "chat_template.jinja" in caught.value.fix
    assert "skip" not in caught.value.fix


def test_training_rows(chatty: Path) -> None:
    tokenizer = load.load_tokenizer(chatty)
    rows = [chat(number, system=number in (2, 3)) for number in range(6)]
    encoded, counts = encode_rows(tokenizer, rows, "answers", 64, long_rows="drop", on_bad_row="skip")
    assert [row.id for row in encoded] == ["0", "1", "4", "5"]
    assert (counts["read"], counts["used"], counts[BY_TEMPLATE]) == (6, 4, 2)
    with pytest.raises(UserError, match="refuses a conversation") as caught:
        encode_rows(tokenizer, rows, "answers", 64, long_rows="drop")
    assert caught.value.found.startswith("2 of 6 learn rows are refused, the first: row 2")


def test_perplexity(chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["probe", str(chatty), "--task", f"perplexity={chats_file(tmp_path)}", "--precision", "fp32", "--json"]
    line += ["--quiet", "--store", str(tmp_path / "s")]
    assert run(line) == 2
    err = capsys.readouterr().err
    assert "2 of 8 rows are refused, the first: row" in err
    assert "not this one" in err
    assert run([*line, "--on-bad-row", "skip"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["overall"]["n"] == 6
    assert told["details"]["refused"] == {BY_TEMPLATE: 2}
    assert any("2 of the 8 rows asked were left out" in note for note in told["notes"])


def test_answers_of_an_audit(chatty: Path) -> None:
    rows = [Row(at, str(at), prompt, ("it was lovely",)) for at, prompt in enumerate(["how?", "forbidden", "who?", ""])]
    with pytest.raises(UserError, match="refuses a conversation") as caught:
        answer_nll(chatty, rows, compute=FP32, report_progress=ignore_progress)
    assert caught.value.found.startswith("1 of 4 rows are refused, the first: row 1")
    nats = answer_nll(chatty, rows, compute=FP32, on_bad_row="skip", report_progress=ignore_progress)
    assert (
        np.isinf(nats[WITH_PROMPT]).tolist() == np.isinf(nats[WITHOUT_PROMPT]).tolist() == [False, True, False, False]
    )
    assert np.isnan(nats[WITH_PROMPT]).tolist() == [False, False, False, True]
    kept = answer_nll(chatty, [rows[0], *rows[2:]], compute=FP32, report_progress=ignore_progress)
    np.testing.assert_allclose(nats[WITHOUT_PROMPT][[0, 2, 3]], kept[WITHOUT_PROMPT], atol=1e-6)


def test_written_answers(chatty: Path, short: Path, tmp_path: Path) -> None:
    """A prompt that the template or the length refuses is a missing answer, with its reason."""
    prompts = [
        Chat((Message("user", text),), str(at)) for at, text in enumerate(["how?", "forbidden", "the film " * 99])
    ]
    writing = Writing(max_new_tokens=4)
    for folder, refused in ((chatty, {"1": BY_TEMPLATE}), (short, {"2": "longer than the model can read"})):
        model, tokenizer = load.load_causal(folder, FP32), load.load_tokenizer(folder)
        asked = prompts[:2] if folder == chatty else prompts
        with pytest.raises(UserError, match=r"chat template|longer") as caught:
            answer_prompts(model, tokenizer, asked, writing, tmp_path / "stop.jsonl", report_progress=ignore_progress)
        assert caught.value.found.startswith(f"1 of {len(asked)} prompts are refused")
        file = tmp_path / f"{folder.parent.name}.jsonl"
        usage = answer_prompts(model, tokenizer, asked, writing, file, skip=True, report_progress=ignore_progress)
        answers = list(read_answers(file))
        assert {answer.id: answer.meta["reason"] for answer in answers if answer.finish == "refused"} == refused
        assert (usage["answers"], usage["kept"]) == (len(asked), 0)
        again = answer_prompts(model, tokenizer, asked, writing, file, skip=True, report_progress=ignore_progress)
        assert (again["kept"], again["engine"]) == (len(asked), "none")


@pytest.mark.parametrize("words", [20, 60])
def test_label_words_after_long_rows(
    words: int, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GPT-2's file says `n_positions`: what does not fit is refused by name, or is a missing item; never a traceback."""
    file, task = tmp_path / "rows.jsonl", tmp_path / "task.yaml"
    texts = ["a" * 3, "b" * words, "c" * 4]
    file.write_text("".join(json.dumps({"text": text, "label": "no"}) + "\n" for text in texts))
    task.write_text(
        "file: rows.jsonl\nfields: [text]\nlabel: label\nlabels: [yes, no]\n".replace("yes, no", "'yes', 'no'")
    )
    line = ["probe", str(short), "--task", str(task), "--precision", "fp32", "--json", "--store", str(tmp_path / "s")]
    prompt = "Read the text and decide which label fits: yes or no.\nText: {}\nThe label is"
    tokenizer, model = load.load_tokenizer(short), GPT2LMHeadModel.from_pretrained(short).eval()
    longest = [
        max(len(tokenizer(prompt.format(text) + word)["input_ids"]) for word in (" yes", " no")) - 1 for text in texts
    ]
    fits = [size <= 64 for size in longest]
    for size in (64, 65):
        with torch.inference_mode(), pytest.raises(IndexError) if size > 64 else torch.inference_mode():
            model(torch.full((1, size), 7))
    code = run([*line, "--quiet"])
    err = capsys.readouterr().err
    if all(fits):
        assert code == 0
        return
    assert code == 2
    assert f"{fits.count(False)} of 3 rows are refused" in err
    if not any(fits):
        return
    assert run([*line, "--quiet", "--on-bad-row", "skip"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["overall"]["n"], told["overall"]["n_missing"]) == (fits.count(True), fits.count(False))
    assert any("left out" in note for note in told["notes"])


def test_a_study_tells_its_steps_what_is_said_of_the_rows() -> None:
    """A training, a repair or a replay leaves out refused rows where the rows' file says so of bad ones."""

    def step(name: str, inputs: dict[str, Step | Source], **config: Any) -> Step:
        return Step(StepType(name, 1, ignore_progress), config, inputs, label=name)

    file = Source("rows.jsonl", "hash")
    strict, lenient = (step("split", {"file": file}, on_bad_row=way) for way in ("stop", "skip"))
    drawn = step("draw", {"part0": strict, "part1": lenient})
    assert left_out_if_bad(strict, file) == {}
    assert (
        left_out_if_bad(lenient) == left_out_if_bad(drawn) == left_out_if_bad(strict, drawn) == {"on_bad_row": "skip"}
    )
    of_model = step("answer", {"rows": strict, "base": step("train", {"rows": lenient})})
    assert left_out_if_bad(of_model) == {}


@pytest.mark.parametrize("skip", [False, True])
def test_rows_of_a_repair(chatty: Path, tmp_path: Path, skip: bool) -> None:
    from pyrite.repair.language import read_rows
    from pyrite.repair.methods import METHODS
    from pyrite.repair.settings import GuardSettings, RepairSettings

    roles = ("forget", "replay")
    for role in roles:
        shutil.copy(chats_file(tmp_path), tmp_path / f"{role}.jsonl")
    config: dict[str, Any] = {"files": {role: f"{role}.jsonl" for role in roles}}
    config |= {"on_bad_row": "skip"} if skip else {}
    context = SimpleNamespace(config=config, inputs={"base": chatty, **dict.fromkeys(roles, tmp_path)})
    settings = RepairSettings(method="lbf", max_tokens=64, guard=GuardSettings(every_tokens=0))
    tokenizer = load.load_tokenizer(chatty)
    if not skip:
        with pytest.raises(UserError, match="refuses a conversation") as caught:
            read_rows(context, tokenizer, settings, METHODS["lbf"])  # type: ignore[arg-type]
        assert caught.value.found.startswith("2 of 8 forget rows are refused, the first: row")
        return
    rows = read_rows(context, tokenizer, settings, METHODS["lbf"])  # type: ignore[arg-type]
    assert rows.counts == {role: {"read": 8, "used": 6, "split": 0, "dropped": {BY_TEMPLATE: 2}} for role in roles}
