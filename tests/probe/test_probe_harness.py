"""`--task harness:NAME` through the command: the numbers that lm-eval itself gives the same tiny model."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyrite.cli import run
from pyrite.models import load
from pyrite.probe import harness_tasks

pytest.importorskip("lm_eval")

CHOICE = """
tag: small_all
task: small_choice
dataset_path: someone/reviews
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "{{text}} it is"
doc_to_choice: [positive, negative]
doc_to_target: sentiment
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WRITE = """
tag: small_all
task: small_write
dataset_path: someone/reviews
output_type: generate_until
training_split: train
test_split: test
num_fewshot: 1
doc_to_text: "{{text}}"
doc_to_target: "{{letter}}"
generation_kwargs: {until: ["zz"], max_gen_toks: 6, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
"""
ROLLING = """
tag: small_all
task: small_rolling
dataset_path: someone/reviews
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
"""
CODE = CHOICE.replace("small_choice", "small_code").replace("tag: small_all\n", "") + "unsafe_code: true\n"
OF_ITEMS = (  # subtask, metric, its name in lm-eval's samples
    ("small_choice", "acc", "acc"),
    ("small_choice", "acc_norm", "acc_norm"),
    ("small_write", "exact_match,letter", "exact_match"),
)
TEXTS = [
    ("the film was lovely and the song was warm", "positive"),
    ("the meal 7 was awful", "negative"),
    ("the book was kind", "positive"),
    ("the trip was cold and the walk was cold", "negative"),
    ("the room was dark", "negative"),
    ("the game was great", "positive"),
    ("the song was poor and the meal was rude", "negative"),
]


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No hub, tables in a folder of the tests, and no listing of the machine (three seconds a run)."""
    import datasets
    import lm_eval.evaluator

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("tables"))
        patch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
        yield


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for name, text in (("choice", CHOICE), ("write", WRITE), ("rolling", ROLLING), ("code", CODE)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "reviews").mkdir()
    for split, rows in (("test", TEXTS), ("train", [("the walk was great", "positive")] * 3)):
        lines = [json.dumps({"text": text, "sentiment": label, "letter": "w"}) + "\n" for text, label in rows]
        (folder / "reviews" / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def line(model: Path, task: str, tasks: Path, data: Path, store: Path, *more: str) -> list[str]:
    where = ["--harness-tasks", str(tasks), "--harness-data", str(data), "--store", str(store)]
    return ["probe", str(model), "--task", f"harness:{task}", *where, "--precision", "fp32", "--quiet", "--json", *more]


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    shown: dict[str, Any] = json.loads(out)
    return shown


@pytest.fixture(scope="module")
def lm_evals(tiny_causal: Path, tasks: Path, data: Path) -> Mapping[str, Any]:
    """The same tasks with lm-eval's own model class, `hf`."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    manager, found = harness_tasks.find_tasks("small_all", tasks)
    with harness_tasks.data_redirected(manager, found, data, None):
        built = harness_tasks.build(manager, "small_all", found, data)
    loaded = AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    lm = HFLM(pretrained=loaded, tokenizer=AutoTokenizer.from_pretrained(tiny_causal), batch_size=1)
    results = simple_evaluate(model=lm, tasks=list(built["tasks"].values()), bootstrap_iters=0)
    assert results is not None
    return results


def lines_of(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"metric": card["metric"], "by": "overall", "name": "overall", **card["overall"]}, *card["slices"]]


def test_the_numbers_are_lm_evals(
    tiny_causal: Path,
    tasks: Path,
    data: Path,
    store: Path,
    lm_evals: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By subtask, every mean of items with our interval; what is no mean of items as a note, without one."""
    card = told(capsys, line(tiny_causal, "small_all", tasks, data, store))
    theirs = lm_evals["results"]
    assert (card["task"], card["source"]) == ("harness:small_all", data.name)
    subtasks = {(row["name"], row["metric"]): row for row in lines_of(card) if row["by"] == "subtask"}
    assert set(subtasks) == {(name, metric) for name, metric, _ in OF_ITEMS}
    for name, metric, _ in OF_ITEMS:
        row = subtasks[name, metric]
        assert row["value"] == pytest.approx(theirs[name][metric if "," in metric else f"{metric},none"])
        assert row["n"] == len(TEXTS)
        assert row["low"] < row["value"] < row["high"] or row["value"] in (0, 1)
    rolling = [note for note in card["notes"] if note.startswith("word_perplexity") or "word_perplexity" in note]
    assert len(rolling) == 1
    assert f"{theirs['small_rolling']['word_perplexity,none']:.4g}" in rolling[0]
    assert card["details"]["shots"] == {"small_choice": 0, "small_write": 1, "small_rolling": 0}


def test_every_item_is_lm_evals(
    tiny_causal: Path,
    tasks: Path,
    data: Path,
    store: Path,
    lm_evals: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The stored items, one by one; some are right and some wrong."""
    told(capsys, line(tiny_causal, "small_all", tasks, data, store))
    (file,) = store.glob("done/*/*/measured.jsonl")
    items = [json.loads(row) for row in file.read_bytes().splitlines()]
    samples = lm_evals["samples"]
    for name, metric, key in OF_ITEMS:
        ours = [one["value"] for one in items if (one["slices"]["subtask"], one["metric"]) == (name, metric)]
        assert ours == [one[key] for one in sorted(samples[name], key=lambda one: one["doc_id"])]
    for metric in ("acc", "exact_match,letter"):
        assert {one["value"] for one in items if one["metric"] == metric} == {0.0, 1.0}


def test_one_task_fewer_items_more_examples(
    tiny_causal: Path, tasks: Path, data: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = line(tiny_causal, "small_choice", tasks, data, store)
    card = told(capsys, [*whole, "--items", "3", "--num-fewshot", "2"])
    assert (card["overall"]["n"], card["details"]["shots"]) == (3, {"small_choice": 2})
    assert {row["by"] for row in lines_of(card)} == {"overall"}
    gates = ["--gate", "harness:small_choice.acc_norm >= 0", "--gate", "harness:small_choice <= 1"]
    assert told(capsys, [*whole, *gates])["exit_code"] == 0


def test_two_models_on_a_harness_task(
    tiny_causal: Path, tasks: Path, data: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = shutil.copytree(tiny_causal, tmp_path / "twin")
    arguments = line(tiny_causal, "small_choice", tasks, data, store)
    arguments.insert(2, str(twin))
    (compared,) = told(capsys, arguments)["compared"]
    assert compared["flips"] == []
    assert {row["metric"]: row["difference"]["value"] for row in compared["contrasts"]} == {"acc": 0.0, "acc_norm": 0.0}


def test_other_data_is_another_step(
    tiny_causal: Path, tasks: Path, data: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed file is read anew, although its path is the same."""
    moved = shutil.copytree(data, tmp_path / "data")
    before = told(capsys, line(tiny_causal, "small_choice", tasks, moved, store))
    file = moved / "reviews" / "test.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))
    after = told(capsys, line(tiny_causal, "small_choice", tasks, moved, store))
    assert (before["overall"]["n"], after["overall"]["n"]) == (7, 4)


def test_a_task_that_runs_code_is_refused(
    tiny_causal: Path, tasks: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundled = ["probe", str(tiny_causal), "--task", "harness:humaneval", "--store", str(tmp_path / "s"), "--quiet"]
    for arguments in (line(tiny_causal, "small_code", tasks, data, tmp_path / "s"), bundled):
        assert run(arguments) == 2
        err = capsys.readouterr().err
        assert "runs the code that the model writes" in err
        assert "--harness-run-code" in err


def test_the_code_is_allowed_on_demand(
    tiny_causal: Path, tasks: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")  # put back afterwards
    card = told(capsys, line(tiny_causal, "small_code", tasks, data, tmp_path / "s", "--harness-run-code"))
    assert card["overall"]["n"] == 7
    assert not math.isnan(card["overall"]["value"])


def test_an_encoder_is_refused_before_it_is_loaded(
    tiny_encoder: Path, tasks: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(load, "load_causal", lambda *_: pytest.fail("loaded"))
    assert run(line(tiny_encoder, "small_choice", tasks, data, tmp_path / "s")) == 2
    assert "needs a language model" in capsys.readouterr().err
