"""What a review of the repair found: each of these once went wrong."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from repair_kit import chats
from training_kit import CPU, read_record, repair_step, rows_folder, run, settings_of, weights

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.repair.guard import GuardMeasurement, breach_of, certain_rise, repetition_of
from pyrite.repair.row_order import draws
from pyrite.repair.settings import GuardSettings
from pyrite.steps import Store

from conftest import Clock, set_clock  # isort: skip

WIDE = {"kl": 99.0, "replay_rise": 99.0, "entropy_ratio": 999.0, "answers": 0}


@pytest.mark.parametrize("role", ["guard_replay", "guard_forget"])
def test_a_guard_with_nothing_to_look_at_is_refused(tmp_path: Path, tiny_causal: Path, role: str) -> None:
    long = chats(3, start=400, answer="it was lovely and warm and bright and kind " * 20)
    rows, store = rows_folder(tmp_path / "rows", **{role: long}), Store(tmp_path / "store")
    settings = settings_of("ga", guard=GuardSettings(), long_rows="drop")
    with pytest.raises(UserError, match=f"no rows to look at(.|\n)*{role}"):
        run(repair_step(tiny_causal, rows, settings), store)
    record = read_record(run(repair_step(tiny_causal, rows, settings_of("ga", long_rows="drop")), store))
    assert record["rows"][role]["dropped"] == {"longer than max_tokens": 3}


def test_a_repair_that_the_guard_stopped_stays_stopped_when_it_is_cut(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = GuardSettings(every_tokens=1, **WIDE | {"kl": 0.05})
    rows = rows_folder(tmp_path / "rows")
    step = repair_step(tiny_causal, rows, settings_of("ga", steps=20, rate=1e-2, training="full", guard=guard))
    uncut = read_record(run(step, Store(tmp_path / "whole")))
    assert 1 < uncut["stopped"]["step"] < 20
    monkeypatch.setenv("PYRITE_CHECKPOINT_SECONDS", "0")
    set_clock(monkeypatch, Clock(itertools.repeat(True)))
    store = Store(tmp_path / "cut")
    for _ in range(25):
        try:
            run(step, store, max_seconds=1.0)
            break
        except OutOfTime:
            pass
    cut = read_record(store.path(step.key))
    assert (cut["stopped"], cut["guard"], cut["point"]) == (uncut["stopped"], uncut["guard"], uncut["point"])


@pytest.mark.parametrize("method", ["dpo", "idk"])
def test_the_guards_objective_holds_the_methods_own_term(tmp_path: Path, tiny_causal: Path, method: str) -> None:
    guard = GuardSettings(every_tokens=1, **WIDE)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    settings = settings_of(method, steps=6, rate=5e-3, replay_weight=0.0, guard=guard)
    record = read_record(run(repair_step(tiny_causal, rows, settings), store))
    objectives = [look["objective"] for look in record["guard"]]
    assert objectives[0] > 0
    assert record["point"]["step"] > 0
    assert min(objectives) == record["point"]["values"]["objective"] < objectives[0]


@pytest.mark.parametrize(("stored", "configured"), [("float32", "bfloat16"), ("bfloat16", None), ("float32", "load")])
def test_the_number_format_is_that_of_the_weights_not_what_the_configuration_says(
    tmp_path: Path, tiny_causal: Path, stored: str, configured: str | None
) -> None:
    base = tmp_path / "base"
    load.load_causal(tiny_causal, CPU).to(getattr(torch, stored)).save_pretrained(base)
    load.load_tokenizer(tiny_causal).save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    config.pop("dtype", None)
    (base / "config.json").write_text(json.dumps(config | ({"dtype": configured} if configured else {})))
    if configured == "load":
        config["dtype"] = "float32"  # the library itself refuses the word
        (base / "config.json").write_text(json.dumps(config))
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    null = settings_of(forget_weight=0.0, replay_weight=0.0, kl_weight=0.0)
    after = weights(run(repair_step(base, rows, null), store))
    before = weights(base)
    assert {weight.dtype for weight in after.values()} == {getattr(torch, stored)}
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())


def test_rows_never_outgrow_the_models_positions(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from conftest import save_tokenizer

    base = tmp_path / "base"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=save_tokenizer(base, pair=False), n_positions=40, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(base)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    guard = GuardSettings(every_tokens=1, **WIDE | {"answers": 2, "answer_tokens": 8})
    record = read_record(run(repair_step(base, rows, settings_of(steps=2, guard=guard)), store))
    assert record["rows"]["forget"]["split"] > 0
    assert record["steps"] == 2


@pytest.mark.parametrize(
    ("method", "overrides", "says"),
    [("rmu", {"kl_weight": 1.0}, "keeps hidden states"), ("lbf", {"replay_rows": 0}, "need replay rows")],
)
def test_a_weight_that_would_be_told_but_not_applied_is_refused(
    tmp_path: Path, tiny_causal: Path, method: str, overrides: dict[str, Any], says: str
) -> None:
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    with pytest.raises(UserError, match=says):
        run(repair_step(tiny_causal, rows, settings_of(method, **overrides)), store)


@pytest.mark.parametrize(("rows", "count"), [(5, 4), (5, 5), (3, 8), (7, 2)])
def test_no_row_is_drawn_twice_for_a_step_and_all_are_drawn_equally_often(rows: int, count: int) -> None:
    steps: list[Sequence[int]] = list(itertools.islice(draws(range(rows), count, [0]), 3 * rows))
    assert all(len(set(step)) == len(step) == min(rows, count) for step in steps)
    times = [sum(step.count(row) for step in map(list, steps)) for row in range(rows)]
    assert max(times) - min(times) <= 1


@pytest.mark.parametrize("gate", ["kl <= e", "bogus <= 3", "kl"])
def test_a_condition_that_cannot_be_read_is_refused_with_the_settings(gate: str) -> None:
    with pytest.raises(ValidationError, match="cannot be read"):
        GuardSettings(gates=(gate,))


def test_chats_beside_plain_text_are_named_as_such(tmp_path: Path, tiny_causal: Path) -> None:
    texts = [{"text": f"the film {at} was lovely"} for at in range(6)]
    rows, store = rows_folder(tmp_path / "rows", replay=texts), Store(tmp_path / "store")
    with pytest.raises(UserError, match="plain text, beside chats"):
        run(repair_step(tiny_causal, rows, settings_of()), store)


def test_cost_counts_every_pass(tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes are counted by listening to the model; backward passes are as many tokens as were trained on."""
    from pyrite.models.rows import RowReader
    from pyrite.train.cost import model_shape

    read: list[int] = []
    hidden = RowReader.hidden

    def listen(self: RowReader, ids: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(len(ids))
        return hidden(self, ids, *args, **kwargs)

    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    shape = model_shape(load.load_causal(tiny_causal, CPU))
    for training, method in [("lora", "lbf"), ("full", "lbf"), ("lora", "npo"), ("full", "undial"), ("lora", "rmu")]:
        extra = {"options": {"layer": 1}} if method == "rmu" else {}
        guard = GuardSettings(every_tokens=1, **WIDE)
        step = repair_step(tiny_causal, rows, settings_of(method, steps=2, guard=guard, training=training, **extra))
        with monkeypatch.context() as patch:
            patch.setattr(RowReader, "compare", lambda self: None)
            patch.setattr(RowReader, "hidden", listen)
            read.clear()
            record = read_record(run(step, store))
        trained = sum(count for role, count in record["tokens"].items() if role != "guard")
        body = 2.0 * shape.body * (sum(read) + trained * (2 if training == "full" else 1))
        head = record["flops"] - body
        assert 0 < head < 0.5 * record["flops"] or method == "rmu", (training, method)
        assert head % (2 * shape.head) == 0, (training, method)


def test_an_architecture_that_cannot_be_read_by_row_is_refused_with_the_reason(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from conftest import save_tokenizer

    base = tmp_path / "base"
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=save_tokenizer(base, pair=False), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(base)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    with pytest.raises(UserError, match="cannot be trained or repaired here"):
        run(repair_step(base, rows, settings_of()), store)


def test_repetition_breaks_its_limit_only_where_the_rise_stands_clear_of_chance() -> None:
    limits = GuardSettings(repetition_rise=0.3)
    start = GuardMeasurement(0, 0, 1.0, None, None, None, None, 0.2)

    def rises(now: list[float], before: list[float]) -> str | None:
        mean = sum(now) / len(now)
        return breach_of(
            GuardMeasurement(1, 1, 1.0, None, None, None, None, mean, certain_rise(now, before)), start, limits
        )

    before = [0.0, 0.8, 0.0, 0.0]  # mean 0.2
    assert rises([0.0, 0.8, 0.8, 0.8], before) is None  # two of four answers loop: 0.4 more, and 0.4 +- 0.54
    assert rises([0.9, 0.95, 0.9, 0.8], before) is not None  # all of them loop
    assert rises([0.2, 0.8, 0.2, 0.2], before) is None  # certain, yet within the limit
    assert certain_rise([0.9, 0.95, 0.9, 0.8], before) == pytest.approx(0.2622, abs=1e-3)
    assert certain_rise([1.0], [0.0]) is None  # of one answer no spread is known
    assert repetition_of([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)
    assert (repetition_of([1, 2, 3]), repetition_of([])) == (0.0, 0.0)
