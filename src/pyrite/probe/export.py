"""How do others run our blind-spot tasks? As tasks of lm-evaluation-harness: YAML and data, no code of ours.

    lm-eval run --model hf --model_args pretrained=MODEL --include_path FOLDER --tasks NAME

What is written: `NAME.yaml` (a group), one YAML for each slice, `_NAME_shared` (what the slices have in common), and
`NAME_data/`, a data set of its own (README.md with its configurations, one parquet file for each slice: the loader of
JSON lines would turn text that looks like a date into another text).

The harness asks for the summed log-probability of " LABEL" after each prompt and takes the most probable label: `acc` is
our accuracy. Prompts are columns of the data, and a task's `doc_to_text` is the column's name, so that text with braces
is never taken for a template. A merging of labels (HANS: neutral and contradiction are non-entailment) is a column of
accepted label numbers. Few-shot prompts cannot be had: the harness shows text answers only, so it is fixed to none.

`_NAME_shared` holds the data's absolute path, once: the harness looks for relative ones where it is started.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pyrite.errors import UserError
from pyrite.io.write import atomic_write, write_parquet
from pyrite.probe.batch_steps import write_requests
from pyrite.probe.config import ProbeConfig
from pyrite.probe.generative import GenerativeProbe
from pyrite.probe.labels import LabelTask
from pyrite.probe.parse_task import parse_task
from pyrite.records import Labelled
from pyrite.steps import Progress, RunOptions, open_store, run_steps
from pyrite.tasks import TASKS
from pyrite.tasks.prompts import classify
from pyrite.tasks.rows import read_rows
from pyrite.tasks.scoring import Task, right, slice_names

Prompt = Callable[[Mapping[str, str], Sequence[str]], str]
Cell = tuple[str, ...]
VERSION = 1
ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


def export(
    items: Sequence[Labelled],
    task: Task,
    folder: Path,
    *,
    prompt: Prompt = classify,
    labels: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    name: str | None = None,
) -> Path:
    """Write a task of ours for lm-evaluation-harness; returns the path of its group's YAML, whose stem is its name.

    Args:
        items: what is asked; every one needs a gold label.
        task: how an answer is scored.
        folder: for `--include_path`; made where it is missing.
        prompt: the text before the answer, from an item's fields and the labels.
        labels: label words, in the order in which ties fall; by default those that `pyrite probe` asks for.
        by: columns of meta (or `gold`) that the score is broken down by, from the outside in: a group for each value of
            the first, within it one for each value of the second, ...; by default the task's first slice of the most
            columns, its template left out. Empty: one task, no group.
        name: the task's name there; by default `pyrite_` and its name.

    A second metric (NLI's two-way accuracy) is not part of it: export a task with that merging under another name.

    Raises:
        UserError: no items, a gold label that no label word can reach, a name that the harness cannot take, or a prompt
            that ends in white space (the harness would move it into the answer).
    """
    name = name or f"pyrite_{name_part(task.name)}"
    if name_part(name) != name:
        raise UserError("That is no name for a harness task.", name, f"letters, digits, _ . and -: {name_part(name)}")
    if not items:
        raise UserError("There is nothing to export.", f"task {task.name} has no items", "check the task's file")
    words = list(labels or (TASKS["nli"].labels if task.name == "hans" else task.labels))
    columns = list(breakdown(task) if by is None else by)
    cells: dict[Cell, list[dict[str, Any]]] = {}
    for item in items:
        cells.setdefault(slice_names(item, columns), []).append(export_row(item, task, words, prompt))
    names = cell_names(name, list(cells))
    write_data(folder / f"{name}_data", {names[cell]: rows for cell, rows in cells.items()})
    write_yaml(folder / f"_{name}_shared", shared(folder / f"{name}_data", words))
    for cell in cells:
        settings = {"include": f"_{name}_shared", "task": names[cell], "dataset_name": names[cell]}
        write_yaml(folder / f"{names[cell]}.yaml", settings)
    for outer, inner in groups(list(cells)).items():
        listed = [names[cell] for cell in inner]
        rule = {"metric": "acc", "weight_by_size": True, "filter_list": ["none"]}
        about = {
            "group": names[outer],
            "task": listed,
            "aggregate_metric_list": [rule],
            "metadata": {"version": VERSION},
        }
        write_yaml(folder / f"{names[outer]}.yaml", about)
    return folder / f"{name}.yaml"


def name_part(text: str) -> str:
    """Text as part of a name: what is no letter, digit, dot or dash becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def breakdown(task: Task) -> Sequence[str]:
    """The columns by which a task is broken down where nothing is said: its first slice of the most columns."""
    uneven = [columns for columns in task.slices if task.template not in columns]
    return max(uneven, key=len, default=())


def export_row(item: Labelled, task: Task, words: Sequence[str], prompt: Prompt) -> dict[str, Any]:
    """An item as a row: its prompt, and the numbers of the label words that are right."""
    accepted = [at for at, word in enumerate(words) if item.label is not None and right(item, word, task)]
    if not accepted:
        fix = f"the label words are {', '.join(words)}; name others with labels, or merge them in the task"
        raise UserError("No label word is right for an item.", f"item {item.id}: gold '{item.label}'", fix)
    text = prompt(item.fields, words)
    if not text or text != text.rstrip():
        detail = f"item {item.id}: ...{text[-30:]!r}"
        raise UserError("A prompt must end in a word: a blank goes before the label.", detail, "strip the prompt's end")
    return {"id": item.id, "prompt": text, "gold": item.label, "accepted": accepted}


def cell_names(name: str, cells: Sequence[Cell]) -> dict[Cell, str]:
    """A name for each cell and each group above it; values that look alike as names get numbers."""
    names: dict[Cell, str] = {(): name}
    for cell in cells:
        for depth in range(1, len(cell) + 1):
            part = cell[:depth]
            if part not in names:
                base_name = f"{names[part[:-1]]}__{name_part(part[-1])}"
                same = sum(name == base_name or name.startswith(f"{base_name}~") for name in names.values())
                names[part] = f"{base_name}~{same + 1}" if same else base_name
    return names


def groups(cells: Sequence[Cell]) -> dict[Cell, list[Cell]]:
    """The groups above the cells, and what is directly in each, in order of first appearance."""
    children: dict[Cell, list[Cell]] = {}
    for cell in cells:
        for depth in range(len(cell)):
            inner = children.setdefault(cell[:depth], [])
            if cell[: depth + 1] not in inner:
                inner.append(cell[: depth + 1])
    return children


def shared(data: Path, words: Sequence[str]) -> dict[str, Any]:
    """What the tasks of all slices have in common."""
    return {
        "dataset_path": str(data.resolve()),
        "output_type": "multiple_choice",
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "doc_to_target": "accepted",
        "doc_to_choice": list(words),
        "target_delimiter": " ",
        "metric_list": [ACC],
        "metadata": {"version": VERSION},
    }


def write_data(folder: Path, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """One file of rows for each configuration, and the README.md that tells the loader which is which."""
    for name, rows in parts.items():
        write_parquet(rows, folder / f"{name}.parquet")
    head = [{"config_name": name, "data_files": [{"split": "test", "path": f"{name}.parquet"}]} for name in parts]
    with atomic_write(folder / "README.md") as path:
        path.write_text(f"---\n{dump({'configs': head})}---\n", encoding="utf-8")


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as YAML, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(dump(content), encoding="utf-8")


def dump(content: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its own order."""
    return str(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=1000))


@dataclass(frozen=True)
class Exported:
    """What was written: the YAMLs of tasks of labels, the batch files of tasks of written answers."""

    files: Sequence[Path]
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"schema_version": 1, "exported": [str(file) for file in self.files]}


def export_tasks(config: ProbeConfig) -> list[Path]:
    """Write the tasks into `config.export`: those of labels for lm-evaluation-harness (their YAMLs), those of written answers
    as OpenAI batch files.

    Raises:
        UserError: a task of another kind, a batch file for no model, or a file that cannot be read.
    """

    assert config.export is not None
    tasks = [parse_task(text, config) for text in config.task]
    store = open_store(config.store)
    written = []
    for task in tasks:
        if isinstance(task, GenerativeProbe):
            written.append(export_requests(task, config))
            continue
        if not isinstance(task, LabelTask):
            fix = "a task of labels (hans, nli, heuristics, a YAML) or of written answers (ifeval, gsm8k)"
            raise UserError("This task cannot be exported.", task.name, fix)
        run_steps([task.items], store, RunOptions(), Progress(quiet=config.quiet))
        items = read_rows(store.path(task.items.key) / "items.jsonl")
        written.append(
            export(items, task.task, config.export, labels=config.labels or None, name=f"pyrite_{task.name}")
        )
    return written


def export_requests(task: GenerativeProbe, config: ProbeConfig) -> Path:
    """Write the requests of a task of written answers as an OpenAI batch file.

    Raises:
        UserError: no model is named; each request names one.
    """
    assert config.export is not None
    if config.model is None:
        fix = "the name under which it is served: pyrite probe MODEL --task … --export FOLDER; vllm run-batch --model MODEL"
        raise UserError("A batch file is for a model.", f"{task.name}, and no MODEL", fix)
    return write_requests(task.batch_config, Path(task.source), config.model, config.export, config.predictions)
