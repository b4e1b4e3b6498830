"""Tasks of lm-evaluation-harness with our model: the same numbers as its own `hf` model class, on a tiny model."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyrite.errors import UserError
from pyrite.probe import harness, harness_data, harness_tasks
from pyrite.probe.harness import HarnessSettings, language_model, run

pytest.importorskip("lm_eval")

CHOICE = """
tag: tiny_all
task: tiny_choice
dataset_path: someone/reviews
dataset_name: main
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "{{text}} "
doc_to_choice: [positive, negative]
doc_to_target: sentiment
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WRITE = """
tag: tiny_all
task: tiny_write
dataset_path: someone/reviews
dataset_name: main
output_type: generate_until
training_split: train
test_split: test
num_fewshot: 1
doc_to_text: "{{text}}"
doc_to_target: "{{sentiment}}"
generation_kwargs: {until: ["e"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - {name: first, filter: [{function: take_first}]}
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
"""
ROLLING = """
tag: tiny_all
task: tiny_rolling
dataset_path: someone/reviews
dataset_name: main
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
"""
TEXTS = [
    ("the film was lovely and the song was warm", "positive"),
    ("the meal 7 was awful", "negative"),
    ("{{7*7}} the book was kind", "positive"),
    ("the trip was cold, " * 40, "negative"),  # longer than the 128 tokens that the models of these tests read
    ("the room was dark", "negative"),
]
LENGTH = 128


def rows_file(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "sentiment": label}) + "\n" for text, label in rows))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hub, tables in a folder of the tests, and no listing of the machine (three seconds a run)."""
    import datasets
    import lm_eval.evaluator

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "tables")
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for name, text in (("choice", CHOICE), ("write", WRITE), ("rolling", ROLLING)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows_file(folder / "reviews" / "main" / "test_part.jsonl", TEXTS)
    rows_file(folder / "reviews" / "main" / "train_part.jsonl", [("the walk was great", "positive")] * 3)
    return folder


@pytest.fixture(scope="module")
def loaded(tiny_causal: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_causal), AutoModelForCausalLM.from_pretrained(tiny_causal).eval()


@pytest.fixture
def lm(loaded: tuple[Any, Any]) -> Any:
    return plain_model(*loaded)


def plain_model(tokenizer: Any, model: Any) -> Any:
    """Our model class on the plainest engine: one request at a time, the whole text read anew for every token."""
    import torch

    def logits(ids: Sequence[int]) -> Any:
        with torch.no_grad():
            return model(torch.tensor([list(ids)])).logits[0].log_softmax(-1)

    def score(requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        found = []
        for context, continuation in requests:
            assert 0 < len(context) + len(continuation) - 1 <= LENGTH
            after = logits([*context, *continuation][:-1])[-len(continuation) :]
            picked = after[range(len(continuation)), list(continuation)]
            found.append((float(picked.sum()), after.argmax(-1).tolist() == list(continuation)))
        return found

    def write(prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
        texts = []
        for prompt, asked in zip(prompts, settings, strict=True):
            assert asked["temperature"] == 0
            ids: list[int] = []
            for _ in range(asked["max_gen_toks"]):
                token = int(logits([*prompt, *ids])[-1].argmax())
                if token == tokenizer.eos_token_id:
                    break
                ids.append(token)
            texts.append(tokenizer.decode(ids, skip_special_tokens=True))
        return texts

    return language_model(tokenizer, score, write, max_length=LENGTH)


def by_lm_eval(loaded: tuple[Any, Any], tasks: Path, data: Path) -> Mapping[str, Any]:
    """The same tasks with lm-eval's own model class, `hf`."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    manager, found = harness_tasks.find_tasks("tiny_all", tasks)
    with harness_tasks.data_redirected(manager, found, data, None):
        built = harness_tasks.build(manager, "tiny_all", found, data)
    model = HFLM(pretrained=loaded[1], tokenizer=loaded[0], max_length=LENGTH, batch_size=1)
    results = simple_evaluate(model=model, tasks=list(built["tasks"].values()), bootstrap_iters=0)
    assert results is not None
    return results


def flat(values: Any) -> Iterator[Any]:
    """The single values in nested lists and tuples."""
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from flat(value)
    else:
        yield values


def approximately(value: Any) -> Any:
    return pytest.approx(value, rel=1e-5) if isinstance(value, float) else value


def test_every_item_is_as_with_lm_evals_own_model(
    lm: Any, loaded: tuple[Any, Any], tasks: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = run("tiny_all", lm, HarnessSettings(tasks_folder=tasks, data=data))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ""
    theirs = by_lm_eval(loaded, tasks, data)
    assert set(ours.samples) == {"tiny_choice", "tiny_write", "tiny_rolling"}
    for name, samples in theirs["samples"].items():
        assert len(samples) == len(ours.samples[name])
        for own, other in zip(ours.samples[name], samples, strict=True):
            assert own["arguments"] == other["arguments"]
            for key in ("filtered_resps", *own["metrics"]):
                assert list(flat(own[key])) == [approximately(value) for value in flat(other[key])]
    assert ours.shots == {"tiny_choice": 0, "tiny_write": 1, "tiny_rolling": 0}


def test_our_mean_is_lm_evals_aggregate_and_the_rest_is_told_without_interval(lm: Any, tasks: Path, data: Path) -> None:
    result = run("tiny_all", lm, HarnessSettings(tasks_folder=tasks, data=data))
    of_items = {(number.task, number.metric) for number in result.numbers if number.of_items}
    assert of_items == {
        ("tiny_choice", "acc"),
        ("tiny_choice", "acc_norm"),
        ("tiny_write", "exact_match,first"),
        ("tiny_write", "exact_match,letter"),
    }
    for number in result.numbers:
        values = [
            each.value
            for each in result.measured
            if (each.slices["subtask"], each.metric) == (number.task, number.metric)
        ]
        assert number.n == 5
        if number.of_items:
            assert len(values) == 5
            assert sum(value for value in values if value is not None) / 5 == pytest.approx(number.value)
        else:
            assert values == []
            assert "without interval" in number.says
            assert number.direction == "lower"
    metrics = {metric.name: metric for metric in result.metrics}
    assert set(metrics) == {"acc", "acc_norm", "exact_match,first", "exact_match,letter"}
    assert all((metric.scale, metric.direction) == ("share", "higher") for metric in metrics.values())
    assert [each.item for each in result.measured if each.metric == "acc"] == [f"tiny_choice-{n}" for n in range(5)]


def test_a_context_that_is_too_long_loses_its_beginning_and_is_counted(lm: Any, tasks: Path, data: Path) -> None:
    asked: list[tuple[Sequence[int], Sequence[int]]] = []
    score = lm._scorer

    def watched(requests: Any) -> Any:
        asked.extend(requests)
        return score(requests)

    lm._scorer = watched
    result = run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks, data=data))
    assert result.cut == 2  # the long review, once for each label
    lengths = [len(context) + len(continuation) for context, continuation in asked]
    assert [number for number, length in enumerate(lengths) if length == LENGTH + 1] == [6, 7]
    end = lm.tok_encode(TEXTS[3][0].rstrip())[-5:]
    assert list(asked[6][0])[-5:] == end
    assert lm.tokenizer.decode(asked[6][1]) == "   positive"  # the blanks of text and prompt, then ours


def test_fewer_items_and_other_examples(lm: Any, tasks: Path, data: Path) -> None:
    result = run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks, data=data, items=2, num_fewshot=2))
    assert {each.item for each in result.measured} == {"tiny_choice-0", "tiny_choice-1"}
    assert {each.slices == {} for each in result.measured} == {True}
    assert result.shots == {"tiny_choice": 2}
    assert not any("Overwriting" in note for note in result.notes)
    prompt = result.samples["tiny_choice"][0]["arguments"][0][0]
    assert prompt.count("the walk was great") == 2
    assert prompt.endswith("\n\nthe film was lovely and the song was warm ")


def test_a_task_that_fixes_its_examples_says_so(lm: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "choice.yaml").write_text(CHOICE + "num_fewshot: 0\n")
    asked = HarnessSettings(tasks_folder=tmp_path, data=data, items=1, num_fewshot=3)
    result = run("tiny_choice", lm, asked)
    assert result.shots == {"tiny_choice": 0}
    assert result.notes == ("1 of 1 subtasks fix the number of examples (tiny_choice: 0)",)


def test_a_groups_number_is_the_mean_of_its_items_only_where_items_count_the_same(
    lm: Any, tasks: Path, data: Path, tmp_path: Path
) -> None:
    for name, weighted in (("even", False), ("sized", True)):
        (tmp_path / f"{name}.yaml").write_text(
            f"group: {name}\ntask: [left, right]\n"
            f"aggregate_metric_list: [{{metric: acc, weight_by_size: {str(weighted).lower()}}}]\n"
        )
    for name in ("left", "right"):
        text = CHOICE.replace("tag: tiny_all\n", "").replace("tiny_choice", name).replace("name: main", f"name: {name}")
        (tmp_path / f"{name}.yaml").write_text(text)
    rows_file(tmp_path / "reviews" / "left" / "test.jsonl", [TEXTS[0]] * 3)
    rows_file(tmp_path / "reviews" / "right" / "test.jsonl", [("the room was dark", "negative"), TEXTS[0]])
    numbers = {}
    for name in ("even", "sized"):
        result = run(name, lm, HarnessSettings(tasks_folder=tmp_path, data=tmp_path))
        numbers[name] = {number.task: number for number in result.numbers if number.metric == "acc"}
        values = [each.value for each in result.measured if each.metric == "acc"]
        assert len(values) == 5
        assert {each.slices["subtask"] for each in result.measured} == {"left", "right"}
    mean = sum(value for value in values if value is not None) / 5
    assert numbers["sized"]["sized"].of_items
    assert numbers["sized"]["sized"].value == pytest.approx(mean)
    even = numbers["even"]["even"]
    assert not even.of_items
    assert even.value == pytest.approx((numbers["even"]["left"].value + numbers["even"]["right"].value) / 2)
    assert "whatever its size" in even.says


def test_repeats_sampling_and_stop_strings_reach_the_writer(lm: Any, data: Path, tmp_path: Path) -> None:
    text = WRITE.replace("do_sample: false", "do_sample: true, temperature: 0.8, top_p: 0.9") + "repeats: 2\n"
    (tmp_path / "write.yaml").write_text(text)
    seen: list[Mapping[str, Any]] = []

    def write(prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
        seen.extend(settings)
        return ["positive and more"] * len(prompts)

    lm._writer = write
    result = run("tiny_write", lm, HarnessSettings(tasks_folder=tmp_path, data=data, items=1, max_gen_toks=5))
    wanted = {"until": ["e"], "max_gen_toks": 5, "temperature": 0.8, "top_p": 0.9}
    assert seen == [wanted | {"attempt": 0}, wanted | {"attempt": 1}]
    assert result.samples["tiny_write"][0]["resps"] == [["positiv", "positiv"]]
    (tmp_path / "write.yaml").write_text(text.replace("top_p: 0.9", "num_beams: 4"))
    with pytest.raises(UserError, match="num_beams=4"):
        run("tiny_write", lm, HarnessSettings(tasks_folder=tmp_path, data=data))


def test_the_models_chat_template_is_used(lm: Any, tasks: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = HarnessSettings(tasks_folder=tasks, data=data, chat=True, system="be brief", items=1)
    with pytest.raises(UserError, match="no chat template"):
        run("tiny_choice", lm, settings)
    turns = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    monkeypatch.setattr(lm.tokenizer, "chat_template", turns)
    result = run("tiny_choice", lm, settings)
    context, answer = result.samples["tiny_choice"][0]["arguments"][0]
    assert context == f"[system:be brief][user:{TEXTS[0][0]} ]"
    assert answer == "positive"
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + turns
    monkeypatch.setattr(lm.tokenizer, "chat_template", refuses)
    result = run("tiny_choice", lm, settings)
    assert result.samples["tiny_choice"][0]["arguments"][0][0] == f"[user:{TEXTS[0][0]} ]"
    assert any("left out of 1 prompts" in note for note in result.notes)


def test_what_cannot_be_run_is_refused_by_name(lm: Any, tasks: Path, data: Path, tmp_path: Path) -> None:
    import lm_eval

    humaneval = Path(lm_eval.__file__).parent / "tasks" / "humaneval"
    with pytest.raises(UserError, match=r"(?s)code that the model writes.*--harness-run-code"):
        run("humaneval", lm, HarnessSettings(tasks_folder=humaneval))
    (tmp_path / "mine.yaml").write_text(ROLLING.replace("tiny_rolling", "mine") + "process_docs: !function utils.all\n")
    with pytest.raises(UserError, match=r"(?s)mine.yaml holds !function.*--harness-run-code"):
        run("mine", lm, HarnessSettings(tasks_folder=tmp_path, data=data))
    (tmp_path / "mine.yaml").write_text("task: mine\ninclude: [part]\n")
    (tmp_path / "part").write_text(
        ROLLING.replace("task: tiny_rolling\n", "") + "process_docs: !<!function> utils.all\n"
    )
    with pytest.raises(UserError, match=r"(?s)/part holds !function.*--harness-run-code"):
        run("mine", lm, HarnessSettings(tasks_folder=tmp_path, data=data))
    (tmp_path / "mine.yaml").write_text(CHOICE.replace("metric: acc_norm", "metric: someones/metric"))
    with pytest.raises(UserError, match="code from the hub"):
        run("tiny_choice", lm, HarnessSettings(tasks_folder=tmp_path, data=data))
    lm._scorer = lambda requests: [(math.nan, False)] * len(requests)
    with pytest.raises(UserError, match="10 of 10 requests"):
        run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks, data=data))


def test_data_that_is_not_there_says_what_is_wanted_and_where(lm: Any, tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks))
    told = str(raised.value)
    assert "someone/reviews, configuration 'main'; splits training: train, test: test" in told
    assert "FOLDER/reviews/main/ with train.jsonl, test.jsonl" in told
    with pytest.raises(UserError, match="not in the data folder"):
        run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks, data=tmp_path))
    rows_file(tmp_path / "test.jsonl", TEXTS)
    settings = HarnessSettings(tasks_folder=tasks, data=tmp_path, items=1)
    assert run("tiny_choice", lm, settings).numbers[0].n == 1  # shows no examples: the training split may be absent
    with pytest.raises(UserError, match="has no file for 'train'"):
        run("tiny_write", lm, settings)
    (tmp_path / "test.jsonl").write_text('{"words": "the film", "sentiment": "positive"}\n')
    with pytest.raises(UserError, match="does not fit the task"):
        run("tiny_choice", lm, settings)


CONFIG = {"task": "t", "dataset_path": "org/set", "dataset_name": "main", "test_split": "test"}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")


def test_splits_are_recognised_by_how_file_names_begin(tmp_path: Path) -> None:
    names = ["train_part.jsonl", "testimony.jsonl", "TEST.jsonl", "valid-1.jsonl"]
    touch(*(tmp_path / name for name in names))
    found = {split: harness_data.split_files(tmp_path, split) for split in ("train", "test", "validation", "extra")}
    assert {split: [path.name for path in paths] for split, paths in found.items()} == {
        "train": ["train_part.jsonl"],
        "test": ["TEST.jsonl"],
        "validation": ["valid-1.jsonl"],
        "extra": [],
    }
    touch(tmp_path / "test_old.jsonl")
    with pytest.raises(UserError, match=r"TEST.jsonl, test_old.jsonl"):
        harness_data.split_files(tmp_path, "test")
    shards = [tmp_path / "parts" / f"test-0000{number}-of-00002.parquet" for number in range(2)]
    touch(*shards)
    assert harness_data.split_files(tmp_path / "parts", "test") == shards


def test_one_file_never_stands_for_two_splits(tmp_path: Path) -> None:
    touch(tmp_path / "dev.jsonl")
    config = CONFIG | {"test_split": "validation", "fewshot_split": "dev"}
    with pytest.raises(UserError, match="would be both 'validation' and 'dev'"):
        harness_data.local_overrides(tmp_path, config, alone=True, shots=5)


def test_where_data_is_looked_for(tmp_path: Path) -> None:
    overrides = harness_data.local_overrides
    snapshot = tmp_path / "cache" / "datasets--org--set" / "snapshots" / "abc"
    touch(snapshot / "README.md")
    assert overrides(tmp_path / "cache", CONFIG, alone=False, shots=0)["dataset_path"] == str(snapshot)
    touch(snapshot.parent / "def" / "README.md")
    with pytest.raises(UserError, match="2 revisions"):
        overrides(tmp_path / "cache", CONFIG, alone=False, shots=0)
    touch(tmp_path / "set" / "test.jsonl")  # no folder of the configuration's name: only for a task on its own
    assert overrides(tmp_path, CONFIG, alone=True, shots=0) == {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": [str(tmp_path / "set" / "test.jsonl")]}},
    }
    with pytest.raises(UserError, match="not in the data folder"):
        overrides(tmp_path, CONFIG, alone=False, shots=0)
    (tmp_path / "set" / "README.md").write_text("---\nconfigs:\n- config_name: main\n---\n")
    assert overrides(tmp_path, CONFIG, alone=False, shots=0)["dataset_path"] == str(tmp_path / "set")


@pytest.mark.parametrize("place", ["someone/reviews", "datasets--someone--reviews/snapshots/abc"])
def test_a_copy_of_the_hubs_repository_is_read_by_its_own_readme(
    lm: Any, tasks: Path, tmp_path: Path, place: str
) -> None:
    files = "[{split: test, path: a/b.jsonl}, {split: train, path: a/c.jsonl}]"
    rows_file(tmp_path / place / "a" / "b.jsonl", TEXTS[:3])
    rows_file(tmp_path / place / "a" / "c.jsonl", TEXTS[:1])
    head = f"---\nlicense: mit\nconfigs:\n- {{config_name: main, data_files: {files}}}\n- {{config_name: other, data_files: x}}\n---\n"
    (tmp_path / place / "README.md").write_text(head)
    result = run("tiny_choice", lm, HarnessSettings(tasks_folder=tasks, data=tmp_path))
    assert [sample["doc"]["text"] for sample in result.samples["tiny_choice"]] == [text for text, _ in TEXTS[:3]]


def test_a_subtask_without_rows_of_its_own_is_not_read_from_its_neighbours(lm: Any, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("group: all\ntask: [one, two]\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(CHOICE.replace("tiny_choice", name).replace(": main", f": {name}"))
    rows_file(tmp_path / "reviews" / "one" / "test.jsonl", TEXTS)
    rows_file(tmp_path / "test.jsonl", TEXTS)
    with pytest.raises(UserError, match="task two reads someone/reviews, configuration 'two'"):
        run("all", lm, HarnessSettings(tasks_folder=tmp_path, data=tmp_path))


def test_unknown_tasks_and_a_missing_package_are_named(lm: Any, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness_tasks, "library_tasks", lambda: harness_tasks.find_tasks("tiny_choice", tasks)[0])
    with pytest.raises(UserError, match="did you mean tiny_choice"):
        run("tiny_choise", lm)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pyrite\[eval\]"):
        harness.need_lm_eval()


@pytest.mark.real
def test_gsm8k_by_its_own_name(lm: Any, data_folder: Path) -> None:
    settings = HarnessSettings(data=data_folder / "gsm8k", items=4, max_gen_toks=16)
    result = run("gsm8k", lm, settings)
    assert result.shots == {"gsm8k": 5}
    assert result.cut == 4  # five examples are longer than the tiny model reads
    assert {number.metric: number.n for number in result.numbers} == {
        "exact_match,strict-match": 4,
        "exact_match,flexible-extract": 4,
    }
    assert all(number.of_items for number in result.numbers)
    assert sorted({each.item for each in result.measured}) == [f"gsm8k-{number}" for number in range(4)]
    assert "Janet" in result.samples["gsm8k"][0]["arguments"][0][0]
    again = run("gsm8k", lm, settings)
    assert again.measured == result.measured
    assert again.samples["gsm8k"][0]["arguments"] == result.samples["gsm8k"][0]["arguments"]
