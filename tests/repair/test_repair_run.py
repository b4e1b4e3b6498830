"""`pyrite repair` from row files to a model folder with its card; the training step is a stand-in of known numbers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.repair.repair_kit import STAND_IN, chats, write

from pyrite.cli import run
from pyrite.models.hardware import Compute
from pyrite.steps import StepType

Repair = Callable[..., tuple[int, dict[str, Any], str]]


@dataclass
class Bench:
    """A folder with row files, and the command that repairs with them."""

    folder: Path
    repair: Repair
    out: Path


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-in where the command looks for its training step."""
    module = ModuleType("pyrite.repair.train")
    module.REPAIR = STAND_IN  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyrite.repair.train", module)


@pytest.fixture
def bench(training: None, real: Bench) -> Bench:
    """The same, with the stand-in."""
    return real


@pytest.fixture
def real(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """The command with its own training step."""
    write(chats(24, answer="### Answer: fine"), tmp_path / "forget.jsonl")
    write(chats(30, start=100), tmp_path / "replay.jsonl")

    def repair(*options: str, model: Path = tiny_causal, json_: bool = True) -> tuple[int, dict[str, Any], str]:
        flags = {
            "--forget": tmp_path / "forget.jsonl",
            "--replay": tmp_path / "replay.jsonl",
            "--out": tmp_path / "out",
            "--store": tmp_path / "store",
            "--precision": "fp32",
            "--scorecard-rows": 6,
            "--guard-rows": 4,
            "--guard-forget-rows": 4,
        }
        line = [word for flag, value in flags.items() if flag not in options for word in (flag, str(value))]
        line = ["repair", str(model), *line, "--quiet", *(["--json"] if json_ else []), *options]
        code = run(line)
        out, err = capsys.readouterr()
        assert code in (0, 1, 2, 3), err
        return code, json.loads(out) if json_ and code != 2 else {}, err if code == 2 else out

    return Bench(tmp_path, repair, tmp_path / "out")


def adapter_in(folder: Path, base: Path) -> Path:
    """A folder of adapters with seeded values, and nothing else."""
    import torch
    from peft import LoraConfig, get_peft_model

    from pyrite.models.load import load_causal

    torch.manual_seed(0)
    lora = LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_causal(base, Compute("cpu", "fp32")), lora).save_pretrained(folder)
    return folder


def contrasts(record: dict[str, Any], task: str) -> dict[str, dict[str, Any]]:
    (comparison,) = [comparison for comparison in record if comparison["task"] == task]  # type: ignore[index]
    return {line["metric"]: line for line in comparison["contrasts"] if line["primary"]}


def test_a_repair_writes_a_model_that_loads_and_tells_all(bench: Bench) -> None:
    code, record, _ = bench.repair("--undoes", "8000")
    assert code == 0
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(bench.out)
    AutoTokenizer.from_pretrained(bench.out)
    written = {file.name for file in bench.out.iterdir()}
    assert {"README.md", "repair.json", "curve.csv", "guard.csv", "curves.svg", "model.safetensors"} <= written
    assert "step.json" not in written
    assert not [file for file in bench.out.iterdir() if file.stat().st_nlink > 1]  # no link into the store
    stored = json.loads((bench.out / "repair.json").read_text())
    assert stored == {name: value for name, value in record.items() if name != "out"}
    assert str(bench.folder) not in json.dumps(stored)
    assert record["rows"]["forget"]["pools"] == {"forget": 14, "guard_forget": 4, "scorecard_forget": 6}
    assert record["rows"]["replay"]["trained"] == {"read": 20, "used": 20, "split": 0, "dropped": {}}
    assert record["cost"]["tokens"]["processed"] == 800
    assert record["cost"]["undoes"]["share_of_tokens"] == pytest.approx(0.1)
    assert (bench.out / "curve.csv").read_text().splitlines()[1] == "1,400,2.0,0.4,2.0,0.0,1e-05"


def test_no_file_of_a_model_folder_names_a_folder_of_this_machine(bench: Bench, tiny_causal: Path) -> None:
    """The source of a task, and of the tables its items and texts."""
    code, record, _ = bench.repair("--task", f"perplexity={bench.folder / 'replay.jsonl'}")
    assert code == 0
    assert {card["source"] for card in record["scorecards"] if card["task"] == "perplexity"} == {"replay.jsonl"}
    for file in (file for file in bench.out.rglob("*") if file.is_file()):
        for path in (bench.folder, tiny_causal):
            assert str(path).encode() not in file.read_bytes(), file.name


def test_the_scorecard_compares_the_same_rows_before_and_after(bench: Bench) -> None:
    _, record, _ = bench.repair()
    for side, verdicts in (("replay", {"better", "worse", "cannot tell yet", "equivalent"}), ("forget", {None})):
        line = contrasts(record["compared"], side)["nats_per_token"]
        assert line["difference"]["n"] == 6
        assert line["difference"]["low"] <= line["difference"]["value"] <= line["difference"]["high"]
        assert line["difference"]["value"] == pytest.approx(line["second"] - line["first"])
        assert line["verdict"] in verdicts
    abouts = {(card["about"], card["task"]) for card in record["scorecards"]}
    assert abouts == {(name, side) for name in ("before", "repaired") for side in ("replay", "forget")}


def test_a_second_call_redoes_nothing_and_tells_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, _ = bench.repair()
    before = (bench.out / "README.md").read_bytes()

    def never(context: object) -> None:
        raise AssertionError("a step was run again")

    monkeypatch.setattr("pyrite.steps.attempt.attempt_one", never)
    _, second, _ = bench.repair()
    assert first == second
    assert (bench.out / "README.md").read_bytes() == before


def test_tasks_and_gates_set_the_exit_code(bench: Bench) -> None:
    texts = write([{"text": f"the film {n} was lovely and warm"} for n in range(12)], bench.folder / "texts.jsonl")
    task = ("--task", f"perplexity={texts}")
    code, record, _ = bench.repair(*task, "--gate", "perplexity.nats_per_token < 100", "--gate", "change replay <= 50")
    assert (code, record["exit_code"]) == (0, 0)
    assert [gate["outcome"] for gate in record["gates"]] == ["passed", "passed"]
    assert contrasts(record["compared"], "perplexity")["nats_per_token"]["difference"]["n"] == 12
    code, record, _ = bench.repair(*task, "--gate", "change perplexity >= 50")
    assert (code, record["gates"][0]["outcome"]) == (1, "failed")
    assert not any("no --task" in note for note in record["notes"])


def test_proofs_are_said_against_both_models(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told_of: list[Any] = []

    def relearn(context: Any) -> None:
        from shutil import copyfile

        told_of.append(context.config)
        for file in context.inputs["base"].iterdir():
            if file.name != "step.json":
                copyfile(file, context.out / file.name)

    for name, kind in (("quantise.QUANTISE", "repair.quantise"), ("language.TRAIN_LANGUAGE", "train.language")):
        package = "pyrite.repair" if "quantise" in name else "pyrite.train"
        module = ModuleType(f"{package}.{name.partition('.')[0]}")
        setattr(module, name.partition(".")[2], StepType(kind, 900, relearn))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    code, record, _ = bench.repair("--prove", "int8", "--prove", "relearn=5")
    assert code == 0
    assert [proof["proof"] for proof in record["proofs"]] == ["int8", "relearned on 5 rows"]
    assert told_of[0]["to"] == "int8"
    assert (told_of[1]["first"], told_of[1]["rows_file"], told_of[1]["trains"]) == (5, "forget.jsonl", "chat")
    unchanged = contrasts(record["proofs"][0]["against_repaired"], "replay")["nats_per_token"]
    assert unchanged["difference"]["value"] == 0  # the proof's step here changes nothing
    before = contrasts(record["proofs"][0]["against_before"], "replay")["nats_per_token"]
    assert before["difference"] == contrasts(record["compared"], "replay")["nats_per_token"]["difference"]
    code, _, err = bench.repair("--prove", "relearn=500")
    assert code == 2
    assert "14 forget rows" in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--prove", "int3"), "--prove int3"),
        (("--prove", "relearn"), "relearn=M"),
        (("--tokens", "5", "--steps", "5"), "give tokens or steps"),
        (("--training", "full", "--save", "adapter"), "needs training.method"),
        (("--option", "beta=x"), "a number"),
        (("--gate", "change ifeval >= 0"), "unknown task"),
        (("--scorecard-rows", "0"), "would be empty"),
        (("--task", "nothing=3"), "not a task"),
        (("--undoes", "nowhere.json"), "nowhere.json"),
        (("--guard-gate", "speed <= 3"), "speed <= 3"),
        (("--max-tokens", "2"), "greater than or equal to 8"),
    ],
)
def test_mistakes_are_named_before_anything_runs(flags: tuple[str, ...], says: str, bench: Bench) -> None:
    code, _, err = bench.repair(*flags)
    assert code == 2
    assert says in err
    assert not (bench.folder / "store").exists()
    assert not bench.out.exists()


def test_an_output_folder_in_use_is_left_alone(bench: Bench, tiny_causal: Path) -> None:
    bench.out.mkdir()
    (bench.out / "thesis.txt").write_text("mine")
    code, _, err = bench.repair()
    assert code == 2
    assert "thesis.txt" in err
    (bench.out / "thesis.txt").unlink()
    assert bench.repair()[0] == 0
    assert bench.repair("--seed", "1")[0] == 0  # a repair of ours is replaced
    (bench.out / "thesis.txt").write_text("mine")
    assert bench.repair()[0] == 2
    assert (bench.out / "thesis.txt").read_text() == "mine"
    assert not [file.name for file in bench.folder.iterdir() if file.name.startswith(".")]
    code, _, err = bench.repair("--out", str(tiny_causal))
    assert code == 2
    assert "over what is read" in err


def test_an_adapter_is_merged_so_that_it_can_be_compared(bench: Bench, tiny_causal: Path) -> None:
    import torch
    from peft import PeftModel

    from pyrite.models.load import load_causal

    adapter = adapter_in(bench.folder / "adapter", tiny_causal)
    code, record, err = bench.repair(model=adapter)
    assert code == 0, err
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected = PeftModel.from_pretrained(load_causal(tiny_causal, Compute("cpu", "fp32")), adapter)(ids).logits
        (key,) = [key for label, key in record["steps"].items() if label.startswith("merge the adapter")]
        merged = load_causal(bench.folder / "store" / "done" / key[:2] / key, Compute("cpu", "fp32"))
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert record["model"] == "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "sha256:gone"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    code, _, err = bench.repair(model=adapter)
    assert code == 2
    assert "base is not there" in err


def test_overlap_and_labelled_rows_are_refused(bench: Bench) -> None:
    write([*chats(3, answer="### Answer: fine"), *chats(30, start=200)], bench.folder / "replay.jsonl")
    code, _, err = bench.repair()
    assert code == 2
    assert "3 of 24 forget rows (12.5%)" in err
    code, record, _ = bench.repair("--overlap-limit", "0.2")
    assert record["rows"]["replay"]["dropped"] == {"also a row of the other side": 3}
    assert any("3 replay rows were left out" in note for note in record["notes"])
    write([{"premise": "a", "hypothesis": "b", "label": "neutral"}] * 3, bench.folder / "replay.jsonl")
    code, _, err = bench.repair()
    assert code == 2
    assert "texts or chats" in err
    assert not list((bench.folder / "store").glob("attempts/*/out/*"))


def test_a_model_that_neither_writes_nor_classifies_is_refused(bench: Bench, tiny_encoder: Path) -> None:
    code, _, err = bench.repair(model=tiny_encoder)
    assert code == 2
    assert "a language model or a classifier" in err


def test_the_terminal_shows_what_changed_and_what_it_cost(bench: Bench) -> None:
    code, _, out = bench.repair(json_=False)
    assert code == 0
    assert "2 steps; the result is step 2" in out
    assert "24 read; 14 forget, 4 guard_forget, 6 scorecard_forget; dropped: none" in out
    assert "repaired against before on nats_per_token" in out
    assert "800 tokens processed" in out
    assert "no chat template" in out
    assert str(bench.out) in out


TRAIN = ("--steps", "3", "--learning-rate", "1e-2")
GUARDED = ("--guard-every-tokens", "200", "--guard-answers", "0", "--guard-replay-rise", "9", "--guard-kl", "9")


def test_a_real_repair_gives_the_same_bytes_twice(real: Bench) -> None:
    code, record, _ = real.repair(*TRAIN, *GUARDED, "--prove", "int8", "--prove", "relearn=6", "--relearn-rate", "2e-3")
    assert code == 0
    rounded, relearned = record["proofs"]
    assert abs(contrasts(rounded["against_repaired"], "replay")["nats_per_token"]["difference"]["value"]) < 0.05
    assert contrasts(relearned["against_repaired"], "forget")["nats_per_token"]["difference"]["value"] < 0
    assert record["training"]["steps"] == 3
    assert len(record["curve"]) == 3
    assert record["cost"]["tokens"]["processed"] == record["curve"][-1]["tokens"] > 0
    assert contrasts(record["compared"], "replay")["nats_per_token"]["difference"]["value"] < -0.05
    first = (real.out / "model.safetensors").read_bytes()
    again = real.repair(*TRAIN, *GUARDED, "--store", str(real.folder / "other"))
    assert again[0] == 0
    assert (real.out / "model.safetensors").read_bytes() == first


def test_a_null_repair_changes_no_bit(real: Bench, tiny_causal: Path) -> None:
    import torch
    from safetensors.torch import load_file

    code, record, _ = real.repair("--forget-weight", "0", "--replay-weight", "0", "--kl-weight", "0")
    assert code == 0
    before, after = load_file(tiny_causal / "model.safetensors"), load_file(real.out / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    for side in ("replay", "forget"):
        assert contrasts(record["compared"], side)["nats_per_token"]["difference"]["value"] == 0
    assert any("null repair" in note for note in record["notes"])
    assert record["cost"]["tokens"]["processed"] == 0


@pytest.mark.parametrize("adapter_mode", ["merge", "keep"])
def test_an_adapter_is_repaired_and_only_the_repairs_own_is_saved(
    adapter_mode: str, real: Bench, tiny_causal: Path
) -> None:
    adapter = adapter_in(real.folder / "adapter", tiny_causal)
    for file in tiny_causal.glob("tokenizer*"):
        shutil.copyfile(file, adapter / file.name)
    code, record, _ = real.repair(
        *TRAIN, "--adapter", adapter_mode, "--save", "adapter", "--guard-every-tokens", "0", model=adapter
    )
    assert code == 0
    assert (real.out / "adapter_model.safetensors").is_file()
    assert not (real.out / "model.safetensors").exists()
    assert contrasts(record["compared"], "replay")["nats_per_token"]["difference"]["value"] < -0.05
    assert "library_name: peft" in (real.out / "README.md").read_text()
    assert any("guard was off" in note for note in record["notes"])


def test_help_loads_no_model_library() -> None:
    script = "import sys; from pyrite.cli import run; assert run(['repair', '--help']) == 0; "
    script += "assert not {'torch', 'transformers', 'numpy', 'scipy', 'altair'} & set(sys.modules)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "--overlap-limit" in finished.stdout


def test_every_item_of_the_scorecard_lies_beside_the_model_and_gates_it_again(bench: Bench) -> None:
    import polars as pl

    from pyrite.gate.config import GateConfig
    from pyrite.gate.run import gate

    texts = write([{"text": f"the film {n} was lovely and warm"} for n in range(12)], bench.folder / "texts.jsonl")
    conditions = ("perplexity.nats_per_token < 100", "change replay <= -50", "change perplexity.bits_per_byte < 0")
    words = [word for condition in conditions for word in ("--gate", condition)]
    code, record, _ = bench.repair("--task", f"perplexity={texts}", "--prove", "int8", "--seed", "3", *words)
    items = pl.read_parquet(bench.out / "items.parquet")
    assert set(items["subject"]) == {"before", "repaired", "int8"}
    assert items.group_by("task").len().sort("task")["len"].to_list() == [3 * 2 * 6, 3 * 2 * 12, 3 * 2 * 6]
    lines = pl.read_parquet(bench.out / "texts.parquet")
    assert lines.filter(pl.col("task") == "perplexity")["text"].to_list()[0] == "the film 0 was lovely and warm"
    forget_texts = lines.filter(pl.col("task") == "forget")["text"].to_list()
    assert len(forget_texts) == 6
    assert all("### Answer: fine" in text for text in forget_texts)
    assert {"items.parquet", "texts.parquet"} <= set(record["written"])
    assert [metric["name"] for metric in record["metrics"]["replay"]] == ["nats_per_token", "bits_per_byte"]
    assert {metric["direction"] for metric in record["metrics"]["forget"]} == {"none"}
    assert (record["alike"]["replay"], record["margin"]) == ("rows", 0.02)
    gated = gate(GateConfig(run=bench.out)).as_json()
    assert (gated["verb"], gated["exit_code"]) == ("repair", code) == ("repair", 1)
    for again, during in zip(gated["gates"], record["gates"], strict=True):
        assert {name: again[name] for name in ("gate", "outcome", "why", "estimate")} == {
            name: during[name] for name in ("gate", "outcome", "why", "estimate")
        }


def test_a_method_from_outside(real: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrite.errors import UserError
    from pyrite.repair.methods import METHODS, import_plugin, plugin_settings, register_method, resolve_method

    code, _, why = real.repair("--method", "toy_probability", *TRAIN)
    assert code == 2
    assert "There is no such method" in why
    from tests.repair import toy_method

    code, record, why = real.repair("--method", "toy_probability", *TRAIN, *GUARDED)
    assert code == 0, why
    assert record["settings"]["method"] == "toy_probability"
    assert contrasts(record["compared"], "forget")["nats_per_token"]["difference"]["value"] > 0
    toy = METHODS["toy_probability"]
    assert resolve_method("toy_probability", {"scale": 2.0}).options == {"scale": 2.0}
    # another process imports the module that its step names; methods of ours leave keys as they were
    config = plugin_settings("toy_probability")
    assert config == {"plugin": [toy_method.__name__, 1]}
    assert plugin_settings("lbf") == {}
    METHODS.pop("toy_probability")
    monkeypatch.delitem(sys.modules, toy_method.__name__)
    import_plugin("toy_probability", config)
    assert "toy_probability" in METHODS
    for wrong in (replace(toy, plugin=""), replace(toy, name="lbf")):
        with pytest.raises(UserError):
            register_method(wrong)
    METHODS.pop("toy_probability")
