"""A callback in anyone's training: it logs what a probe finds, and changes no bit of what is trained."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import review_rows, write_jsonl
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from pyrite.errors import UserError
from pyrite.probe import callback as callbacks
from pyrite.probe import in_memory
from pyrite.probe.callback import ProbeCallback, logged
from pyrite.probe.config import ProbeConfig
from pyrite.probe.run import probe

TASK = "file: voices.jsonl\nfields: [text]\nlabel: sentiment\nlabels: [positive, negative]\nslices: [[voice], [gold]]\n"
MakeTrainer = Callable[..., Trainer]


class Last(TrainerCallback):
    """What the random states and the modules' modes are after the last step."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        numpy = np.random.get_state()
        modes = [module.training for module in kwargs["model"].modules()]
        self.states = [random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist(), modes]


@pytest.fixture
def task(tmp_path: Path) -> str:
    write_jsonl(review_rows(60, 2), tmp_path / "voices.jsonl")
    file = tmp_path / "voices.yaml"
    file.write_text(TASK)
    return str(file)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    plain: dict[str, Any] = {
        "per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 2, "save_strategy": "no", "report_to": [],
        "learning_rate": 3e-3, "seed": 3, "use_cpu": True, "disable_tqdm": True, "dataloader_num_workers": 0,
    }  # fmt: skip
    return TrainingArguments(str(folder), **(plain | more))


@pytest.fixture
def classifier(tiny_encoder: Path, tmp_path: Path) -> MakeTrainer:
    """A trainer of a sentiment classifier, dropout and all; the same one every time."""

    def make(*, names: tuple[str, str] = ("Negative", "POSITIVE"), lora: bool = False, **more: Any) -> Trainer:
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(
            tiny_encoder, num_labels=2, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
        )
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2))
        tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
        rows = [{**tokenizer(row["text"]), "labels": int(row["sentiment"] == "positive")} for row in review_rows(40, 1)]
        return Trainer(
            model, arguments(tmp_path / "out", **more), train_dataset=rows, eval_dataset=rows[:8],
            data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer,
        )  # fmt: skip

    return make


@pytest.fixture
def writer(tiny_causal: Path, tmp_path: Path) -> MakeTrainer:
    """A trainer of a language model."""

    def make(**more: Any) -> Trainer:
        model = AutoModelForCausalLM.from_pretrained(tiny_causal)
        tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
        ids = [tokenizer(row["text"])["input_ids"][:8] for row in review_rows(40, 1)]
        rows = [{"input_ids": one, "attention_mask": [1] * 8, "labels": one} for one in ids]
        return Trainer(model, arguments(tmp_path / "out", **more), train_dataset=rows, processing_class=tokenizer)

    return make


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def values(trainer: Trainer, key: str) -> list[tuple[int, float]]:
    return [(one["step"], one[key]) for one in trainer.state.log_history if key in one]


@pytest.mark.parametrize("lora", [False, True])
def test_training_is_the_same_bit_by_bit(
    classifier: MakeTrainer, task: str, store: Path, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has dropout: one random number more, or one step in evaluation mode, would show."""

    def wasteful(*given: Any) -> Any:
        """The probe, drawing from every generator there is, and leaving a mark on the model."""
        random.random(), np.random.rand(), torch.rand(1)
        given[1].model.left_behind = True
        return in_memory.probe_now(*given)

    monkeypatch.setattr(callbacks, "probe_now", wasteful)
    plain, last = classifier(lora=lora), Last()
    plain.add_callback(last)
    plain.train()
    probed, seen = classifier(lora=lora), Last()
    callback = ProbeCallback(probed, task=task, every_steps=2, store=store)
    probed.add_callback(callback)
    probed.add_callback(seen)
    probed.train()
    theirs, ours = weights(plain), weights(probed)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert seen.states == last.states
    assert not hasattr(probed.model, "left_behind")
    assert [one["step"] for one in callback.history] == [0, 2, 4, 6]
    assert values(plain, "loss") == values(probed, "loss")  # the trainer's own lines are not lost
    assert any(not torch.equal(ours[name], value) for name, value in weights(classifier(lora=lora)).items())


def test_it_logs_what_a_probe_of_the_saved_model_says(
    classifier: MakeTrainer, task: str, store: Path, tmp_path: Path
) -> None:
    trainer = classifier()
    callback = ProbeCallback(trainer, task=task, every_steps=4, store=store, slices=("gold",), seed=5)
    trainer.add_callback(callback)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    config = ProbeConfig(model=str(tmp_path / "saved"), task=(task,), store=store, seed=5, quiet=True)
    (card,) = probe(config).cards
    said = {(line.by, line.name): line.estimate for line in card.lines}
    whole = said["overall", "overall"]
    assert values(trainer, "probe/voices/accuracy")[-1] == (6, whole.value)
    assert values(trainer, "probe/voices/accuracy_low")[-1] == (6, whole.low)
    assert values(trainer, "probe/voices/accuracy_high")[-1] == (6, whole.high)
    assert [step for step, _ in values(trainer, "probe/voices/accuracy")] == [0, 4, 6]
    assert values(trainer, "probe/voices/accuracy/positive")[-1] == (6, said["gold", "positive"].value)
    assert values(trainer, "probe/voices/accuracy/guest") == []  # not among the slices asked for
    table = callback.table()
    last = table.filter((table["step"] == 6) & (table["name"] == "guest")).to_dicts()[0]
    assert (last["value"], last["low"], last["n"]) == (said["voice", "guest"].value, said["voice", "guest"].low,
                                                      said["voice", "guest"].n)  # fmt: skip


def test_a_language_model_names_labels_reads_and_writes(writer: MakeTrainer, store: Path, tmp_path: Path) -> None:
    texts = write_jsonl([{"text": row["text"]} for row in review_rows(20, 7)], tmp_path / "texts.jsonl")
    sums = write_jsonl([{"question": f"What is 2 + {n}?", "answer": f"#### {2 + n}"} for n in range(4)],
                       tmp_path / "sums.jsonl")  # fmt: skip
    tasks = ("heuristics=30", f"perplexity={texts}", f"gsm8k={sums}")
    plain = writer()
    plain.train()
    trainer = writer()
    callback = ProbeCallback(trainer, task=tasks, every_steps=3, store=store, max_new_tokens=4)
    trainer.add_callback(callback)
    trainer.train()
    theirs, ours = weights(plain), weights(trainer)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    trainer.save_model(str(tmp_path / "saved"))
    config = ProbeConfig(
        model=str(tmp_path / "saved"), task=tasks, store=store, max_new_tokens=4, quiet=True, precision="fp32"
    )
    for card in probe(config).cards:
        line = card.lines[0]
        (told,) = [one for one in callback.history[-1]["scorecards"] if one["task"] == card.task]
        assert told["lines"][0]["value"] == pytest.approx(line.estimate.value, rel=1e-6)
        logged_ = values(trainer, f"probe/{card.task}/{line.metric}")
        assert logged_[-1][1] == pytest.approx(line.estimate.value, rel=1e-6)
    curve = [value for _, value in values(trainer, "probe/perplexity/nats_per_token")]
    assert curve[0] > curve[-1]
    assert values(trainer, "probe/heuristics/accuracy/non-entailment")
    assert values(trainer, "probe/heuristics/accuracy/lexical_overlap/non-entailment")
    assert not values(trainer, "probe/heuristics/accuracy/ln_subject")


@pytest.mark.parametrize(("when", "more", "steps"), [
    ("evaluate", {"eval_strategy": "steps", "eval_steps": 4}, [0, 4, 6]),
    ("epoch", {"max_steps": -1, "num_train_epochs": 2}, [0, 10, 20]),
])  # fmt: skip
def test_other_moments(
    classifier: MakeTrainer, task: str, store: Path, when: Any, more: dict[str, Any], steps: list[int]
) -> None:
    trainer = classifier(**more)
    callback = ProbeCallback(trainer, task=task, when=when, store=store, items=20)
    trainer.add_callback(callback)
    trainer.train()
    assert [one["step"] for one in callback.history] == steps
    assert callback.history[0]["moment"] == "start"
    assert [one["lines"][0]["n"] for entry in callback.history for one in entry["scorecards"]] == [20] * len(steps)


def test_a_failed_gate_stops_the_training_where_asked(classifier: MakeTrainer, task: str, store: Path) -> None:
    gates = ("voices.accuracy[gold=positive] > 1", "change voices.accuracy >= -100%", "voices >= 0")
    for stop, last in ((True, 2), (False, 6)):
        trainer = classifier()
        callback = ProbeCallback(trainer, task=task, every_steps=2, store=store, gate=gates, stop=stop)
        trainer.add_callback(callback)
        trainer.train()
        assert trainer.state.global_step == last
        assert callback.history[0]["gates"] == []  # the start is what a change is measured from
        told = {one["gate"]: one["outcome"] for one in callback.history[1]["gates"]}
        assert told[gates[0]] == "failed"
        assert (told[gates[1]], told[gates[2]]) == ("passed", "passed")
        assert values(trainer, "probe/gates_failed")[0] == (2, 1)


def change_of(entry: dict[str, Any]) -> dict[str, Any]:
    (told,) = [one for one in entry["gates"] if one["change"]]
    return told


@pytest.mark.parametrize("restore", [False, True])
def test_resumed_a_change_is_still_from_before_the_first_step(
    classifier: MakeTrainer, task: str, store: Path, tmp_path: Path, restore: bool
) -> None:
    """Also where the trainer restores the states of callbacks, of which ours is none that it could make anew."""
    gates = ("change voices.accuracy >= -100%", "voices >= 0")
    options = {"task": task, "every_steps": 2, "store": store, "gate": gates}
    saving = {"save_strategy": "steps", "save_steps": 2, "restore_callback_states_from_checkpoint": restore}
    trainer = classifier(**saving)
    whole = ProbeCallback(trainer, **options)
    trainer.add_callback(whole)
    trainer.train()
    resumed = classifier(**saving)
    callback = ProbeCallback(resumed, **options)
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert [(one["step"], one["moment"]) for one in callback.history] == [(6, "end")]
    assert change_of(callback.history[-1]) == change_of(whole.history[-1])
    assert change_of(whole.history[-1])["estimate"]["n"] == 60
    assert values(resumed, "probe/voices/accuracy") == values(trainer, "probe/voices/accuracy")
    assert [step for step, _ in values(resumed, "probe/voices/accuracy")] == [0, 2, 4, 6]
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))  # in the process that was there before
    assert [one["step"] for one in whole.history] == [0, 2, 4, 6]


@pytest.mark.parametrize("then", [{}, {"gate": "change voices >= 0", "items": 20}])
def test_a_change_from_a_start_that_nobody_kept_is_undecided(
    classifier: MakeTrainer, task: str, store: Path, tmp_path: Path, then: dict[str, Any]
) -> None:
    """Saved without a gate on a change, or with one on other items."""
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer = classifier(**saving)
    trainer.add_callback(ProbeCallback(trainer, task=task, store=store, **then))
    trainer.train()
    assert len(trainer.state.stateful_callbacks.get("pyrite.probe", {})) == bool(then)
    resumed = classifier(**saving)
    callback = ProbeCallback(resumed, task=task, store=store, gate=("change voices >= -1", "voices >= 0"))
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    change, plain = callback.history[-1]["gates"]
    assert (change["outcome"], plain["outcome"]) == ("undecided", "passed")
    assert "checkpoint does not hold" in change["why"]
    assert change["estimate"]["value"] is None


def test_a_second_training_begins_its_own_history(classifier: MakeTrainer, task: str, store: Path) -> None:
    trainer = classifier()
    callback = ProbeCallback(trainer, task=task, every_steps=4, store=store)
    trainer.add_callback(callback)
    trainer.train()
    first = callback.history
    trainer.train()
    assert [one["step"] for one in first] == [one["step"] for one in callback.history] == [0, 4, 6]
    assert first is not callback.history


def test_what_cannot_be_asked_is_refused_before_training(
    classifier: MakeTrainer, writer: MakeTrainer, task: str, store: Path, tmp_path: Path
) -> None:
    refused: list[tuple[str, Callable[[], object]]] = [
        ("labels", lambda: ProbeCallback(classifier(names=("LABEL_0", "LABEL_1")), task=task, store=store)),
        ("language model", lambda: ProbeCallback(classifier(), task=f"perplexity={task}", store=store)),
        ("during training", lambda: ProbeCallback(writer(), task="harness:gsm8k", store=store)),
        ("no such option", lambda: ProbeCallback(classifier(), task=task, itms=3)),
        ("does not fit", lambda: ProbeCallback(classifier(), task=task, items=0)),
        ("unknown metric", lambda: ProbeCallback(classifier(), task=task, store=store, gate="voices.f1 >= 0.5")),
        ("asked twice", lambda: ProbeCallback(classifier(), task=(task, task), store=store)),
        ("no gate", lambda: ProbeCallback(classifier(), task=task, store=store, gate="much better")),
        ("when: Input should be", lambda: ProbeCallback(classifier(), task=task, when="often")),
        ("every_steps: ", lambda: ProbeCallback(classifier(), task=task, every_steps=0)),
    ]
    for what, make in refused:
        with pytest.raises(UserError, match=what):
            make()
    trainer = classifier()
    trainer.processing_class = None
    with pytest.raises(UserError, match="no tokenizer"):
        ProbeCallback(trainer, task=task, store=store)


@pytest.mark.parametrize("mark", ["is_fsdp_enabled", "is_deepspeed_enabled", "is_model_parallel"])
def test_a_model_in_shards_is_refused_with_the_reason(
    classifier: MakeTrainer, task: str, store: Path, mark: str
) -> None:
    trainer = classifier()
    setattr(trainer, mark, True)
    with pytest.raises(UserError, match="whole in one process"):
        ProbeCallback(trainer, task=task, store=store)


def test_a_probe_that_fails_ends_the_training_or_warns(
    classifier: MakeTrainer, task: str, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def break_it(trainer: Trainer) -> None:
        with torch.no_grad():
            trainer.model.classifier.bias.fill_(float("nan"))

    trainer = classifier()
    trainer.add_callback(ProbeCallback(trainer, task=task, store=store))
    break_it(trainer)
    with pytest.raises(UserError, match="no numbers"):
        trainer.train()
    trainer = classifier()
    callback = ProbeCallback(trainer, task=task, store=store, on_error="warn")
    trainer.add_callback(callback)
    break_it(trainer)
    trainer.train()
    assert trainer.state.global_step == 6
    assert all("no numbers" in one["error"] for one in callback.history)
    assert "the probe at step 0 failed" in caplog.text
    assert values(trainer, "probe/voices/accuracy") == []
    assert trainer.model.training  # put back although the probe broke off


def test_a_change_from_a_start_that_failed_is_undecided(
    classifier: MakeTrainer, task: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def broken(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise ValueError("planted")
        return in_memory.probe_now(*given)

    monkeypatch.setattr(callbacks, "probe_now", broken)
    trainer = classifier()
    callback = ProbeCallback(trainer, task=task, store=store, on_error="warn", gate="change voices >= -1")
    trainer.add_callback(callback)
    trainer.train()
    assert change_of(callback.history[-1])["outcome"] == "undecided"
    assert "was not measured" in change_of(callback.history[-1])["why"]


def test_names_in_the_log_suit_every_tracker_and_nothing_is_filled_in() -> None:
    def line(value: float | None, low: float | None, **columns: str) -> dict[str, Any]:
        return {"metric": "accuracy", "by": " x ".join(columns) or "overall", "values": columns, "value": value,
                "low": low, "high": low}  # fmt: skip

    lines = [line(0.5, None), line(0.25, 0.125, gold="a=<b>/c"), line(None, None, gold="d"), line(1.0, None, other="x"),
             line(0.75, None, heuristic="a=<b>/c")]  # fmt: skip
    told = {"scorecards": [{"task": "t", "lines": lines}], "gates": [], "seconds": 2.0}
    assert logged(told, frozenset({"gold", "heuristic"})) == {
        "probe/t/accuracy": 0.5,
        "probe/t/accuracy/a__b__c": 0.25,
        "probe/t/accuracy/a__b__c_low": 0.125,
        "probe/t/accuracy/a__b__c_high": 0.125,
        "probe/t/accuracy/a__b__c.heuristic": 0.75,
        "probe/seconds": 2.0,
    }


TRACKED = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from pyrite.probe.callback import ProbeCallback

model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("the film was lovely and the song was lovely")["input_ids"][:8]
arguments = TrainingArguments(sys.argv[2], max_steps=3, report_to=["trackio"], save_strategy="no", use_cpu=True,
                              project="mine", disable_tqdm=True, logging_steps=1)
rows = [{"input_ids": ids, "attention_mask": [1] * 8, "labels": ids}] * 24
trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
trainer.add_callback(ProbeCallback(trainer, task="heuristics=30", every_steps=2, store=sys.argv[2] + "/store"))
trainer.train()
from trackio.sqlite_storage import SQLiteStorage
(name,) = SQLiteStorage.get_runs("mine")
Path(sys.argv[2], "read.json").write_text(json.dumps([trainer.state.log_history, SQLiteStorage.get_logs("mine", name)]))
"""


def test_the_values_are_read_back_from_a_local_trackio_store(tmp_path: Path, tiny_causal: Path) -> None:
    """In a process of its own: the tracker takes its folder from the environment when it is imported."""
    pytest.importorskip("trackio", reason="the tracker trackio is not installed")
    given = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", TRACKED, str(tiny_causal), str(tmp_path)], env=given, check=True)
    history, logs = json.loads((tmp_path / "read.json").read_text())
    for key in ("accuracy", "accuracy/entailment", "accuracy/non-entailment"):
        curve = [one[f"probe/heuristics/{key}"] for one in history if f"probe/heuristics/{key}" in one]
        assert [one[f"train/probe/heuristics/{key}"] for one in logs if f"train/probe/heuristics/{key}" in one] == curve
        assert len(curve) == 3  # the start, step 2, the last step


TWO = """
import json, os, sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from pyrite.probe import callback, in_memory

model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("the film was lovely and the song was lovely")["input_ids"][:8]
arguments = TrainingArguments(sys.argv[2], max_steps=8, report_to=[], save_strategy="no", use_cpu=True,
                              disable_tqdm=True, per_device_train_batch_size=2, ddp_backend="gloo")
rows = [{"input_ids": ids, "attention_mask": [1] * 8, "labels": ids}] * 64
trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
made = callback.ProbeCallback(trainer, task="heuristics=30", every_steps=2, store=sys.argv[2] + "/store",
                              gate="heuristics > 99%", stop=True, on_error="warn")
trainer.add_callback(made)
asked = []
def broken(*given):
    asked.append(given)
    if len(asked) == 2:
        raise ValueError("planted")
    return in_memory.probe_now(*given)
callback.probe_now = broken
trainer.train()
told = [trainer.state.global_step, len(asked), [(one["step"], one.get("error")) for one in made.history],
        float(sum(one.double().sum() for one in model.parameters()))]
Path(sys.argv[2], os.environ["RANK"]).write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_with_two_processes_one_asks_and_both_know(tmp_path: Path, tiny_causal: Path) -> None:
    """A probe that fails in the main process leaves nobody waiting, and a gate stops both at the same step."""
    (tmp_path / "two.py").write_text(TWO)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*line, str(tmp_path / "two.py"), str(tiny_causal), str(tmp_path)], env=given, check=True, timeout=300
    )
    main, other = (json.loads((tmp_path / rank).read_text()) for rank in ("0", "1"))
    assert main[0] == other[0] == 4
    assert (main[1], other[1]) == (3, 0)
    assert main[2] == other[2] == [[0, None], [2, "ValueError: planted"], [4, None]]
    assert main[3] == other[3]
