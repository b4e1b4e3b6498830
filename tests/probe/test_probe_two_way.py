"""Classifiers that tell entailment from what is not, on NLI and HANS: two-way, and it is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pyrite.cli import run
from pyrite.data.keys import label_key
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.study.label_probes import task_of
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import ProbeSpec
from pyrite.tasks import HANS, NLI, NLI_TWO_WAY

GOLD = ("entailment", "neutral", "contradiction")
SPELLINGS = ("not_entailment", "non-entailment", "not entailment", "NOT_ENTAILMENT", "nonentailment")
WORDS = ("film", "song", "meal", "book", "room")


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {
            "pairID": f"p{at}", "gold_label": GOLD[at % 3], "sentence1": f"the {WORDS[at % 5]} {at} was lovely",
            "sentence2": f"the {WORDS[at % 4]} was poor",
        }
        for at in range(count)
    ]  # fmt: skip


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def two_way_model(folder: Path, base: Path, names: tuple[str, ...]) -> Path:
    """A classifier with outputs of these names, which does not say the same of every row."""
    model, _ = load.load_classifier(base, names, Compute("cpu", "fp32"), seed=3)
    tokenizer = load.load_tokenizer(base)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
        texts = [(row["sentence1"], row["sentence2"]) for row in pairs(60)]
        logits = torch.cat([model(**tokenizer(*text, return_tensors="pt")).logits for text in texts])
        model.classifier.bias -= logits.median(0).values
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_the_library(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """The labels that the library's own forward pass gives, row by row."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), load.load_tokenizer(folder)
    with torch.inference_mode():
        places = [
            int(model(**tokenizer(row["sentence1"], row["sentence2"], return_tensors="pt")).logits.argmax())
            for row in rows
        ]
    return [model.config.id2label[place] for place in places]


def probed(folder: Path, task: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    line = ["probe", str(folder), *more, "--task", task, "--json", "--quiet", "--precision", "fp32"]
    code = run([*line, "--store", str(folder.parent / "store")])
    out, err = capsys.readouterr()
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("first", [True, False])
def test_a_two_way_head_is_scored_two_way_on_nli(
    name: str, first: bool, tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pairs(60)
    folder = two_way_model(tmp_path / "m", tiny_encoder, ("entailment", name) if first else (name, "entailment"))
    said = by_the_library(folder, rows)
    assert 5 < said.count("entailment") < 55
    right = [
        (label == "entailment") == (row["gold_label"] == "entailment") for label, row in zip(said, rows, strict=True)
    ]
    told = probed(folder, f"nli={write(rows, tmp_path / 'nli.jsonl')}", capsys)
    assert told["metric"] == "accuracy_2way"
    assert told["overall"]["value"] == pytest.approx(sum(right) / 60)
    of_neutral = [ok for ok, row in zip(right, rows, strict=True) if row["gold_label"] == "neutral"]
    slices = {line["gold"]: line["value"] for line in told["slices"]}
    assert slices["neutral"] == pytest.approx(sum(of_neutral) / 20)
    assert told["details"]["two_way"] is True
    assert any("two-way" in note for note in told["notes"])


def test_a_two_way_head_on_hans(tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hans = {"heuristic": "subsequence", "subcase": "sn_NP/S", "template": "t"}
    rows = [row | hans | {"gold_label": ("entailment", "non-entailment")[at % 2]} for at, row in enumerate(pairs(40))]
    folder = two_way_model(tmp_path / "m", tiny_encoder, ("not_entailment", "entailment"))
    said = [label.replace("not_", "non-") for label in by_the_library(folder, rows)]
    told = probed(folder, f"hans={write(rows, tmp_path / 'hans.jsonl')}", capsys)
    right = sum(label == row["gold_label"] for label, row in zip(said, rows, strict=True))
    assert (told["metric"], told["overall"]["value"]) == ("accuracy", pytest.approx(right / 40))
    assert told["details"]["two_way"] is True


def test_a_two_way_model_is_compared_with_a_three_way_one_on_what_both_tell(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pairs(60)
    two = two_way_model(tmp_path / "two", tiny_encoder, ("entailment", "not_entailment"))
    three = two_way_model(tmp_path / "three", tiny_encoder, GOLD)
    told = probed(three, f"nli={write(rows, tmp_path / 'nli.jsonl')}", capsys, str(two))
    lines = {line["metric"]: line for line in told["compared"][0]["contrasts"] if line["by"] == "overall"}
    assert lines["accuracy_2way"]["difference"]["n"] == 60
    assert "accuracy" not in lines, "a metric of one model would still count among the family's tests"


def test_nameless_two_way_outputs_are_refused(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = two_way_model(tmp_path / "m", tiny_encoder, ("LABEL_0", "LABEL_1"))
    task = f"nli={write(pairs(6), tmp_path / 'nli.jsonl')}"
    assert run(["probe", str(folder), "--task", task, "--store", str(tmp_path / "s")]) == 2
    assert "id2label" in capsys.readouterr().err


def test_spellings() -> None:
    assert {label_key(name) for name in SPELLINGS} == {"non-entailment"}
    assert label_key("Neutral") == "neutral"
    assert HANS.answer("not_entailment") == "non-entailment" == HANS.answer("neutral")
    assert not NLI.is_merged(GOLD)
    assert NLI.is_merged(("entailment", "not entailment"))
    assert not NLI.is_merged(("positive", "negative"))


@pytest.mark.parametrize(("labels", "task"), [(("entailment", "not_entailment"), NLI_TWO_WAY), (GOLD, NLI)])
def test_a_study_of_two_labels_asks_nli_two_way(labels: tuple[str, ...], task: Any) -> None:
    spec, probe = StudySpec.model_construct(labels=labels), ProbeSpec.model_construct(task="nli")
    assert task_of(probe, spec) is task
