"""How good is this model on its general task, and in its blind spots? A model, or answers given elsewhere."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io import file_hash
from pyrite.models import hardware, load
from pyrite.probe.config import ProbeConfig
from pyrite.probe.predict import ITEMS, PREDICT
from pyrite.records import Labelled
from pyrite.steps import Progress, RunOptions, Source, Step, Store, default_store, run_steps
from pyrite.tasks import TASKS
from pyrite.tasks.custom import load_custom
from pyrite.tasks.rows import read_rows
from pyrite.tasks.score import Slice, Task, score
from pyrite.train.adapters import has_adapter

ID_COLUMNS = ("pairID", "id", "uid")
ANSWER_COLUMNS = ("gold_label", "prediction", "predicted", "label")


@dataclass(frozen=True)
class Scorecard:
    """One task's scores."""

    task: str
    source: str
    slices: list[Slice]
    unmatched: int
    """Answers in the file for items that the task does not have."""

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises: overall, then slices."""
        overall, rest = self.slices[0], self.slices[1:]
        return {
            "task": self.task,
            "source": self.source,
            "overall": interval(overall),
            "unmatched": self.unmatched,
            "intervals": "this model on items such as these; items of one template are alike, so other templates may differ"
            if any(line.by == "template" for line in rest)
            else "this model on items such as these",
            "slices": [
                {"metric": line.metric, "by": line.by, "name": line.name, "gold": line.gold, **interval(line)}
                for line in rest
            ],
        }


@dataclass(frozen=True)
class ProbeResult:
    """The scorecards of one model or predictions file."""

    about: str
    cards: list[Scorecard]

    def as_json(self) -> dict[str, Any]:
        """One task: its scorecard; several: a list of them."""
        head = {"schema_version": 1, "about": self.about}
        if len(self.cards) == 1:
            return head | self.cards[0].as_json()
        return head | {"scorecards": [card.as_json() for card in self.cards]}


def interval(line: Slice) -> dict[str, Any]:
    """A slice's accuracy as plain values; null where nothing was answered."""
    estimate = line.estimate()
    value = None if line.n == 0 else estimate.value
    told = {"value": value, "low": estimate.low, "high": estimate.high, "n": line.n, "n_missing": line.n_missing}
    return {**told, "method": estimate.method}


@dataclass(frozen=True)
class Asked:
    """One `--task`: how it is scored, what it reads, and the step that chooses its items."""

    task: Task
    source: str
    items: Step


def ask(text: str, config: ProbeConfig) -> Asked:
    """What does a `--task` name?"""
    name, _, where = text.partition("=")
    common: dict[str, Any] = {
        "items": config.items,
        "in_full": {},
        "seed": config.seed,
        "columns": mapping("--columns", config.columns),
        "label_map": mapping("--label-map", config.label_map),
        "on_bad_row": config.on_bad_row,
        "name": Path(where or text).name,  # row ids begin with it
        "hub": f"{where}#{file_hash(where)}" if where.startswith("hf://") else None,
        "file": None,
        "grammar_rows": None,
        "fields": ["premise", "hypothesis"],
    }
    if name == "heuristics":
        task = TASKS["hans"]
        rows = int(where) if where.isdigit() and int(where) >= 30 else 3000 if not where else 0
        if not rows:
            raise UserError("heuristics takes a number of rows, 30 or more.", text, "--task heuristics=3000")
        given = {**common, "task": "hans", "labels": None, "file": "grammar:heuristics", "grammar_rows": rows}
        return Asked(task, text, items_step(given, {}, strata=["subcase", "gold"], label=text))
    if name in TASKS and where:
        task = TASKS[name]
        given = {**common, "task": name, "labels": list(task.labels)}
        strata = ["subcase", "gold"] if name == "hans" else ["gold"]
        return Asked(task, where, items_step(given, {"file": source(where)}, strata=strata, label=text))
    if text.endswith((".yaml", ".yml")):
        custom, file = load_custom(Path(text))
        task = custom.task(Path(text).stem)
        given = {**common, "task": "labelled", "labels": list(task.labels), "fields": list(custom.fields)}
        given["columns"] = {"label": custom.label, **(given["columns"] or {})}
        given["label_map"] = {**(custom.label_map or {}), **(given["label_map"] or {})} or None
        given["on_bad_row"] = "skip" if "skip" in (custom.on_bad_row, config.on_bad_row) else "stop"
        strata = list(task.slices[-1]) if task.slices else ["gold"]
        return Asked(task, str(file), items_step(given, {"file": source(str(file))}, strata=strata, label=text))
    fix = f"--task NAME=FILE with NAME one of {', '.join(TASKS)}; --task heuristics=3000; or --task FILE.yaml"
    raise UserError("That is not a task.", text, fix)


def mapping(flag: str, texts: tuple[str, ...]) -> dict[str, str] | None:
    """`FLAG a=b FLAG c=d` as a mapping."""
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (left, sign, right) in zip(texts, pairs, strict=True) if not (left and sign and right)]
    if wrong:
        raise UserError(f"{flag} takes two names with = between.", wrong[0], f"such as {flag} one=other")
    return {left: right for left, _, right in pairs} or None


def items_step(config: dict[str, Any], inputs: dict[str, Step | Source], *, strata: list[str], label: str) -> Step:
    """The step that chooses a task's items."""
    return Step(ITEMS, {**config, "strata": strata}, inputs, label=f"{label}: items")


def source(path: str) -> Source:
    """A data file as an input."""
    return Source(path, file_hash(path))


def probe(config: ProbeConfig) -> ProbeResult:
    """Score a model, or a predictions file, on each task.

    Raises:
        UserError: neither or both of model and predictions, a file that cannot be read, labels that do not match.
    """
    if (config.model is None) == (config.predictions is None):
        raise UserError(
            "Give a model or --predictions, and not both.", f"model {config.model}", "pyrite probe MODEL --task …"
        )
    asked = [ask(text, config) for text in config.task]
    store = Store(config.store or default_store())
    progress = Progress(quiet=config.quiet)
    if config.predictions is not None:
        if len(asked) != 1:
            raise UserError("--predictions answers one task.", f"{len(asked)} tasks", "give one --task")
        run_steps([asked[0].items], store, RunOptions(), progress)
        items = read_rows(store.path(asked[0].items.key) / "items.jsonl")
        answers, unmatched = match(read_predictions(config.predictions), items, config.predictions)
        card = Scorecard(asked[0].task.name, asked[0].source, score(items, answers, asked[0].task), unmatched)
        return ProbeResult(str(config.predictions), [card])
    assert config.model is not None
    steps = [answers_step(config, config.model, one) for one in asked]
    run_steps([*steps, *(one.items for one in asked)], store, RunOptions(), progress)
    cards = []
    for one, step in zip(asked, steps, strict=True):
        items = read_rows(store.path(one.items.key) / "items.jsonl")
        answers = dict(read_predictions(store.path(step.key) / "predictions.parquet"))
        cards.append(Scorecard(one.task.name, one.source, score(items, answers, one.task), 0))
    return ProbeResult(config.model, cards)


def answers_step(config: ProbeConfig, model: str, asked: Asked) -> Step:
    """The step in which a model answers a task: by its head where it has one, else by label words."""
    found = load.resolve(model)
    if has_adapter(found.folder):
        fix = "merge it into its base first (peft: merge_and_unload, save_pretrained)"
        raise UserError("That folder holds an adapter, not a model.", str(found.folder), fix)
    written = load.read_config(found.folder)
    has_head = any("SequenceClassification" in name for name in written.get("architectures") or [])
    allowed = {*asked.task.labels, *asked.task.merge}
    if has_head:
        labels = [
            str(name).lower() for _, name in sorted((written.get("id2label") or {}).items(), key=lambda kv: int(kv[0]))
        ]
        strange = [label for label in labels if label not in allowed]
        if strange:
            what = "The classifier's outputs do not carry the task's labels."
            fix = f"name the outputs in config.json (id2label) after the labels {sorted(allowed)}"
            raise UserError(what, f"{found.folder} has outputs {labels}", fix)
    elif load.is_causal(found.folder):
        labels = list(config.labels or (TASKS["nli"].labels if asked.task.name == "hans" else asked.task.labels))
    else:
        what = "That model has no classification head and cannot name labels."
        raise UserError(
            what, str(found.folder), "train it first (pyrite study), or give a classifier or a language model"
        )
    chosen = {
        "labels": labels,
        "by": "head" if has_head else "words",
        "reads": "prompt" if load.is_causal(found.folder) else "pair",
        "compute": hardware.choose(config.precision).as_config(),
        "max_tokens": config.max_tokens,
        "four_bit": False,
        "seed": 0,
    }
    inputs: dict[str, Step | Source] = {"base": Source(str(found.folder), found.identity), "items": asked.items}
    return Step(PREDICT, chosen, inputs, label=f"{model}: {asked.task.name}")


def read_predictions(path: Path) -> list[tuple[str, str]]:
    """(id, label) of every line of a predictions file, read as data.

    Raises:
        UserError: no such file, no id or answer column, an id twice, a line without an answer column.
    """
    if not path.is_file():
        raise UserError("That predictions file is not there.", str(path), "give a text, csv or parquet file")
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except pyarrow.ArrowException as error:
            raise UserError("That is no parquet file.", f"{path}: {error}", "give text, csv or parquet") from error
        rows = [dict(row.items()) for row in table.to_pylist()]
        columns = table.column_names
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                "The predictions file is not UTF-8 text.", f"{path}: {error}", "save it as UTF-8"
            ) from error
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
        columns = list(reader.fieldnames or [])
        rows = list(reader)
    lookup = {name.strip().lower(): name for name in columns}
    id_column = next((lookup[name.lower()] for name in ID_COLUMNS if name.lower() in lookup), None)
    candidates = [name for name in ANSWER_COLUMNS if name in lookup and lookup[name] != id_column]
    preferred = [name for name in candidates if name in ("prediction", "predicted")] or candidates
    if id_column is None or not preferred:
        fix = f"name an id column ({', '.join(ID_COLUMNS)}) and an answer column ({', '.join(ANSWER_COLUMNS)})"
        raise UserError("The predictions file has no id or no answer column.", f"{path}: columns {columns}", fix)
    answers: list[tuple[str, str]] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        item, label = row[id_column], row[lookup[preferred[0]]]
        if item is None or label is None:
            raise UserError(
                "A prediction is incomplete.", f"{path}:{number}: {dict(row)}", "give an id and a label on every line"
            )
        if str(item).strip() in seen:
            raise UserError("An item is answered twice.", f"{path}:{number}: {item}", "leave one answer for each item")
        seen.add(str(item).strip())
        answers.append((str(item).strip(), str(label).strip()))
    return answers


def match(answers: list[tuple[str, str]], items: list[Labelled], path: Path) -> tuple[Mapping[str, str | None], int]:
    """Answers by item id, and how many are for items that the task does not have."""
    known = {item.id for item in items}
    matched = {item: label for item, label in answers if item in known}
    if not matched:
        example = answers[0][0] if answers else "no lines"
        found = (
            f"{path}: none of {len(answers)} ids is an item of the task (first: {example}; the task has: {items[0].id})"
        )
        raise UserError("The predictions are for other items.", found, "give the predictions of this task's file")
    return matched, len(answers) - len(matched)
