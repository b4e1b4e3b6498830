"""Frozen lower layers: still in training, and the same weights from what is stored of them as from the whole model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.freeze import freeze, layer_list
from pyrite.models.hardware import Compute
from pyrite.models.lower import Injected, Stored, states_of, token_row_key, write_states
from pyrite.probe.predict import PREDICT
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.train.lower import LOWER
from pyrite.train.settings import ClassifierSettings

from conftest import Clock, set_clock  # isort: skip
from test_train_fit import CPU, LABELS, rows_source, run, train_step, weights  # isort: skip

HALF = ClassifierSettings(epochs=2, batch_size=8, learning_rate=1e-3, max_tokens=64, freeze=1)


def lower_step(base: Path, rows: Source | Step, *, model: Step | None = None, file: str = "rows.jsonl") -> Step:
    """The states of the rows before the second of two layers."""
    config = {
        "labels": LABELS,
        "rows_file": file,
        "reads": "prompt" if load.is_causal(base) else "pair",
        "freeze": 1,
        "max_tokens": 64,
        "compute": CPU.as_config(),
        "seed": 0,
    }
    inputs: dict[str, Step | Source] = {"base": Source(str(base), "tiny"), "rows": rows}
    return Step(LOWER, config, inputs | ({"model": model} if model else {}), label="lower layers")


def with_states(step: Step, *lower: Step) -> Step:
    """The same training, on stored states."""
    inputs = {**step.inputs, **{f"lower{at}": step_of_states for at, step_of_states in enumerate(lower)}}
    return Step(step.kind, step.config, inputs, label=step.label)


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_causal"])
def test_only_what_lies_above_is_trained(kind: str, request: pytest.FixtureRequest) -> None:
    base: Path = request.getfixturevalue(kind)
    model, _ = load.load_classifier(base, LABELS, CPU, seed=0)
    freeze(model, 1)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not any("embed" in name for name in moving)
    assert any(".1." in name for name in moving)
    assert not any(".0." in name for name in moving)
    model.train()
    stack = layer_list(model)
    assert not any(module.training for module in stack[0].modules())
    assert all(module.training for module in stack[1].modules())


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_causal"])
def test_stored_states_give_the_weights_of_the_whole_model(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base: Path = request.getfixturevalue(kind)
    rows, store = rows_source(tmp_path / "rows"), Store(tmp_path / "store")
    plain = train_step(base, rows, HALF)
    stored = with_states(plain, lower_step(base, rows))
    plain_weights, stored_weights = weights(run(plain, store)), weights(run(stored, store))
    record = json.loads((store.path(stored.key) / "training.json").read_text())
    assert (record["frozen_layers"], record["from_stored_states"]) == (1, True)
    assert plain_weights.keys() == stored_weights.keys()
    before, _ = load.load_classifier(base, LABELS, CPU, seed=0)
    moved = 0.0
    for name, weight in before.state_dict().items():
        if name in plain_weights:
            assert torch.allclose(plain_weights[name], stored_weights[name], atol=2e-5), name
            moved = max(moved, float((plain_weights[name] - weight).abs().max()))
    assert moved > 1e-3
    lower = {name for name in plain_weights if ".0." in name and "layer" in name}
    assert lower
    assert all(torch.equal(plain_weights[name], before.state_dict()[name]) for name in lower)  # to the bit


def test_states_of_another_model_are_seen_and_not_used(tmp_path: Path, tiny_encoder: Path) -> None:
    """States that do not give the model's logits are left aside: the weights are those of the whole model."""
    rows, store = rows_source(tmp_path / "rows"), Store(tmp_path / "store")
    plain = train_step(tiny_encoder, rows, HALF)
    wrong = with_states(plain, lower_step(tiny_encoder, rows))
    run(wrong.inputs["lower0"], store)  # type: ignore[arg-type]
    file = store.path(wrong.inputs["lower0"].key) / "states.npy"  # type: ignore[union-attr]
    np.save(file, np.load(file)[::-1])
    plain_weights, wrong_weights = weights(run(plain, store)), weights(run(wrong, store))
    assert all(torch.equal(plain_weights[name], wrong_weights[name]) for name in plain_weights)
    assert not json.loads((store.path(wrong.key) / "training.json").read_text())["from_stored_states"]


def test_cut_off_on_stored_states_and_resumed_is_never_cut_off(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_source(tmp_path / "rows")
    step = with_states(train_step(tiny_encoder, rows, HALF), lower_step(tiny_encoder, rows))
    uncut = run(step, Store(tmp_path / "whole"))
    store = Store(tmp_path / "cut")
    run(step.inputs["lower0"], store)  # type: ignore[arg-type]
    set_clock(monkeypatch, Clock(iter([False, True] * 50)))
    interrupted = 0
    for _ in range(20):
        try:
            run(step, store, max_seconds=1.0)
            break
        except OutOfTime:
            interrupted += 1
    assert interrupted >= 2
    assert (store.path(step.key) / "model.safetensors").read_bytes() == (uncut / "model.safetensors").read_bytes()


def test_answers_from_stored_states_are_the_whole_models(tmp_path: Path, tiny_encoder: Path) -> None:
    rows, store = rows_source(tmp_path / "rows", 40), Store(tmp_path / "store")
    model = train_step(tiny_encoder, rows, HALF)
    config = {"labels": LABELS, "by": "head", "reads": "pair", "compute": CPU.as_config(), "max_tokens": 64}
    config |= {"four_bit": False, "seed": 0}
    items = tmp_path / "items"
    items.mkdir()
    (items / "items.jsonl").write_bytes((tmp_path / "rows" / "rows.jsonl").read_bytes())
    items_source = Source(str(items), "items")
    inputs: dict[str, Step | Source] = {
        "base": Source(str(tiny_encoder), "tiny"),
        "model": model,
        "items": items_source,
    }
    plain = Step(PREDICT, config, inputs)
    quick = Step(PREDICT, config, {**inputs, "lower": lower_step(tiny_encoder, items_source, file="items.jsonl")})
    tables = [pq.read_table(run(step, store) / "predictions.parquet").to_pandas() for step in (plain, quick)]
    assert list(tables[0]["predicted"]) == list(tables[1]["predicted"])
    logits = [table.filter(like="logit").to_numpy() for table in tables]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


def test_rows_that_no_step_stored_are_computed(tmp_path: Path, tiny_encoder: Path) -> None:
    model, _ = load.load_classifier(tiny_encoder, LABELS, CPU, seed=0)
    ids = [[1, 50, 60, 2], [1, 70, 2], [1, 80, 90, 100, 2]]
    computed = states_of(model, 1, ids, None, pad_id=0)
    write_states([token_row_key(ids[0], None)], computed[:1], 1, tmp_path)
    read = Stored([tmp_path]).of(model, ids, None, pad_id=0)
    for expected, actual in zip(computed, read, strict=True):
        assert np.abs(expected - actual).max() < 1e-5
    assert Injected(model, 1).agrees(ids, None, read, pad_id=0, precision="fp32")


def test_a_start_of_its_own_has_states_of_its_own(tmp_path: Path, tiny_encoder: Path) -> None:
    """Arms on a start whose lower layers moved use the start's, not the base's."""
    rows, store = rows_source(tmp_path / "rows"), Store(tmp_path / "store")
    start = train_step(tiny_encoder, rows)
    plain = train_step(tiny_encoder, rows, HALF, start=start, seed=1)
    stored = with_states(plain, lower_step(tiny_encoder, rows, model=start))
    plain_weights, stored_weights = weights(run(plain, store)), weights(run(stored, store))
    assert all(torch.allclose(plain_weights[name], stored_weights[name], atol=2e-5) for name in plain_weights)
    assert json.loads((store.path(stored.key) / "training.json").read_text())["from_stored_states"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"freeze": 1, "method": "lora"}, "leave all layers still"), ({"freeze": -1}, "greater than or equal")],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClassifierSettings(**settings)


def test_no_layer_is_left_to_train(tiny_encoder: Path) -> None:
    model, _ = load.load_classifier(tiny_encoder, LABELS, CPU, seed=0)
    with pytest.raises(UserError, match="left to train") as caught:
        freeze(model, 2)
    assert "at most 1" in caught.value.fix


def test_older_trainings_keep_their_keys() -> None:
    assert "freeze" not in ClassifierSettings().as_config()
    assert ClassifierSettings(freeze=2).as_config()["freeze"] == 2
    assert Compute("cpu", "fp32").as_config() == {"device": "cpu", "precision": "fp32"}
    assert Compute("cpu", "fp32", 4).as_config()["threads"] == 4


def test_steps_share_states(tmp_path: Path, tiny_encoder: Path) -> None:
    """Two trainings on one pool read one step's states."""
    rows, store = rows_source(tmp_path / "rows"), Store(tmp_path / "store")
    lower = lower_step(tiny_encoder, rows)
    steps = [with_states(train_step(tiny_encoder, rows, HALF, seed=seed), lower) for seed in (0, 1)]
    ended = run_steps(steps, store, RunOptions(), Progress(quiet=True))
    assert ended.ran == 3


def tiny_classifier(kind: str) -> Any:
    """A classifier of three layers and a few thousand weights."""
    import transformers as hf

    sizes = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_labels": 2}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0}
    extra_settings: dict[str, Any] = {
        "Roberta": {}, "Electra": {"embedding_size": 32}, "MPNet": {}, "Albert": {"embedding_size": 16},
        "ModernBert": {"reference_compile": False}, "DebertaV2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "Llama": {"num_key_value_heads": 2}, "Qwen2": {"num_key_value_heads": 2},
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(hf, f"{kind}Config")(**sizes, **extra_settings[kind])
    return getattr(hf, f"{kind}ForSequenceClassification")(config).eval()


@pytest.mark.parametrize("kind", ["Roberta", "Electra", "ModernBert", "Llama", "Qwen2"])
def test_other_architectures_take_stored_states(kind: str) -> None:
    model = tiny_classifier(kind)
    freeze(model, 2)
    ids = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16, 17, 18]]
    states = states_of(model, 2, ids, None, pad_id=0)
    injected = Injected(model, 2)
    assert injected.agrees(ids, None, states, pad_id=0, precision="fp32")
    wrong = [row_states + 0.5 for row_states in states]
    assert not injected.agrees(ids, None, wrong, pad_id=0, precision="fp32")
    assert [type(layer).__name__ for layer in layer_list(model)].count("StandInLayer") == 0  # the layers came back


@pytest.mark.parametrize("kind", ["MPNet", "DebertaV2", "Albert"])
def test_layers_that_share_weights_above_and_beneath_are_refused(kind: str) -> None:
    """A bias that every layer reads would move beneath the frozen ones."""
    with pytest.raises(UserError, match=r"share weights|by number"):
        freeze(tiny_classifier(kind), 2)


def test_a_fresh_heads_small_logits_do_not_hide_wrong_states(tiny_encoder: Path) -> None:
    model, _ = load.load_classifier(tiny_encoder, LABELS, CPU, seed=0)
    with torch.no_grad():
        model.classifier.weight.mul_(1e-6)
    ids = [[1, 50, 60, 2], [1, 70, 80, 2]]
    states = states_of(model, 1, ids, None, pad_id=0)
    assert Injected(model, 1).agrees(ids, None, states, pad_id=0, precision="bf16-mixed")
    zeros = [np.zeros_like(row_states) for row_states in states]
    assert not Injected(model, 1).agrees(ids, None, zeros, pad_id=0, precision="bf16-mixed")
