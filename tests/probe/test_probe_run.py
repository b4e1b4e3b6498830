"""Scoring: predictions made elsewhere against values worked by hand; models by head and by label words."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.tasks import HANS, NLI
from pyrite.tasks.scoring import from_labels, label_metrics, summarise

ITEMS = [  # (pairID, gold, heuristic, subcase, template)
    ("ex0", "entailment", "lexical_overlap", "le_passive", "temp1"),
    ("ex1", "entailment", "lexical_overlap", "le_passive", "temp2"),
    ("ex2", "non-entailment", "lexical_overlap", "ln_passive", "temp1"),
    ("ex3", "non-entailment", "lexical_overlap", "ln_passive", "temp1"),
    ("ex4", "non-entailment", "subsequence", "sn_NP/S", "temp9"),
    ("ex5", "entailment", "constituent", "ce_adverb", "temp9"),
]


def hans_file(folder: Path) -> Path:
    path = folder / "hans.jsonl"
    keys = ("pairID", "gold_label", "heuristic", "subcase", "template")
    with path.open("w") as sink:
        for number, item in enumerate(ITEMS):
            row = dict(zip(keys, item, strict=True)) | {
                "sentence1": f"The dog {number} saw it .",
                "sentence2": "The dog saw .",
            }
            sink.write(json.dumps(row) + "\n")
    return path


def hans_txt(folder: Path) -> Path:
    """The authors' own layout: tab-separated, with parses."""
    path = folder / "heuristics_evaluation_set.txt"
    names = "gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse sentence1 sentence2 pairID heuristic subcase template"
    with path.open("w", newline="") as sink:
        writer = csv.writer(sink, delimiter="\t")
        writer.writerow(names.split())
        for pair, gold, heuristic, subcase, template in ITEMS:
            writer.writerow(
                [
                    gold,
                    "( a )",
                    "( b )",
                    "(ROOT a)",
                    "(ROOT b)",
                    f"The dog {pair} saw it .",
                    "The dog saw .",
                    pair,
                    heuristic,
                    subcase,
                    template,
                ]
            )
    return path


ANSWERS = {"ex0": "entailment", "ex1": "contradiction", "ex2": "neutral", "ex3": "entailment", "ex4": "contradiction"}
"""ex0, ex2, ex4 right; ex1, ex3 wrong; ex5 not answered."""


def write_answers(folder: Path, kind: str) -> Path:
    path = folder / f"answers.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": list(ANSWERS), "prediction": list(ANSWERS.values())}), path)
    elif kind in ("json", "jsonl"):
        rows = [{"id": item, "prediction": label} for item, label in ANSWERS.items()]
        path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text("pairID,gold_label\n" + "".join(f"{item},{label}\n" for item, label in ANSWERS.items()))
    return path


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "jsonl", "json"])
@pytest.mark.parametrize("layout", [hans_file, hans_txt])
def test_predictions_made_elsewhere(
    kind: str, layout: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: 3 of 5 answered items right. Fewer than ten templates: no interval, and it says so."""
    task = f"hans={layout(tmp_path)}"  # type: ignore[operator]
    line = [
        "probe",
        "--task",
        task,
        "--predictions",
        str(write_answers(tmp_path, kind)),
        "--json",
        "--store",
        str(tmp_path / "s"),
    ]
    assert run(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema_version"], told["task"]) == (1, "hans")
    overall = told["overall"]
    assert (overall["value"], overall["n"], overall["n_missing"]) == (0.6, 5, 1)
    assert (overall["low"], overall["high"]) == (None, None)
    assert "these templates only" in overall["method"]
    slices = {(s["by"], s["name"], s["gold"]): (s["value"], s["n"]) for s in told["slices"]}
    assert slices["heuristic", "lexical_overlap", None] == (0.5, 4)
    assert slices["heuristic", "lexical_overlap", "entailment"] == (0.5, 2)
    assert slices["heuristic", "lexical_overlap", "non-entailment"] == (0.5, 2)
    assert slices["heuristic", "constituent", "entailment"] == (None, 0)
    assert slices["subcase", "ln_passive", "non-entailment"] == (0.5, 2)
    assert slices["template", "ln_passive/temp1", "non-entailment"] == (0.5, 2)
    assert slices["template", "le_passive/temp1", "entailment"] == (1.0, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("pairID,gold_label\nex0,maybe\n", "none of the task's"),
        ("pairID,gold_label\nex0,entailment\nex0,neutral\n", "answered twice"),
        ("pairID,gold_label\nother,entailment\n", "other items"),
        ("name,answer\nex0,entailment\n", "no id or no answer column"),
        ("", "no id or no answer column"),
    ],
)
def test_wrong_predictions_are_refused(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "a.csv"
    answers.write_text(content)
    assert (
        run(
            [
                "probe",
                "--task",
                f"hans={hans_file(tmp_path)}",
                "--predictions",
                str(answers),
                "--store",
                str(tmp_path / "s"),
            ]
        )
        == 2
    )
    assert says in capsys.readouterr().err


def test_two_way_and_three_way_by_hand() -> None:
    """Gold e, n, c; answers e, c, n: three-way 1/3; two-way all three right, for n and c are both non-entailment."""
    golds, said = ["entailment", "neutral", "contradiction"], ["entailment", "contradiction", "neutral"]
    items = [Labelled({"premise": "a", "hypothesis": "b"}, gold, str(at)) for at, gold in enumerate(golds)]
    scores = from_labels(items, {str(at): label for at, label in enumerate(said)}, NLI)
    lines = summarise(scores, label_metrics(NLI), (), seed=0)
    overall = {line.metric: (line.estimate.value, line.estimate.n) for line in lines}
    assert overall == {"accuracy": (pytest.approx(1 / 3), 3), "accuracy_2way": (1.0, 3)}
    hans = [Labelled({}, "non-entailment", "x", {"heuristic": "h", "subcase": "s", "template": "t"})]
    assert from_labels(hans, {"x": "neutral"}, HANS)[0].value == 1.0
    assert from_labels(hans, {"x": None}, HANS)[0].value is None


def test_a_model_with_a_head_and_one_with_words(
    tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyrite.models import load
    from pyrite.models.hardware import Compute

    folder = tmp_path / "classifier"
    model, _ = load.load_classifier(
        tiny_encoder, ["Neutral", "Entailment", "Contradiction"], Compute("cpu", "fp32"), seed=0
    )
    model.save_pretrained(folder)
    load.load_tokenizer(tiny_encoder).save_pretrained(folder)
    for name in (folder, tiny_causal):
        line = [
            "probe",
            str(name),
            "--task",
            f"hans={hans_file(tmp_path)}",
            "--task",
            "heuristics=60",
            "--json",
            "--quiet",
        ]
        assert run([*line, "--store", str(tmp_path / "s"), "--precision", "fp32"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [card["overall"]["n"] for card in told["scorecards"]] == [6, 60]
    assert (
        run(["probe", str(tiny_encoder), "--task", f"hans={hans_file(tmp_path)}", "--store", str(tmp_path / "s")]) == 2
    )
    assert "no classification head" in capsys.readouterr().err
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    (folder / "config.json").write_text(json.dumps(config))
    assert run(["probe", str(folder), "--task", f"hans={hans_file(tmp_path)}", "--store", str(tmp_path / "s")]) == 2
    assert "label_0" in capsys.readouterr().err


def test_a_task_of_ones_own(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.csv").write_text("text,mood,lang\nlovely film,good,en\nawful film,bad,en\nbeau film,good,fr\n")
    task = tmp_path / "moods.yaml"
    task.write_text("file: r.csv\nfields: [text]\nlabel: mood\nlabels: [good, bad]\nslices: [[lang], [lang, gold]]\n")
    assert (
        run(["probe", str(tiny_causal), "--task", str(task), "--json", "--quiet", "--store", str(tmp_path / "s")]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "moods"
    assert {(s["by"], s["name"]) for s in told["slices"]} == {("lang", "en"), ("lang", "fr")}
    task.write_text("file: r.csv\nfield: [text]\nlabels: [good, bad]\n")
    assert run(["probe", str(tiny_causal), "--task", str(task)]) == 2
    assert "field" in capsys.readouterr().err


def test_usage_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--task", f"hans={hans_file(tmp_path)}"]) == 2
    assert "Give a model or --predictions" in capsys.readouterr().err
    assert run(["probe", "x/y", "--task", "hanz=file"]) == 2
    assert "not a task" in capsys.readouterr().err
    assert run(["probe", "x/y"]) == 2


def test_labels_that_are_none_of_the_tasks_are_refused_before_any_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["probe", "no/model", "--task", f"hans={hans_file(tmp_path)}"]
    assert run([*words, "--labels", "yes", "--labels", "no"]) == 2
    err = capsys.readouterr().err
    assert "yes, no; the labels of hans are entailment" in err
    assert "no/model" not in err


def test_a_model_beside_itself_is_refused(
    tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ("--task", f"hans={hans_file(tmp_path)}", "--store", str(tmp_path / "store"))
    (tmp_path / "link").symlink_to(tiny_causal)
    for other in (tiny_causal, tmp_path / "link"):
        assert run(["probe", str(tiny_causal), str(other), *task]) == 2
        assert "the same one" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_row_of_predictions_that_is_broken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"id": "ex0", "prediction": "entailment"}\n{"id": \n')
    assert run(["probe", "--task", f"hans={hans_file(tmp_path)}", "--predictions", str(answers)]) == 2
    assert "a.jsonl:2" in capsys.readouterr().err


@pytest.mark.real
def test_the_hans_sample_scores_perfect_answers(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = data_folder / "hans" / "heuristics_sample.jsonl"
    rows = [json.loads(line) for line in sample.read_text().splitlines()]
    answers = tmp_path / "a.csv"
    answers.write_text("pairID,gold_label\n" + "".join(f"{row['pairID']},{row['gold_label']}\n" for row in rows))
    assert (
        run(
            [
                "probe",
                "--task",
                f"hans={sample}",
                "--predictions",
                str(answers),
                "--json",
                "--store",
                str(tmp_path / "s"),
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["overall"]["value"], told["overall"]["n"]) == (1.0, 6000)
    assert sum(s["by"] == "subcase" for s in told["slices"]) == 30


def test_after_old_steps_are_cleaned_away_a_probe_makes_what_it_reads(
    tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    line = [
        "probe",
        str(tiny_causal),
        "--task",
        f"hans={hans_file(tmp_path)}",
        "--json",
        "--store",
        str(store),
        "--precision",
        "fp32",
    ]
    assert run(line) == 0
    first = json.loads(capsys.readouterr().out)
    (items,) = store.glob("done/*/*/items.jsonl")
    shutil.rmtree(items.parent)
    assert run(line) == 0
    assert json.loads(capsys.readouterr().out)["overall"] == first["overall"]


def test_ids_with_blanks_around_them(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = hans_file(tmp_path)
    file.write_text(file.read_text().replace('"ex1"', '"ex1 "'))
    fixed = ["--json", "--store", str(tmp_path / "s"), "--precision", "fp32"]
    assert run(["probe", str(tiny_causal), "--task", f"hans={file}", *fixed]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert (overall["n"], overall["n_missing"]) == (6, 0)
    answers = write_answers(tmp_path, "csv")
    assert run(["probe", "--task", f"hans={file}", "--predictions", str(answers), *fixed[:-2]]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert (overall["value"], overall["n"], overall["n_missing"]) == (0.6, 5, 1)


def test_a_metric_is_a_share_only_where_both_models_values_say_so() -> None:
    from pyrite.probe.result import common_scales
    from pyrite.tasks.scoring import Metric

    never, sometimes = (Metric("f1"), Metric("acc")), (Metric("f1", "real"), Metric("acc"))
    for first, second in ((never, sometimes), (sometimes, never)):
        assert [one.scale for one in common_scales(first, second)] == ["real", "share"]
    assert [one.scale for one in common_scales(never, never)] == ["share", "share"]


def test_a_gate_on_a_change_from_a_model_that_is_never_right() -> None:
    """The second model scores 0 throughout, so that its values alone look like a share; the first's are 12 to 61."""
    from pyrite.probe import gate as gating
    from pyrite.probe.gate import answer_gate
    from pyrite.probe.probe_task import Result
    from pyrite.tasks.scoring import ItemScore, Metric

    before = Result(
        [ItemScore(str(at), "f1", 12.0 + at, str(at)) for at in range(50)], (Metric("f1", "real"),), {}, "groups"
    )
    after = Result([ItemScore(str(at), "f1", 0.0, str(at)) for at in range(50)], (Metric("f1"),), {}, "groups")
    gate = gating.parse("change t.f1 >= -1", ["t"])
    assert answer_gate(gate, [{"t": before}, {"t": after}], 0).outcome == "failed"
    assert answer_gate(gate, [{"t": after}, {"t": before}], 0).outcome == "passed"


def test_items_that_differ_in_blanks_only_are_refused(tmp_path: Path) -> None:
    from pyrite.probe.predictions import match

    items = [Labelled({"text": "x"}, "yes", name) for name in ("1", "1 ", "2")]
    with pytest.raises(UserError, match="blanks around their ids"):
        match([("1", "yes"), ("2", "yes")], items, tmp_path)


def test_logits_that_are_no_numbers_stop_every_reader(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study's judge, too, must not take them for the first label."""
    import numpy as np

    from pyrite.probe import predict
    from pyrite.steps import Context

    config = {
        "labels": ["yes", "no"], "by": "words", "reads": ["text"], "max_tokens": 64, "seed": 0, "four_bit": False,
        "compute": {"device": "cpu", "precision": "fp32"},
    }  # fmt: skip
    broken = np.array([[0.5, np.nan]], dtype=np.float32)
    monkeypatch.setattr("pyrite.models.score.score_in_fast_precision", lambda *given: (broken, {}))
    context = Context(config, {"base": tiny_causal}, tmp_path, tmp_path, lambda *_: None, lambda: False)
    with pytest.raises(UserError, match="answers are no numbers"):
        predict.predict_with(context, [Labelled({"text": "x"}, "yes", "1")])
