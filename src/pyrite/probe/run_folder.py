"""The run folder of a probe: run.json, and row-level tables that say of every item what it got and what was said.

    results/items.parquet   subject, task, metric, item, value, group, weight, slices (a JSON object)
    results/texts.parquet   task, item, subject, text: what was asked (no subject), the right label (subject "gold"),
                            and what each subject answered

From the items every interval of the scorecard can be worked out again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.io import write_parquet
from pyrite.outputs import command_line, storable
from pyrite.probe.config import ProbeConfig, ProbeOptions
from pyrite.probe.probe_task import Result
from pyrite.probe.texts import Texts
from pyrite.redact import redact_existing_path
from pyrite.runs import read_results
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.write import write_record
from pyrite.steps.store import made_with
from pyrite.tasks.scoring import ItemScore

if TYPE_CHECKING:
    import pyarrow

ITEMS, TEXTS = "items.parquet", "texts.parquet"
GOLD = "gold"
"""The subject of the right labels."""
LONGEST = 4000
"""Characters of a text that are kept."""
UNSAID = ("out", "store", "quiet", "engine", "max_time")
"""Flags that change nothing in the result."""


@dataclass(frozen=True)
class SubjectOutput:
    """One subject's results and texts, by task."""

    subject: str
    results: Mapping[str, Result]
    texts: Mapping[str, Texts]


def write_probe_run(folder: Path, record: ProbeRecord, subjects: Sequence[SubjectOutput]) -> None:
    """Write the run folder, run.json last; every file appears whole or not at all."""
    write_parquet(items_table(subjects), folder / "results" / ITEMS)
    write_parquet(texts_table(subjects), folder / "results" / TEXTS)
    write_record(folder / "run.json", record)


def described(results: Mapping[str, Result], margin: float) -> dict[str, Any]:
    """What a reader of the items must know of each task: its metrics, what groups are called, the margin of a change."""
    return {
        "metrics": {task: [asdict(metric) for metric in result.metrics] for task, result in results.items()},
        "clusters": {task: result.cluster for task, result in results.items()},
        "margin": margin,
    }


def settings(config: ProbeConfig) -> dict[str, Any]:
    """What was asked for, how it is to be made again, and with which software."""
    return {
        "settings": config.model_dump(mode="json", exclude=set(UNSAID)),
        "command": command(config),
        "made_with": made_with(),
    }


def command(config: ProbeConfig) -> str:
    """The command that makes this again, run where the files are."""
    words = [
        "pyrite",
        "probe",
        *(redact_existing_path(name) for name in (config.model, config.other) if name is not None),
    ]
    return command_line(words, config, ProbeOptions, unsaid=UNSAID)


def items_table(subjects: Sequence[SubjectOutput]) -> "pyarrow.Table":
    """One row for each subject, task, metric and item; no value where there was no answer."""
    import pyarrow

    names = {"subject": "string", "task": "string", "metric": "string", "item": "string", "value": "float64"}
    names |= {"group": "string", "weight": "float64", "slices": "string"}
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in names.items()])
    rows = [
        (
            subject.subject,
            task,
            *(getattr(item, name) for name in list(names)[2:-1]),
            orjson.dumps(item.slices).decode(),
        )
        for subject in subjects
        for task, result in subject.results.items()
        for item in result.measured
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pyarrow.table(dict(zip(names, map(list, columns), strict=True)), schema=schema)


def texts_table(subjects: Sequence[SubjectOutput]) -> "pyarrow.Table":
    """One row for each text, the texts of an item together; what nobody answered has no row."""
    import pyarrow

    names = ("task", "item", "subject", "text")
    rows = list(text_rows(subjects))
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    schema = pyarrow.schema([(name, pyarrow.string()) for name in names])
    return pyarrow.table(dict(zip(names, map(list, columns), strict=True)), schema=schema)


def text_rows(subjects: Sequence[SubjectOutput]) -> Iterator[tuple[str, str, str | None, str]]:
    """(task, item, subject, text): what was asked, the right label, then the answers in the subjects' order."""
    for task in dict.fromkeys(task for output in subjects for task in output.texts):
        texts_by_subject = [(subject.subject, subject.texts[task]) for subject in subjects if task in subject.texts]
        prompts = {item: text for _, texts in reversed(texts_by_subject) for item, text in texts.prompts.items()}
        gold = {item: text for _, texts in reversed(texts_by_subject) for item, text in texts.gold.items()}
        sides: list[tuple[str | None, Mapping[str, str]]] = [(None, prompts), (GOLD, gold)]
        sides += [(subject, texts.answers) for subject, texts in texts_by_subject]
        for item in dict.fromkeys(item for _, side in sides for item in side):
            for subject, side in sides:
                if item in side:
                    yield task, item, subject, storable(side[item], LONGEST)


def read_items(file: Path, task: str, subject: str) -> list[ItemScore]:
    """One subject's items of one task, as they were measured.

    Raises:
        UserError: a file that is no whole table of items.
    """
    columns = ("subject", "task", "metric", "item", "value", "group", "weight", "slices")
    rows = read_results(file, columns, where=[("task", "=", task), ("subject", "=", subject)])
    return [
        ItemScore(
            row["item"], row["metric"], row["value"], row["group"], orjson.loads(row["slices"]), row["weight"]
        )
        for row in rows
    ]  # fmt: skip
