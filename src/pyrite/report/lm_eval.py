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
from pyrite.names import redact_path, stem_of, unlike
from pyrite.report.names import subjects as subjects_of
from pyrite.runs import FILES, Run, read_results

ITEMS = ("subject", "task", "metric", "item", "value", "group", "slices")
TEXTS = ("task", "item", "subject", "text")
"""Columns of the tables that are read."""
NORMAL_95 = 1.959963984540054
HARNESS = "harness:"
OF_THEIRS = {"accuracy": "acc"}
"""Our metric's name: theirs."""


@dataclass(frozen=True)
class Subject:
    """One model's scorecards in one run; `about` is its name in the run's tables, `given` what the run was asked for."""

    run: Run
    about: str
    model: str
    given: str
    cards: Sequence[Mapping[str, Any]]


def write_results(runs: Sequence[Run], folder: Path, *, no_rows: bool = False) -> list[Path]:
    """Write the scorecards of probes and repairs, and of those within loops; returns the files, results before samples.

    Runs without scorecards (audits, studies) write nothing. With `no_rows` no samples are written.
    """
    written: list[Path] = []
    for subject in told_apart([one for run in runs for one in subjects(run)]):
        place = folder / stem_of(subject.model)
        at = made_at(subject.run)
        while place / f"results_{stamp(at)}.json" in written:
            at += timedelta(microseconds=1)
        found = {} if no_rows else dict(all_samples(subject))
        named = entries(subject.cards, found)
        samples = {named[task,]: lines for task, lines in found.items()}
        told = results(subject, at, samples, named)
        files = {f"results_{stamp(at)}.json": json.dumps(told, indent=2, ensure_ascii=False) + "\n"}
        for task, lines in samples.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            files[f"samples_{task}_{stamp(at)}.jsonl"] = text
        for name, text in files.items():
            with atomic_write(place / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            written.append(place / name)
    return written


def subjects(run: Run) -> Iterator[Subject]:
    """Every model that a run asked, in order; of a loop those of its parts."""
    if run.verb == "loop":
        for part in run.parts.values():
            yield from subjects(part)
    elif run.verb in ("probe", "repair"):
        told = run.told
        cards = [*told.get("scorecards", ()), *(card for one in told.get("proofs", ()) for card in one["scorecards"])]
        called, settings = subjects_of(told), told.get("settings", {})
        asked = [settings.get("model"), settings.get("other")]
        for at, (about, name) in enumerate(called.items()):
            model, given = name, (asked[at] if at < len(asked) else None) or about
            if run.verb == "repair":
                model, given = f"{redact_path(told['model'])}-{about}", str(told.get("model_identity"))
            if own := [card for card in cards if str(card["about"]) == about]:
                yield Subject(run, about, model, str(given), own)


def told_apart(some: Sequence[Subject]) -> list[Subject]:
    """Subjects of which no two models are called the same, over several runs too."""
    models = list(dict.fromkeys((one.model, one.given) for one in some))
    called = dict(zip(models, unlike([name for name, _ in models]), strict=True))
    return [replace(one, model=called[one.model, one.given]) for one in some]


def made_at(run: Run) -> datetime:
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


def lines_of(card: Mapping[str, Any]) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    """(entry, line) for every line of a scorecard; a slice is an entry of its own."""
    task = str(card["task"])
    yield (task,), {"metric": card["metric"], "by": "overall", **card["overall"]}
    for line in card["slices"]:
        if line["by"] == "overall":
            yield (task,), line
            continue
        columns = [line["by"], line["name"], *([line["gold"]] if line["gold"] not in (None, line["name"]) else [])]
        yield (task, *map(str, columns)), line


def entries(cards: Sequence[Mapping[str, Any]], tasks: Iterable[str] = ()) -> dict[Entry, str]:
    """What every entry is called there; tasks are named first. Of those that become the same word the later ones get a
    number.

    >>> entries([], ["my-task", "my_task"])
    {('my-task',): 'pyrite_my_task', ('my_task',): 'pyrite_my_task_2'}
    """
    wholes: list[Entry] = [(str(task),) for task in (*(card["task"] for card in cards), *tasks)]
    slices = [entry for card in cards for entry, _ in lines_of(card)]
    made: dict[Entry, str] = {}
    taken: set[str] = set()
    for entry in dict.fromkeys([*wholes, *slices]):
        task, *columns = entry
        plain = "_".join([made[task,] if columns else task_name(task), *map(word, columns)])
        name = next(one for one in chain([plain], (f"{plain}_{at}" for at in count(2))) if one not in taken)
        made[entry] = name
        taken.add(name)
    return made


@dataclass
class Tables:
    """The tables of a results file, by entry (a task, or a slice of one)."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_subtasks: dict[str, list[str]] = field(default_factory=dict)
    higher_is_better: dict[str, dict[str, bool | None]] = field(default_factory=dict)
    n_samples: dict[str, dict[str, int]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, whole: str, name: str, title: str, line: Mapping[str, Any]) -> None:
        """Enter a line of a scorecard; of the task `whole`, and where `name` is another one, of a slice of it."""
        metric, answer_filter = metric_name(line["metric"])
        asked, key = line["n"] + line["n_missing"], f"{metric},{answer_filter}"
        entry = self.results.setdefault(name, {"name": name, "alias": title, "sample_len": asked})
        if line["value"] is not None:
            entry[key] = line["value"]
            entry[f"{metric}_stderr,{answer_filter}"] = standard_error(line)
        self.higher_is_better.setdefault(name, {})[metric] = {"higher": True, "lower": False}.get(line["direction"])
        self.n_samples.setdefault(name, {"original": asked, "effective": asked})
        kept = ("value", "low", "high", "n", "n_missing", "method")
        self.intervals.setdefault(name, {})[key] = {one: line[one] for one in kept}
        below = self.group_subtasks.setdefault(whole, [])
        if name != whole and name not in below:
            below.append(name)


def results(
    subject: Subject, at: datetime, samples: Mapping[str, Sequence[Mapping[str, Any]]], named: Mapping[Entry, str]
) -> dict[str, Any]:
    """The file of one model's aggregated results."""
    tables, told = Tables(), subject.run.told
    for card in subject.cards:
        for entry, line in lines_of(card):
            tables.add(named[entry[:1]], named[entry], ", ".join(entry[1:]) or entry[0], line)
    settings, made_with = told.get("settings", {}), told.get("made_with", {})
    version = made_with.get("pyrite", "")
    tasks = {named[str(card["task"]),]: card for card in subject.cards}
    few = {name: shots(card, settings) for name, card in tasks.items()}
    return {
        "results": tables.results,
        "group_subtasks": tables.group_subtasks,
        "configs": {name: configured(name, card, version) for name, card in tasks.items()},
        "versions": dict.fromkeys(tables.results, version),
        "n-shot": {name: number for name, number in few.items() if number is not None},
        "higher_is_better": tables.higher_is_better,
        "n-samples": tables.n_samples,
        "config": {
            "model": "pyrite",
            "model_args": {"pretrained": subject.model},
            "batch_size": None,
            "device": told.get("compute", {}).get("device"),
            "limit": settings.get("items"),
            "random_seed": settings.get("seed", told.get("seed")),
        },
        "date": at.timestamp(),
        "transformers_version": made_with.get("transformers"),
        "model_source": "pyrite",
        "model_name": subject.model,
        "model_name_sanitized": stem_of(subject.model),
        "task_hashes": {name: hash_of(map(hashes, lines)) for name, lines in samples.items()},
        "pyrite": {"intervals": tables.intervals, "command": told.get("command"), "verb": subject.run.verb},
    }


def configured(name: str, card: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A task's configuration, as far as a scorecard knows it. Its file stands without the folders of any machine."""
    return {"task": name, "dataset_path": redact_path(card["source"]), "metadata": {"pyrite": version}}


def shots(card: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    """Examples in the prompt: none in ours; of a task of the harness only where they were asked for."""
    given: int | None = settings.get("num_fewshot")
    return given if card["task"].startswith(HARNESS) else 0


def standard_error(line: Mapping[str, Any]) -> float | str:
    """The longer arm of a 95 % interval over 1.96; N/A where there is no interval."""
    if line["low"] is None or line["high"] is None:
        return "N/A"
    return float(max(line["value"] - line["low"], line["high"] - line["value"]) / NORMAL_95)


def all_samples(subject: Subject) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(task, its lines), for each task of which the run kept the items."""
    file, beside = subject.run.result("items.parquet"), subject.run.result("texts.parquet")
    if not file.is_file():
        return
    items: dict[str, list[dict[str, Any]]] = {}
    for row in read_results(file, ITEMS, where=[("subject", "=", subject.about)]):
        items.setdefault(row["task"], []).append(row)
    texts: dict[str, dict[str | None, dict[str, str]]] = {}
    for row in read_results(beside, TEXTS) if beside.is_file() else ():
        texts.setdefault(row["task"], {}).setdefault(row["subject"], {})[row["item"]] = row["text"]
    for task, some in items.items():
        yield task, list(sampled(some, texts.get(task, {}), subject.about))


def sampled(
    rows: Iterable[Mapping[str, Any]], texts: Mapping[str | None, Mapping[str, str]], about: str
) -> Iterator[dict[str, Any]]:
    """One line for each item and answer filter, with every metric that it has a value of."""
    gathered: dict[tuple[str, str], dict[str, Any]] = {}
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        metric, answer_filter = metric_name(row["metric"])
        key = row["item"], answer_filter
        gathered.setdefault(key, {"id": row["item"], "group": row["group"], "slices": json.loads(row["slices"])})
        found = values.setdefault(key, {})
        if row["value"] is not None:
            found[metric] = row["value"]
    numbers = {item: at for at, item in enumerate(dict.fromkeys(item for item, _ in gathered))}
    for (item, answer_filter), doc in gathered.items():
        asked, gold = texts.get(None, {}).get(item, ""), texts.get("gold", {}).get(item, "")
        answer = texts.get(about, {}).get(item, "")
        yield {
            "doc_id": numbers[item],
            "doc": doc,
            "target": gold,
            "arguments": {"gen_args_0": {"arg_0": asked}},
            "resps": [[answer]],
            "filtered_resps": [answer],
            "filter": answer_filter,
            "metrics": list(values[item, answer_filter]),
            "doc_hash": hash_of([json.dumps(doc, indent=2, ensure_ascii=False)]),
            "prompt_hash": hash_of([asked]),
            "target_hash": hash_of([gold]),
            **values[item, answer_filter],
        }


def hashes(line: Mapping[str, Any]) -> str:
    """What the harness joins into a task's hash."""
    return str(line["doc_hash"] + line["prompt_hash"] + line["target_hash"])


def hash_of(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts, joined."""
    return hashlib.sha256("".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
