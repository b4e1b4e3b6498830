"""Scorecards as lm-evaluation-harness writes its results, for whatever reads those.

    FOLDER/MODEL/results_TIME.json              results, configs, versions, n-samples, …
    FOLDER/MODEL/samples_TASK_TIME.jsonl        a line for each item and answer filter, where the run kept its items

What is named how:

- a task of ours is `pyrite_NAME` (as `pyrite probe --export` names it), a task of the harness its own name; a slice is a
  subtask of its task, `pyrite_NAME_COLUMNS_VALUES`; of names that become the same word the later ones get a number
- `accuracy` is `acc`; every other metric keeps its name; the filter is `none`, or the harness's own
- TIME is when the run's file was written (UTC): the same run gives the same files. Where two runs of one model have the
  same time, the later one in order moves on by a microsecond

A standard error is the longer arm of the 95 % interval, divided by 1.96: ours are intervals (Wilson, over templates), of
which a standard error keeps less than it loses, so they stand whole under `pyrite`. Without an interval it is `N/A`,
and a metric that nothing answered is left out.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import Any

from pyrite.io import atomic_write
from pyrite.redact import redact_path, stem_of, unlike
from pyrite.report.names import display_names
from pyrite.runs import FILES, Run, read_results
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.repair import RepairRecord
from pyrite.runs.schema import Scorecard, SliceScore

ITEMS = ("subject", "task", "metric", "item", "value", "group", "slices")
TEXTS = ("task", "item", "subject", "text")
"""Columns of the tables that are read."""
NORMAL_95 = 1.959963984540054
HARNESS = "harness:"
OF_THEIRS = {"accuracy": "acc"}
"""Our metric's name: theirs."""


@dataclass(frozen=True)
class EvaluatedModel:
    """One model's scorecards in one run. `about`: its name in the run's tables; `source`: what the run was asked for."""

    run: Run[ProbeRecord] | Run[RepairRecord]
    about: str
    name: str
    source: str
    cards: Sequence[Scorecard]


def write_results(runs: Sequence[Run[Any]], folder: Path, *, no_rows: bool = False) -> list[Path]:
    """Write the scorecards of probes and repairs, and of those within loops; returns the files, results before samples.

    Runs without scorecards (audits, studies) write nothing. With `no_rows` no samples are written.
    """
    written: list[Path] = []
    for model in with_unique_names([model for run in runs for model in evaluated_models(run)]):
        place = folder / stem_of(model.name)
        at = written_at(model.run)
        while place / f"results_{stamp(at)}.json" in written:
            at += timedelta(microseconds=1)
        by_task = {} if no_rows else dict(all_samples(model))
        names = entry_names(model.cards, by_task)
        samples = {names[task,]: lines for task, lines in by_task.items()}
        results = results_json(model, at, samples, names)
        files = {f"results_{stamp(at)}.json": json.dumps(results, indent=2, ensure_ascii=False) + "\n"}
        for task, lines in samples.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            files[f"samples_{task}_{stamp(at)}.jsonl"] = text
        for name, text in files.items():
            with atomic_write(place / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            written.append(place / name)
    return written


def evaluated_models(run: Run[Any]) -> Iterator[EvaluatedModel]:
    """Every model that a run asked, in order; of a loop those of its parts."""
    if run.verb == "loop":
        for part in run.parts.values():
            yield from evaluated_models(part)
    elif run.verb in ("probe", "repair"):
        names = display_names(run.record.subjects())
        for about, name in names.items():
            if cards := [card for card in run.record.all_scorecards() if card.about == about]:
                yield EvaluatedModel(run, about, *name_and_source(run.record, about, name, list(names)), cards)


def name_and_source(
    record: ProbeRecord | RepairRecord, about: str, name: str, models: Sequence[str]
) -> tuple[str, str]:
    """What a model is called there, and what the run was asked for."""
    if isinstance(record, RepairRecord):
        return f"{redact_path(record.model)}-{about}", record.model_identity
    options = dict(zip(models, (record.settings.model, record.settings.other), strict=False))
    return name, options.get(about) or about


def with_unique_names(models: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
    """Models of which no two are called the same, over several runs too."""
    pairs = list(dict.fromkeys((model.name, model.source) for model in models))
    names = dict(zip(pairs, unlike([name for name, _ in pairs]), strict=True))
    return [replace(model, name=names[model.name, model.source]) for model in models]


def written_at(run: Run[Any]) -> datetime:
    """When the run's file was written, in whole seconds."""
    file = next(run.folder / name for name in FILES if (run.folder / name).is_file())
    return datetime.fromtimestamp(int(file.stat().st_mtime), UTC)


def stamp(at: datetime) -> str:
    """A time as the harness puts it into file names."""
    return at.replace(tzinfo=None).isoformat().replace(":", "-")


def task_name(task: str) -> str:
    """What the harness's tooling calls a task: its own by their names, ours with a prefix.

    >>> task_name("heuristics"), task_name("harness:gsm8k")
    ('pyrite_heuristics', 'gsm8k')
    """
    name = task.removeprefix(HARNESS)
    return word(name if task.startswith(HARNESS) else f"pyrite_{name}")


def word(text: str) -> str:
    """A text as one word of a name."""
    return re.sub(r"\W+", "_", text).strip("_") or "_"


def metric_name(metric: str) -> tuple[str, str]:
    """A metric's name and answer filter there.

    >>> metric_name("accuracy"), metric_name("exact_match,strict-match")
    (('acc', 'none'), ('exact_match', 'strict-match'))
    """
    name, _, answer_filter = metric.partition(",")
    return OF_THEIRS.get(name, name), answer_filter or "none"


Entry = tuple[str, ...]
"""A task, or a slice of it: the task, then the slice's columns and values."""


def entry_lines(card: Scorecard) -> Iterator[tuple[Entry, SliceScore]]:
    """(entry, line) for every line of a scorecard; a slice is an entry of its own."""
    for line in card.lines():
        if line.by == "overall":
            yield (card.task,), line
            continue
        columns = [line.by, line.name, *([line.gold] if line.gold is not None and line.gold != line.name else [])]
        yield (card.task, *columns), line


def entry_names(cards: Sequence[Scorecard], tasks: Iterable[str] = ()) -> dict[Entry, str]:
    """What every entry is called there; tasks are named first. Of those that become the same word the later ones get a
    number.

    >>> entry_names([], ["my-task", "my_task"])
    {('my-task',): 'pyrite_my_task', ('my_task',): 'pyrite_my_task_2'}
    """
    whole_tasks: list[Entry] = [(task,) for task in (*(card.task for card in cards), *tasks)]
    slices = [entry for card in cards for entry, _ in entry_lines(card)]
    names: dict[Entry, str] = {}
    used: set[str] = set()
    for entry in dict.fromkeys([*whole_tasks, *slices]):
        task, *columns = entry
        plain = "_".join([names[task,] if columns else task_name(task), *map(word, columns)])
        candidates = chain([plain], (f"{plain}_{at}" for at in count(2)))
        names[entry] = next(name for name in candidates if name not in used)
        used.add(names[entry])
    return names


@dataclass
class Tables:
    """The tables of a results file, by entry (a task, or a slice of one)."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_subtasks: dict[str, list[str]] = field(default_factory=dict)
    higher_is_better: dict[str, dict[str, bool | None]] = field(default_factory=dict)
    n_samples: dict[str, dict[str, int]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, task: str, name: str, title: str, line: SliceScore) -> None:
        """Enter a line of a scorecard; of the task `task`, and where `name` is another one, of a slice of it."""
        metric, answer_filter = metric_name(line.metric)
        items, key = line.n + line.n_missing, f"{metric},{answer_filter}"
        entry = self.results.setdefault(name, {"name": name, "alias": title, "sample_len": items})
        if line.value is not None:
            entry[key] = line.value
            entry[f"{metric}_stderr,{answer_filter}"] = standard_error(line)
        self.higher_is_better.setdefault(name, {})[metric] = {"higher": True, "lower": False}.get(line.direction)
        self.n_samples.setdefault(name, {"original": items, "effective": items})
        interval = {"value": line.value, "low": line.low, "high": line.high}
        interval |= {"n": line.n, "n_missing": line.n_missing}
        self.intervals.setdefault(name, {})[key] = {**interval, "method": line.method}
        subtasks = self.group_subtasks.setdefault(task, [])
        if name != task and name not in subtasks:
            subtasks.append(name)


def results_json(
    model: EvaluatedModel, at: datetime, samples: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[Entry, str]
) -> dict[str, Any]:
    """The file of one model's aggregated results."""
    tables, record = Tables(), model.run.record
    for card in model.cards:
        for entry, line in entry_lines(card):
            tables.add(names[entry[:1]], names[entry], ", ".join(entry[1:]) or entry[0], line)
    options = record.settings if isinstance(record, ProbeRecord) else None
    made_with = record.made_with or {}
    version = made_with.get("pyrite", "")
    tasks = {names[card.task,]: card for card in model.cards}
    examples = {name: shots(card, options.num_fewshot if options else None) for name, card in tasks.items()}
    return {
        "results": tables.results,
        "group_subtasks": tables.group_subtasks,
        "configs": {name: configured(name, card, version) for name, card in tasks.items()},
        "versions": dict.fromkeys(tables.results, version),
        "n-shot": {name: number for name, number in examples.items() if number is not None},
        "higher_is_better": tables.higher_is_better,
        "n-samples": tables.n_samples,
        "config": {
            "model": "pyrite",
            "model_args": {"pretrained": model.name},
            "batch_size": None,
            "device": record.compute.device if record.compute else None,
            "limit": options.items if options else None,
            "random_seed": record.seed,
        },
        "date": at.timestamp(),
        "transformers_version": made_with.get("transformers"),
        "model_source": "pyrite",
        "model_name": model.name,
        "model_name_sanitized": stem_of(model.name),
        "task_hashes": {name: hash_of(map(sample_hash, lines)) for name, lines in samples.items()},
        "pyrite": {"intervals": tables.intervals, "command": record.command, "verb": model.run.verb},
    }


def configured(name: str, card: Scorecard, version: str) -> dict[str, Any]:
    """A task's configuration, as far as a scorecard knows it. Its file stands without the folders of any machine."""
    return {"task": name, "dataset_path": redact_path(card.source), "metadata": {"pyrite": version}}


def shots(card: Scorecard, num_fewshot: int | None) -> int | None:
    """Examples in the prompt: none in ours; of a task of the harness only where they were asked for."""
    return num_fewshot if card.task.startswith(HARNESS) else 0


def standard_error(line: SliceScore) -> float | str:
    """The longer arm of a 95 % interval over 1.96; N/A where there is no interval."""
    if line.value is None or line.low is None or line.high is None:
        return "N/A"
    return float(max(line.value - line.low, line.high - line.value) / NORMAL_95)


def all_samples(model: EvaluatedModel) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(task, its lines), for each task of which the run kept the items."""
    file, text_file = model.run.result("items.parquet"), model.run.result("texts.parquet")
    if not file.is_file():
        return
    items: dict[str, list[dict[str, Any]]] = {}
    for row in read_results(file, ITEMS, where=[("subject", "=", model.about)]):
        items.setdefault(row["task"], []).append(row)
    texts: dict[str, dict[str | None, dict[str, str]]] = {}
    for row in read_results(text_file, TEXTS) if text_file.is_file() else ():
        texts.setdefault(row["task"], {}).setdefault(row["subject"], {})[row["item"]] = row["text"]
    for task, rows in items.items():
        yield task, list(task_samples(rows, texts.get(task, {}), model.about))


def task_samples(
    rows: Iterable[Mapping[str, Any]], texts: Mapping[str | None, Mapping[str, str]], about: str
) -> Iterator[dict[str, Any]]:
    """One line for each item and answer filter, with every metric that it has a value of."""
    gathered: dict[tuple[str, str], dict[str, Any]] = {}
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        metric, answer_filter = metric_name(row["metric"])
        key = row["item"], answer_filter
        gathered.setdefault(key, {"id": row["item"], "group": row["group"], "slices": json.loads(row["slices"])})
        metrics = values.setdefault(key, {})
        if row["value"] is not None:
            metrics[metric] = row["value"]
    numbers = {item: at for at, item in enumerate(dict.fromkeys(item for item, _ in gathered))}
    for (item, answer_filter), doc in gathered.items():
        prompt, gold = texts.get(None, {}).get(item, ""), texts.get("gold", {}).get(item, "")
        answer = texts.get(about, {}).get(item, "")
        yield {
            "doc_id": numbers[item],
            "doc": doc,
            "target": gold,
            "arguments": {"gen_args_0": {"arg_0": prompt}},
            "resps": [[answer]],
            "filtered_resps": [answer],
            "filter": answer_filter,
            "metrics": list(values[item, answer_filter]),
            "doc_hash": hash_of([json.dumps(doc, indent=2, ensure_ascii=False)]),
            "prompt_hash": hash_of([prompt]),
            "target_hash": hash_of([gold]),
            **values[item, answer_filter],
        }


def sample_hash(line: Mapping[str, Any]) -> str:
    """What the harness joins into a task's hash."""
    return str(line["doc_hash"] + line["prompt_hash"] + line["target_hash"])


def hash_of(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts, joined."""
    return hashlib.sha256("".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
