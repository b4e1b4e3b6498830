"""The model card: the hub's header, honest numbers, no folder of this machine, a command that parses; and the cost."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pyrite.cli import app
from pyrite.errors import UserError
from pyrite.markdown import markdown_table
from pyrite.repair.card import card, interval
from pyrite.repair.config import RepairConfig
from pyrite.repair.record import command, cost_record
from pyrite.repair.run_folder import file_stem, undone
from pyrite.runs.repair import RepairRecord
from pyrite.runs.schema import Interval


def contrast(metric: str, **more: Any) -> dict[str, Any]:
    difference = {"value": -0.25, "low": -0.5, "high": 0.125, "n": 40, "method": "t"}
    line = {"metric": metric, "by": "overall", "name": "overall", "primary": True, "first": 0.5, "second": 0.25}
    return {**line, "difference": difference, "verdict": "cannot tell yet", "sentence": "", **more}


@pytest.fixture
def told() -> dict[str, Any]:
    row = {"read": 30, "kept": 28, "dropped": {"same text as an earlier row": 2}}
    contrasts = [contrast("prompt_strict"), contrast("sliced", primary=False)]
    change = {"task": "ifeval", "first": "before", "second": "repaired", "contrasts": contrasts, "flips": []}
    return {
        "verb": "repair", "scorecards": [], "metrics": {}, "alike": {}, "curve": [], "guard": [],
        "model": "org/name@main",
        "model_identity": "commit:abc",
        "base_model": "org/name",
        "licence": None,
        "method": "lbf",
        "weights": {"forget": 0.01, "replay": 1.0, "kl": 1.0},
        "options": {"beta": 0.1},
        "training": {"steps": 9, "planned_steps": 40, "stopped": None, "point": {"step": 4, "rule": "the best"}},
        "settings": {
            "save": "merged", "forget_rows": 4, "replay_rows": 4, "max_tokens": 512, "long_rows": "split",
            "training": {"method": "lora", "learning_rate": 5e-5, "schedule": "cosine"}, "guard": {"every_tokens": 0},
        },
        "compute": {"device": "cpu", "precision": "fp32"},
        "seed": 3,
        "files": [
            {"side": "forget", "name": "hf://org/synthetic:main@train", "hash": "c0ffee", "bytes": None},
            {"side": "replay", "name": "a|b.jsonl", "hash": "beef", "bytes": 12},
        ],
        "rows": {
            "forget": {**row, "pools": {"forget": 20, "guard_forget": 3, "scorecard_forget": 5}},
            "replay": {**row, "pools": {"replay": 18, "guard_replay": 4, "scorecard_replay": 6}},
            "overlap": {"rows": 28, "shared": 1, "left_out": 1, "shared_prompts": 2},
        },
        "cost": cost_record({"tokens": {"forget": 300, "replay": 500}, "flops": 2e9, "seconds": 7, "peak_bytes": 2**30}, None),
        "compared": [change],
        "proofs": [{"proof": "nf4", "against_repaired": [change], "against_before": [change]}],
        "gates": [{"outcome": "undecided", "gate": "change ifeval >= 0", "why": "the interval holds 0"}],
        "notes": ["the guard was off"],
        "command": "pyrite repair org/name --forget a --replay b",
        "made_with": {"pyrite": "0.1.0", "torch": "2", "platform": "secret"},
    }  # fmt: skip


def test_the_hub_reads_the_header(told: dict[str, Any]) -> None:
    made = ModelCard(card(RepairRecord(**told)))
    assert made.data.base_model == "org/name"
    assert made.data.datasets == ["org/synthetic"]
    assert {"unlearning", "lbf"} <= set(made.data.tags)
    told["base_model"], told["settings"]["save"], told["licence"] = None, "adapter", "apache-2.0"
    made = ModelCard(card(RepairRecord(**told)))
    header = made.data.to_dict()
    assert (header.get("base_model"), header["library_name"], header["license"]) == (None, "peft", "apache-2.0")


def test_the_card_says_what_changed_and_how_sure_it_is(told: dict[str, Any]) -> None:
    text = card(RepairRecord(**told))
    assert "| ifeval | prompt_strict | 0.5 | 0.25 | -0.25 [-0.5, +0.125] | 40 | cannot tell yet |" in text
    assert "sliced" not in text
    assert text.count("prompt_strict") == 3  # the repair, and the proof against both models
    assert "9 steps; the result is step 4 (rule: the best)" in text
    assert "0.01 · forget + 1 · replay + 1 · kl; options of `lbf`: beta = 0.1" in text
    assert "Guard: off" in text
    assert "| forget | 30 | 20 | 3 | 5 | 2 same text as an earlier row |" in text
    assert "a&#124;b.jsonl" in text
    assert "undecided: `change ifeval >= 0` (the interval holds 0)" in text
    assert "800 tokens processed (300 forget, 500 replay), and 0 by the guard" in text
    assert "the guard was off" in text
    assert "secret" not in text


def test_numbers_without_an_interval_say_why() -> None:
    assert interval(Interval(value=0.5, low=None, high=None, method="one item")) == "+0.5 (no interval: one item)"
    assert interval(Interval(value=None, low=None, high=None, n=0)) == "no item answered by both"
    assert markdown_table(("a",), [["x\ny | z"]]).splitlines()[-1] == "| x y &#124; z |"


def test_cost_as_a_share_of_what_it_undoes() -> None:
    made = {"tokens": {"forget": 300, "replay": 500, "preferred": 200, "guard": 90}, "flops": 2e9}
    told = cost_record(made, {"from": "history.json", "tokens": 20_000, "flops": 8e9})
    assert told["tokens"]["processed"] == 1000
    assert told["undoes"]["share_of_tokens"] == pytest.approx(0.05)
    assert told["undoes"]["share_of_flops"] == pytest.approx(0.25)
    assert cost_record({}, None)["tokens"]["processed"] == 0  # a null repair processes nothing


def test_what_is_undone_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps({"tokens": 5000, "steps": 3}))
    assert undone(str(tmp_path)) == {"from": "history.json", "tokens": 5000, "flops": None}
    assert undone("1200")["tokens"] == 1200
    for text in ("0", str(tmp_path / "none.json"), "-3"):
        with pytest.raises(UserError, match="training"):
            undone(text)
    (tmp_path / "history.json").write_text('{"tokens": 0}')
    with pytest.raises(UserError, match="no tokens"):
        undone(str(tmp_path / "history.json"))


def test_the_command_says_what_was_chosen_and_no_folder() -> None:
    config = RepairConfig(
        model="/elsewhere/models/damaged",
        forget=("/elsewhere/synthetic.jsonl", "hf://org/more"),
        replay=("/elsewhere/human.jsonl",),
        task=("ifeval=/elsewhere/input_data.jsonl", "heuristics=300"),
        kl_weight=0.5,
        guard_gate=("kl <= 0.2",),
        store=Path("/elsewhere/store"),
    )
    words = shlex.split(command(config))
    assert words[:3] == ["pyrite", "repair", "damaged"]
    assert "/" not in command(config).replace("hf://org/more", "")
    assert words[words.index("--kl-weight") + 1] == "0.5"
    assert words[words.index("--guard-gate") + 1] == "kl <= 0.2"
    assert "--tokens" not in words
    _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    options = bound.arguments["options"]
    assert options.task == ("ifeval=input_data.jsonl", "heuristics=300")
    assert options.forget == ("synthetic.jsonl", "hf://org/more")


def test_names_of_models_make_names_of_folders() -> None:
    assert file_stem("packaged:smollm2-135m-instruct") == "smollm2-135m-instruct"
    assert file_stem("org/name@v1.0") == "name"
    assert file_stem("some/where/my model") == "my-model"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.08, -0.06, "more likely, not less"), (-0.01, 0.02, "cannot be told"), (0.1, 0.2, None)],
)
def test_a_repair_that_forgot_nothing_says_so(low: float, high: float, said: str | None) -> None:
    from pyrite.repair.record import not_forgotten

    change = {"value": (low + high) / 2, "low": low, "high": high}
    line = {"metric": "nats_per_token", "primary": True, "difference": change}
    told = not_forgotten([{"task": "forget", "contrasts": [line]}, {"task": "replay", "contrasts": [line]}])
    assert len(told) == (said is not None)
    assert said is None or said in told[0]
