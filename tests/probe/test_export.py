"""Our tasks in lm-evaluation-harness: run there, each item's verdict is ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pyrite.errors import UserError
from pyrite.probe.export import export
from pyrite.probe.harness import HarnessResult, HarnessSettings, language_model, run
from pyrite.records import Labelled
from pyrite.tasks import HANS, NLI
from pyrite.tasks.grammar import generate_pairs
from pyrite.tasks.prompts import classify
from pyrite.tasks.rows import as_labelled
from pyrite.tasks.scoring import Task, from_labels, label_metrics, right, summarise

pytest.importorskip("lm_eval")
NLI_WORDS = NLI.labels


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hub, tables in a folder of the tests, and no listing of the machine (three seconds a run)."""
    import datasets
    import lm_eval.evaluator

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "tables")
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)


class Engine:
    """The tiny model's log-probabilities, one row at a time."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        import torch

        found = []
        for context, answer in requests:
            with torch.no_grad():
                logits = self.model(torch.tensor([[*context, *answer][:-1]])).logits[0].log_softmax(-1)
            after = logits[-len(answer) :]
            picked = after[range(len(answer)), list(answer)]
            found.append((float(picked.sum()), after.argmax(-1).tolist() == list(answer)))
        return found

    def label(self, item: Labelled, words: Sequence[str]) -> str:
        """The label as `pyrite probe` finds it: the most probable of " label" after the prompt."""
        prompt = self.tokenizer(classify(item.fields, words))["input_ids"]
        answers = [self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
        values = [value for value, _ in self.score([(prompt, answer) for answer in answers])]
        return words[values.index(max(values))]

    def run(self, top: Path) -> HarnessResult:
        def never(*_: Any) -> list[str]:
            raise AssertionError("nothing is written here")

        lm = language_model(self.tokenizer, self.score, never, max_length=256)
        return run(top.stem, lm, HarnessSettings(tasks_folder=top.parent))


@pytest.fixture(scope="module")
def engine(tiny_causal: Path) -> Engine:
    return Engine(tiny_causal)


def verdicts(result: HarnessResult) -> dict[str, bool]:
    return {sample["doc"]["id"]: sample["acc"] == 1.0 for samples in result.samples.values() for sample in samples}


def hans_items(count: int) -> list[Labelled]:
    return [as_labelled(pair, ("premise", "hypothesis")) for pair in generate_pairs(count, seed=3)]


def test_hans_is_scored_there_as_here(engine: Engine, tmp_path: Path) -> None:
    items = hans_items(60)
    top = export(items, HANS, tmp_path)
    assert top == tmp_path / "pyrite_hans.yaml"
    result = engine.run(top)
    predicted = {item.id: engine.label(item, NLI_WORDS) for item in items}
    ours = {item.id: right(item, predicted[item.id], HANS) for item in items}
    assert verdicts(result) == ours
    assert 0 < sum(value is True for value in ours.values()) < 60
    numbers = {number.task: number for number in result.numbers}
    assert numbers["pyrite_hans"].value == pytest.approx(sum(value is True for value in ours.values()) / 60)
    for line in summarise(from_labels(items, predicted, HANS), label_metrics(HANS), HANS.slices, seed=0):
        if line.by in ("heuristic", "heuristic x gold"):
            number = numbers["pyrite_hans__" + "__".join(value for _, value in line.values)]
            assert (number.n, number.value) == (line.estimate.n, pytest.approx(line.estimate.value))
    assert len([name for name in numbers if name.count("__") == 2]) == 6
    assert {each.slices["group"] for each in result.measured} == {
        "pyrite_hans__lexical_overlap",
        "pyrite_hans__subsequence",
        "pyrite_hans__constituent",
    }


def test_a_merged_label_is_accepted_under_each_of_its_words(tmp_path: Path) -> None:
    """Every answer of the model in turn, by a scorer that prefers one word: worked by hand."""
    items = [
        Labelled({"premise": "a b", "hypothesis": "a"}, "entailment", "yes", {"heuristic": "subsequence"}),
        Labelled({"premise": "a b", "hypothesis": "b"}, "non-entailment", "no", {"heuristic": "subsequence"}),
    ]
    top = export(items, HANS, tmp_path)
    files = sorted((tmp_path / "pyrite_hans_data").glob("*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert {row["id"]: row["accepted"] for row in rows} == {"yes": [0], "no": [1, 2]}
    shared = yaml.safe_load((tmp_path / "_pyrite_hans_shared").read_text())
    assert shared["doc_to_choice"] == ["entailment", "neutral", "contradiction"]
    for word, correct in (("entailment", {"yes"}), ("neutral", {"no"}), ("contradiction", {"no"})):
        lm = language_model(Letters(), prefers(f" {word}"), lambda *_: [], max_length=10_000)
        found = verdicts(run(top.stem, lm, HarnessSettings(tasks_folder=tmp_path)))
        assert {name for name, value in found.items() if value} == correct


class Letters:
    """A tokenizer whose tokens are characters."""

    bos_token_id, eos_token_id = 1, 2

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, token: int) -> str:
        return f"<{token}>"


def prefers(answer: str) -> Any:
    ids = [ord(letter) for letter in answer]
    return lambda requests: [(0.0 if list(words) == ids else -1.0, False) for _, words in requests]


ODD = [
    ("{{7*7}} is {% raw %} {{ doc }} {# not a comment #}", "a", "en/us"),
    ("2020-01-01", "b", "en us"),
    ("12", "a", "en/us"),
    ("prompt", "b", "日本"),
    ('[1, 2]\nwith a second line and "quotes" ', "a", "日本"),
]


def odd_items() -> tuple[list[Labelled], Task]:
    items = [
        Labelled({"text": text}, label, f"2021-0{at + 1}-01", {"tongue": tongue})
        for at, (text, label, tongue) in enumerate(ODD)
    ]
    return items, Task("odd task", ("a", "b"), slices=(("tongue",), ("tongue", "gold")))


def test_text_is_never_taken_for_a_template_a_date_or_a_number(tmp_path: Path) -> None:
    items, task = odd_items()
    top = export(items, task, tmp_path)
    assert top.stem == "pyrite_odd_task"
    lm = language_model(Letters(), prefers(" a"), lambda *_: [], max_length=10_000)
    result = run(top.stem, lm, HarnessSettings(tasks_folder=tmp_path))
    prompts = {
        sample["doc"]["id"]: [tuple(pair) for pair in sample["arguments"]]
        for samples in result.samples.values()
        for sample in samples
    }
    assert prompts == {
        item.id: [(classify(item.fields, ("a", "b")), " a"), (classify(item.fields, ("a", "b")), " b")]
        for item in items
    }
    assert verdicts(result) == {item.id: item.label == "a" for item in items}
    bare = export(items, task, tmp_path / "bare", by=(), prompt=lambda fields, labels: fields["text"].strip())
    result = run(bare.stem, lm, HarnessSettings(tasks_folder=tmp_path / "bare"))
    asked = [sample["arguments"][0][0] for sample in result.samples["pyrite_odd_task"]]
    assert asked == [text.strip() for text, _, _ in ODD]


def test_values_that_look_alike_as_names_stay_apart(tmp_path: Path) -> None:
    items, task = odd_items()
    export(items, task, tmp_path, by=("tongue",))
    group = yaml.safe_load((tmp_path / "pyrite_odd_task.yaml").read_text())
    assert group["task"] == ["pyrite_odd_task__en_us", "pyrite_odd_task__en_us~2", "pyrite_odd_task___"]
    lm = language_model(Letters(), prefers(" a"), lambda *_: [], max_length=10_000)
    result = run("pyrite_odd_task", lm, HarnessSettings(tasks_folder=tmp_path))
    assert [number.n for number in result.numbers if number.task != "pyrite_odd_task"] == [2, 1, 2]


def test_nli_and_the_authors_hans_file_by_other_columns(engine: Engine, tmp_path: Path) -> None:
    items = [
        Labelled({"premise": f"the film {at} was warm", "hypothesis": "the film was"}, NLI_WORDS[at % 3], f"r{at}")
        for at in range(9)
    ]
    result = engine.run(export(items, NLI, tmp_path))
    assert verdicts(result) == {item.id: right(item, engine.label(item, NLI_WORDS), NLI) for item in items}
    assert sum(verdicts(result).values()) == 3 * sum(number.value for number in result.numbers[:-1] if number.n == 3)
    hans = hans_items(60)
    by = ("heuristic", "subcase", "gold")
    found = engine.run(export(hans, HANS, tmp_path, by=by, name="by_subcase"))
    assert len(found.versions) == len({(item.meta["subcase"], item.label) for item in hans})
    assert verdicts(found) == {item.id: right(item, engine.label(item, NLI_WORDS), HANS) for item in hans}


def test_no_code_is_written_and_the_path_stands_once(tmp_path: Path) -> None:
    export(hans_items(30), HANS, tmp_path)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert not any("!" in text or "{{" in text for text in texts.values())
    assert [name for name, text in texts.items() if str(tmp_path) in text] == ["_pyrite_hans_shared"]


def test_the_same_items_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        export(hans_items(30), HANS, tmp_path)
        made.append({path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()})
    assert made[0] == made[1]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    items, task = odd_items()
    with pytest.raises(UserError, match="nothing to export"):
        export([], task, tmp_path)
    with pytest.raises(UserError, match=r"(?s)No label word is right.*2021-02-01: gold 'b'"):
        export(items, task, tmp_path, labels=("a", "c"))
    with pytest.raises(UserError, match="2021-01-01: gold 'None'"):
        export([Labelled({"text": "x"}, None, "2021-01-01")], task, tmp_path)
    with pytest.raises(UserError, match="must end in a word"):
        export(items, task, tmp_path, prompt=lambda fields, labels: "Label: ")
    with pytest.raises(UserError, match="no name for a harness task"):
        export(items, task, tmp_path, name="a,b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_rows_of_the_authors_file(engine: Engine, data_folder: Path, tmp_path: Path) -> None:
    from pyrite.io import open_records

    rows = list(open_records(data_folder / "hans" / "heuristics_sample.jsonl"))[::150]
    items = [as_labelled(record, ("premise", "hypothesis")) for record in rows]
    result = engine.run(export(items, HANS, tmp_path))
    assert verdicts(result) == {item.id: right(item, engine.label(item, NLI_WORDS), HANS) for item in items}
    assert sum(number.n for number in result.numbers if number.task == "pyrite_hans") == 40
