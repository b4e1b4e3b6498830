"""`pyrite repair` with the model before: interpolation, the choice of alpha, the frontier, three models, trained repairs."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.repair.repair_kit import chats, write
from tests.repair.restore_kit import two_models
from tests.repair.test_repair_classifier import classifier
from tests.repair.test_repair_run import adapter_in

from pyrite.cli import run
from pyrite.repair.check import UNUSED
from pyrite.repair.config import RepairOptions

Command = Callable[..., tuple[int, dict[str, Any], str]]


@dataclass(frozen=True)
class Two:
    """Two models and the rows that each learned last."""

    folder: Path
    before: Path
    harmed: Path

    @property
    def rows(self) -> list[str]:
        """Rows of both sides, as flags."""
        return ["--forget", str(self.folder / "uniform.jsonl"), "--replay", str(self.folder / "people.jsonl")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Two:
    folder = tmp_path_factory.mktemp("two")
    return Two(folder, *two_models(folder, tiny_causal))


@pytest.fixture
def repair(two: Two, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command on the harmed model; its store lasts for all tests of the file."""

    def command(*options: str, model: Path | None = None, before: Path | None = two.before) -> tuple[int, dict[str, Any], str]:  # fmt: skip
        flags = ["--out", str(tmp_path / "out"), "--store", str(two.folder / "store"), "--precision", "fp32", "--quiet"]
        flags += ["--before", str(before)] if before is not None else []
        code = run(["repair", str(model or two.harmed), *flags, "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out) if code in (0, 1, 3) else {}, err

    return command


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


SPLIT = ["--scorecard-rows", "40"]
TASKS = ["--task", "replay", "--gain", "forget"]


def test_alpha_is_chosen_on_some_items_and_judged_on_the_others(repair: Command, two: Two, tmp_path: Path) -> None:
    code, record, err = repair(
        "--method", "interpolate", *two.rows, *SPLIT, *TASKS, "--gate", "change replay.nats_per_token <= 0"
    )
    assert code == 0, err
    front = record["frontier"]
    assert (front["lost"], front["gained"]) == ("replay.nats_per_token", "forget.nats_per_token")
    assert [point["alpha"] for point in front["points"]] == [0.15, 0.3, 0.5, 0.7, 0.85]
    picked = front["selection"]
    assert picked["items_left"] == {"replay": 28, "forget": 28}
    # the rule, by hand, from the means on the items that chose
    tried = {row["name"]: row for row in picked["tried"]}
    gain = tried["before"]["gained"] - tried["harmed"]["gained"]
    able = {
        name: row["lost"]
        for name, row in tried.items()
        if name.startswith("alpha") and tried["before"]["gained"] - row["gained"] >= 0.9 * gain
    }
    assert picked["name"] == min(able, key=lambda name: able[name])
    assert 0 < len(able) < 5
    (chosen,) = [point for point in front["points"] if point["chosen"]]
    assert chosen["name"] == picked["name"]
    # the shares, by hand, from the scorecards on the items that judge
    means = {(card["about"], card["task"]): card["overall"]["value"] for card in record["scorecards"]}
    back = (means["harmed", "replay"] - means["repaired", "replay"]) / (
        means["harmed", "replay"] - means["before", "replay"]
    )
    kept_share = (means["before", "forget"] - means["repaired", "forget"]) / (
        means["before", "forget"] - means["harmed", "forget"]
    )
    assert chosen["recovered"]["value"] == pytest.approx(back)
    assert chosen["kept"]["value"] == pytest.approx(kept_share)
    assert chosen["recovered"]["low"] < back < chosen["recovered"]["high"]
    assert {card["overall"]["n"] for card in record["scorecards"]} == {28}
    # what is written is the model that was chosen
    before, harmed, repaired = (weights(folder) for folder in (two.before, two.harmed, tmp_path / "out"))
    for name, value in repaired.items():
        assert (
            value.equal(
                (before[name].double() + chosen["alpha"] * (harmed[name].double() - before[name].double())).float()
            )
            or (value - (before[name] + chosen["alpha"] * (harmed[name] - before[name]))).abs().max() < 1e-6
        )
    rows = list(csv.DictReader((tmp_path / "out" / "frontier.csv").open()))
    assert len(rows) == 5 * 4
    assert (tmp_path / "out" / "frontier.svg").is_file()
    assert record["gates"][0]["outcome"] == "passed"
    assert [(comparison["first"], comparison["second"]) for comparison in record["compared"]] == [
        ("harmed", "repaired")
    ] * 2
    assert [(comparison["first"], comparison["second"]) for comparison in record["harm"]] == [("before", "harmed")] * 2
    # another seed divides the items anew; the same one does not
    _, again, _ = repair(
        "--method", "interpolate", *two.rows, *SPLIT, *TASKS, "--gate", "change replay.nats_per_token <= 0"
    )
    assert {**again, "out": None} == {**record, "out": None}


def test_the_page_says_what_comes_back_and_a_gate_reads_the_folder(
    repair: Command, two: Two, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, record, err = repair("--method", "interpolate", *two.rows, *SPLIT, *TASKS)
    assert code == 0, err
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / "out"), "-o", str(page)]) == 0
    printed = capsys.readouterr().out
    sentence = next(
        text for text in record["frontier"]["sentences"] if text.startswith(record["frontier"]["selection"]["name"])
    )
    assert printed.splitlines()[0].endswith(sentence)
    text = page.read_text()
    for part in (
        "What comes back, and what is kept",
        "Three models",
        "The harm",
        "Repaired against before",
        "alpha 0.15",
    ):
        assert part in text
    assert "What it cost" not in text  # nothing was trained
    change = "change replay.nats_per_token"
    assert run(["gate", str(tmp_path / "out"), "--require", f"{change} <= 0"]) == 0  # repaired minus harmed
    assert run(["gate", str(tmp_path / "out"), "--require", f"{change} >= 0"]) == 1


def test_the_ends_of_the_frontier_are_the_two_models(repair: Command, two: Two, tmp_path: Path) -> None:
    for alpha, place, like in (("1", (0, 1), two.harmed), ("0", (1, 0), two.before)):
        code, record, err = repair("--method", "interpolate", *two.rows, *SPLIT, *TASKS, "--alpha", alpha)
        assert code == 0, err
        (point,) = record["frontier"]["points"]
        assert (point["recovered"]["value"], point["kept"]["value"]) == pytest.approx(place)
        assert point["recovered"]["low"] is None
        assert "not one item differs" in point["recovered"]["method"]
        assert all(value.equal(weights(like)[name]) for name, value in weights(tmp_path / "out").items())
        assert record["frontier"]["selection"] is None


def test_no_rows_and_no_tasks_are_needed(repair: Command, two: Two, tmp_path: Path) -> None:
    code, record, err = repair("--method", "interpolate")
    assert code == 0, err
    assert record["mixed"]["alpha"] == 0.5
    assert record["frontier"] is None
    assert record["rows"] == {"overlap": record["rows"]["overlap"]}
    assert any("nothing was asked" in note for note in record["notes"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2109.01903" in card
    assert "## Data" not in card
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_same_model_twice_changes_no_bit_and_says_so(repair: Command, two: Two, tmp_path: Path) -> None:
    code, record, err = repair(
        "--method", "interpolate", *two.rows, *SPLIT, *TASKS, "--alpha", "0.4", before=two.harmed
    )
    assert code == 0, err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (two.harmed / "model.safetensors").read_bytes()
    assert any("no bit changes" in note for note in record["notes"])
    (point,) = record["frontier"]["points"]
    assert point["recovered"]["value"] is None
    assert "not clear of 0" in point["recovered"]["why"]
    assert all(
        line["difference"]["value"] == 0 for comparison in record["compared"] for line in comparison["contrasts"]
    )


def test_a_chat_template_that_only_one_model_has_is_no_gain(repair: Command, two: Two, tmp_path: Path) -> None:
    """alpha 0 is the model before: it recovers all of what was lost, whatever template the harmed model brings."""
    chat = tmp_path / "chat"
    shutil.copytree(two.harmed, chat)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = "{% for m in messages %}## {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(chat)
    code, record, err = repair("--method", "interpolate", *two.rows, *SPLIT, *TASKS, "--alpha", "0", model=chat)
    assert code == 0, err
    (point,) = record["frontier"]["points"]
    assert (point["recovered"]["value"], point["kept"]["value"]) == (1.0, 0.0)
    assert any("chat templates differ" in note for note in record["notes"])


def test_a_training_folder_leaves_its_checkpoints_behind(repair: Command, two: Two, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(two.harmed, trained)
    for name in ("checkpoint-5/optimizer.pt", "extra/more/weights.safetensors", "extra/notes.txt"):
        (trained / name).parent.mkdir(parents=True, exist_ok=True)
        (trained / name).write_text("x")
    code, _, err = repair("--method", "interpolate", model=trained)
    assert code == 0, err
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert "extra/notes.txt" in names
    assert not [name for name in names if "optimizer" in name or name.startswith("extra/more")]


def test_models_that_are_swapped_are_asked_about(repair: Command, two: Two) -> None:
    code, record, err = repair(
        *("--method", "interpolate"), *two.rows, *SPLIT, *TASKS, model=two.before, before=two.harmed
    )
    assert code == 0, err
    assert "swapped" in record["notes"][0]
    assert "went the other way" in record["frontier"]["selection"]["why"]
    assert record["frontier"]["selection"]["name"] == "alpha 0.5"


def test_an_adapters_base_is_the_model_before_for_a_choice_too(repair: Command, two: Two, tmp_path: Path) -> None:
    adapter = adapter_in(tmp_path / "adapter", two.before)
    flags = ("--method", "interpolate", *two.rows, *SPLIT, *TASKS)
    code, record, err = repair(*flags, model=adapter, before=None)
    assert code == 0, err
    assert len(record["frontier"]["points"]) == 5
    code, record, err = repair(
        "--method", "interpolate", "--alpha", "1", "--group", "*layers.0.*=0", model=adapter, before=None
    )
    assert code == 0, err
    changed, full = weights(tmp_path / "out"), weights(two.before)
    assert all(value.equal(full[name]) for name, value in changed.items() if "layers.0." in name)
    assert not all(value.equal(full[name]) for name, value in changed.items())


def test_negating_with_the_model_itself_before_is_no_null(repair: Command, two: Two) -> None:
    flags = ("--method", "negate", "--alpha", "1", "--forgetter", str(two.harmed))
    code, record, err = repair(*flags, model=two.before, before=two.before)
    assert code == 0, err
    assert record["mixed"]["tensors_changed"] > 0
    assert not any("no bit changes" in note for note in record["notes"])


def test_an_adapter_is_scaled_and_its_base_is_the_model_before(repair: Command, two: Two, tmp_path: Path) -> None:
    """The merged model of a scaled adapter is the interpolation of the whole models to 1e-6."""
    adapter = adapter_in(tmp_path / "adapter", two.before)
    flags = ("--method", "interpolate", "--alpha", "0.25")
    code, record, err = repair(*flags, model=adapter, before=None)
    assert code == 0, err
    scaled = weights(tmp_path / "out")
    code, _, err = repair(*flags, "--save", "adapter", model=adapter, before=two.before)
    assert code == 0, err
    from safetensors.torch import load_file

    scaled_adapter, source_adapter = (
        load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "out", adapter)
    )
    for name, value in scaled_adapter.items():
        factor = 0.25 if "lora_B" in name else 1.0
        assert value.equal((source_adapter[name].double() * factor).to(value.dtype))
    from peft import PeftModel

    from pyrite.models.hardware import Compute
    from pyrite.models.load import load_causal

    full = PeftModel.from_pretrained(load_causal(two.before, Compute("cpu", "fp32")), adapter).merge_and_unload()
    merged, before = full.state_dict(), weights(two.before)
    for name, value in scaled.items():
        assert (value - (before[name] + 0.25 * (merged[name] - before[name]))).abs().max() < 1e-6, name
    assert record["mixed"]["tensors_changed"] > 0


def test_negation_trains_the_model_of_the_forget_rows(repair: Command, two: Two, tmp_path: Path) -> None:
    flags = ("--method", "negate", "--alpha", "0.5", "--learning-rate", "1e-3", *two.rows, *SPLIT, "--task", "replay")
    code, record, err = repair(*flags)
    assert code == 0, err
    assert record["frontier"]["gained"] is None
    code, named, err = repair("--method", "negate", "--alpha", "0.5", "--forgetter", str(two.harmed))
    assert code == 0, err
    before, harmed, repaired = (weights(folder) for folder in (two.before, two.harmed, tmp_path / "out"))
    for name, value in repaired.items():  # the forgetter is the harmed model itself: half of its way is taken back
        assert (value - (harmed[name] - 0.5 * (harmed[name] - before[name]))).abs().max() < 1e-6, name
    assert named["forgetter"]["model"] == "harmed"


def test_healed_newly_broken_and_kept_by_hand(repair: Command, two: Two, tmp_path: Path) -> None:
    """A task of right and wrong: what became of each item stands in outcomes.csv, and the shares count its rows."""
    task = tmp_path / "kind.yaml"
    task.write_text("labels: [lovely, fine]\nfields: [text]\nlabel: label\nfile: kind.jsonl\n")
    write([{"text": f"the walk {n}", "label": ("lovely", "fine")[n % 2]} for n in range(40)], tmp_path / "kind.jsonl")
    code, record, err = repair("--method", "interpolate", "--alpha", "0.5", "--task", str(task))
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "out" / "outcomes.csv").open()))
    assert len(rows) == 40
    (share,) = record["outcomes"]
    sides = [tuple(row[name] == "True" for name in ("before", "harmed", "repaired")) for row in rows]
    for name, counted, of in (
        ("healed", [(True, False, True)], [(True, False, True), (True, False, False)]),
        ("kept_gain", [(False, True, True)], [(False, True, True), (False, True, False)]),
    ):
        among = [side for side in sides if side in of]
        assert share[name]["n"] == len(among)
        if among:
            assert share[name]["value"] == pytest.approx(sum(side in counted for side in among) / len(among))
    assert share["newly_broken"]["n"] == sum(harmed for _, harmed, _ in sides)
    assert sum(share["counts"].values()) == 40


TRAIN = [
    "--steps",
    "4",
    "--training",
    "full",
    "--learning-rate",
    "1e-3",
    "--guard-answers",
    "0",
    "--guard-rows",
    "12",
    "--guard-forget-rows",
    "12",
    *SPLIT,
]


def test_a_trained_repair_stands_on_the_frontier_beside_interpolations(repair: Command, two: Two) -> None:
    code, record, err = repair(*two.rows, *TRAIN, *TASKS, "--alpha", "0.5")
    assert code == 0, err
    assert [(point["name"], point["chosen"]) for point in record["frontier"]["points"]] == [
        ("repaired", True),
        ("alpha 0.5", False),
    ]
    assert record["training"]["steps"] > 0
    assert {card["overall"]["n"] for card in record["scorecards"]} == {40}  # nothing was chosen: all items judge


def test_training_may_start_between_the_two(repair: Command, two: Two, tmp_path: Path) -> None:
    null = ["--forget-weight", "0", "--replay-weight", "0", "--kl-weight", "0"]
    code, record, err = repair(*two.rows, *TRAIN, *TASKS, *null, "--start-alpha", "0.3", "--alpha", "0.3")
    assert code == 0, err
    trained, mixed = record["frontier"]["points"]
    assert trained["recovered"] == mixed["recovered"]
    assert any("alpha 0.3" in note for note in record["notes"])


def test_kl_keeps_to_the_model_before(repair: Command, two: Two) -> None:
    """With KL alone on replay rows, training draws the harmed model towards the one before, and none towards itself."""
    only_kl = ["--forget-weight", "0", "--replay-weight", "0", "--kl-weight", "1"]
    _, to_itself, _ = repair(*two.rows, *TRAIN, *TASKS, *only_kl)
    code, before, err = repair(
        *two.rows, *TRAIN, *TASKS, *only_kl, "--kl-to", "before", "--guard-kl", "0.05", "--guard-entropy-ratio", "9"
    )
    assert code == 0, err
    assert before["training"]["stopped"] is None  # the guard's KL is from the model before, too, and it falls
    looks = [look["kl"] for look in before["guard"]]
    assert looks[0] > 0.05 > looks[-1] - looks[0]
    share = before["frontier"]["points"][0]["recovered"]
    assert share["low"] > 0.05
    assert to_itself["frontier"]["points"][0]["recovered"]["value"] == pytest.approx(0, abs=0.01)
    curve = [row["kl"] for row in before["curve"]]
    assert curve[-1] < curve[0]
    assert to_itself["curve"][0]["kl"] == pytest.approx(0, abs=1e-6)
    lora = ["lora" if word == "full" else word for word in TRAIN]
    code, adapted, err = repair(*two.rows, *lora, *TASKS, *only_kl, "--kl-to", "before", "--guard-kl", "9")
    assert code == 0, err
    assert adapted["curve"][0]["kl"] == pytest.approx(curve[0], rel=1e-3)


def test_replay_rows_answered_by_the_model_before(repair: Command, two: Two, tmp_path: Path) -> None:
    sides = ["--forget", str(two.folder / "uniform.jsonl"), "--replay", f"self={two.folder / 'people.jsonl'}"]
    code, record, err = repair(*sides, *TRAIN, "--task", "replay", "--self-tokens", "120", "--self-temperature", "0.5")
    assert code == 0, err
    counted = record["self_replay"]
    assert record["rows"]["replay"]["pools"]["replay"] == 28
    assert counted["read"] == counted["kept"] + sum(counted["dropped"].values()) == 40
    assert counted["written_by"].startswith(
        "sha256:"
    )  # what identifies the folder; its name may say whose machine it is on
    (file,) = (path for path in two.folder.glob("store/done/*/*/replay.jsonl") if b"written_by" in path.read_bytes())
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    prompts = {
        json.loads(line)["messages"][0]["content"] for line in (two.folder / "people.jsonl").read_text().splitlines()
    }
    assert {row["messages"][0]["content"] for row in rows} <= prompts
    assert all(row["messages"][-1]["role"] == "assistant" and row["messages"][-1]["content"].strip() for row in rows)
    assert record["rows"]["replay"]["trained"]["read"] == len(rows)
    assert any("own, sampled once" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--method", "interpolate", "--alpha", "1.5"], "alpha is at most 1"),
        (["--method", "interpolate", "--alpha", "0.2", "--alpha", "0.4"], "nothing to choose"),
        (["--method", "interpolate", "--select", "0.3"], "nothing to choose"),
        (["--method", "interpolate", "--group", "a=2"], "between 0 and 1"),
        (["--method", "interpolate", "--group", "a=x"], "is a number"),
        (["--method", "interpolate", "--kl-to", "before"], "--kl-to"),
        (["--method", "interpolate", "--steps", "10"], "--steps"),
        (["--method", "interpolate", "--undoes", "10"], "--undoes"),
        (["--method", "interpolate", "--group", "*layer.0.*=0.2"], "fits no weight"),
        (["--method", "interpolate", "--replay", "self=x.jsonl"], "Nothing is replayed"),
        (["--method", "interpolat"], "did you mean 'interpolate'"),
        (["--method", "negate", "--alpha", "inf"], "--alpha"),
        (["--method", "interpolate", "--task", "replay", "--gain", "replay", "--replay", "people.jsonl"], "asked twice"),
        (["--method", "interpolate", "--forgetter", "x"], "--forgetter"),
        (["--method", "interpolate", "--option", "beta=1"], "--option"),
        (["--method", "interpolate", "--prove", "relearn=4"], "Relearning needs forget rows"),
        (["--method", "interpolate", "--task", "replay"], "no held-out rows"),
        (["--method", "negate"], "needs a model trained on the rows to forget"),
        ([], "needs rows to forget and to replay"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(flags: list[str], says: str, repair: Command, two: Two) -> None:
    flags = [str(two.folder / word) if word == "people.jsonl" else word for word in flags]
    code, _, err = repair(*flags)
    assert (code, says in err) == (2, True), err


def test_what_needs_the_model_before_says_so(repair: Command, two: Two) -> None:
    for flags in (
        ["--method", "interpolate"], ["--gain", "forget"], ["--start-alpha", "0.5"], ["--kl-to", "before"], ["--alpha", "0.5"],
    ):  # fmt: skip
        code, _, err = repair(*two.rows, *flags, before=None)
        assert (code, "before" in err) == (2, True), (flags, err)
    mixed = ["--forget", str(two.folder / "uniform.jsonl"), "--replay", f"self={two.folder / 'people.jsonl'}"]
    code, _, err = repair(*mixed, before=None)
    assert (code, "model before" in err) == (2, True)
    code, _, err = repair(*mixed, "--replay", str(write(chats(3, start=900), two.folder / "more.jsonl")))
    assert (code, "people's or the model's own" in err) == (2, True)


def test_another_sort_of_model_is_refused(repair: Command, tiny_encoder: Path, tmp_path: Path) -> None:
    code, _, err = repair("--method", "interpolate", before=classifier(tmp_path / "classifier", tiny_encoder))
    assert (code, "one is a classifier" in err) == (2, True), err


def test_every_flag_is_read_without_training_or_refused() -> None:
    """A new flag must be put on one of the two lists: one that does nothing must not be accepted in silence."""
    read = {
        "forget",
        "replay",
        "before",
        "out",
        "columns",
        "on_bad_row",
        "overlap_limit",
        "seed",
        "precision",
        "method",
    }
    read |= {
        "alpha",
        "group",
        "max_tokens",
        "part",
        "pack_tokens",
        "chat_template_kwargs",
        "encoding",
        "roles",
        "split",
        "tool_calls",
        "save",
        "scorecard_rows",
        "task",
        "gain",
        "select",
        "keep",
    }
    read |= {
        "items",
        "skip",
        "max_new_tokens",
        "judge_url",
        "judge_model",
        "judge_votes",
        "judge_key_variable",
        "margin",
    }
    read |= {"gate", "undecided", "prove", "relearn_rate", "max_time", "store", "quiet", "engine", "device_map"}
    refused_by_name = {"forgetter", "start_alpha", "kl_to", "option"}
    assert set(RepairOptions.model_fields) == read | refused_by_name | set(UNUSED["interpolate"])
    assert not read & set(UNUSED["interpolate"])
