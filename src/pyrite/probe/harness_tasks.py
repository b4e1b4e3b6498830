"""Which tasks does a name of lm-evaluation-harness stand for, what do they read, and may they run here?"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.probe.harness_data import how_to_lay_out, is_local, local_overrides, wants

RUN_CODE = "--harness-run-code"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A task that reads data, as its YAML says before any function of it is imported.

    `file` is its YAML; None where it is written inside a group's YAML, which cannot be pointed at other data.
    `python`: the task is a Python class, so that its YAML does not say what it reads.
    """

    name: str
    config: Mapping[str, Any]
    file: Path | None
    python: bool = False

    def shots(self, requested: int | None) -> int:
        """How many examples its prompts show; a task that fixes 0 shows none, whatever is asked for."""
        configured = self.config.get("num_fewshot")
        return int(configured or 0) if requested is None or configured == 0 else requested


@functools.cache
def library_tasks() -> Any:
    """The tasks that come with lm-eval (about 14,000 names; reading them takes some ten seconds)."""
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]

    return TaskManager()


def find_tasks(task: str, folder: Path | None) -> tuple[Any, list[Leaf]]:
    """The task manager that knows a task, and the tasks that its name stands for.

    A task of the user's own folder is looked up there alone where it needs no other; else among lm-eval's as well.

    Raises:
        UserError: no such folder, or no such task (with the nearest names).
    """
    from lm_eval.tasks import TaskManager

    if folder is not None and not folder.is_dir():
        raise UserError("That folder of tasks is not there.", str(folder), "give a folder with task YAMLs")
    if folder is not None:
        task_manager = TaskManager(include_path=str(folder), include_defaults=False)
        if task in task_manager.task_index:
            task_leaves = leaves(task_manager.task_index, task)
            if all(leaf.file is not None for leaf in task_leaves):
                return task_manager, task_leaves
        manager = TaskManager(include_path=str(folder))
    else:
        manager = library_tasks()
    if task not in manager.task_index:
        import difflib

        near = difflib.get_close_matches(task, manager.all_tasks, 3)
        fix = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
        raise UserError("lm-eval knows no such task.", task, fix)
    return manager, leaves(manager.task_index, task)


def leaves(index: Mapping[str, Any], name: str, over: Mapping[str, Any] | None = None) -> list[Leaf]:
    """The tasks below a name: itself, a tag's tasks, or a group's, with what groups override."""
    entry = index[name]
    kind, over = entry.kind.name, over or {}
    if kind == "TAG":
        return [leaf for below in sorted(entry.tags) for leaf in leaves(index, below, over)]
    if kind == "GROUP":
        structural = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
        over = {**{key: value for key, value in entry.cfg.items() if key not in structural}, **over}
        return members(index, entry.cfg.get("task"), over)
    config = {**(entry.cfg or {}), **over, "task": name}
    return [Leaf(name, config, entry.yaml_path, kind == "PY_TASK")]


def members(index: Mapping[str, Any], listed: Any, over: Mapping[str, Any]) -> list[Leaf]:
    """The tasks of a group's list: names, names with overrides, and tasks and groups written out in place."""
    task_leaves: list[Leaf] = []
    for item in [listed] if isinstance(listed, str) else listed or []:
        written = item if isinstance(item, Mapping) else {"task": item}
        name = written.get("group") or written.get("task")
        below = {**over, **{key: value for key, value in written.items() if key not in {"group", "task"}}}
        if isinstance(name, str) and name in index:
            task_leaves += leaves(index, name, below)
        elif "group" in written:
            task_leaves += members(index, written.get("task"), over)
        else:
            task_leaves.append(Leaf(str(name), {**below, "task": name}, None))
    return task_leaves


def refuse_code(manager: Any, task_leaves: Sequence[Leaf], run_code: bool) -> None:
    """Refuse tasks that would run code: the model's, the hub's, or Python named by a YAML that is not lm-eval's own.

    Raises:
        UserError: one of these, unless `run_code`.
    """
    if run_code:
        return
    for leaf in task_leaves:
        if leaf.config.get("unsafe_code"):
            what = "This task runs the code that the model writes."
            raise UserError(what, leaf.name, f"on a machine that it cannot harm, add {RUN_CODE}")
        hubs = [metric for metric in leaf.config.get("metric_list") or [] if fetched(metric, leaf.config)]
        if hubs:
            named = f"{leaf.name}: metric {hubs[0]['metric']}"
            raise UserError("This task's metric is code from the hub.", named, f"where you trust it, add {RUN_CODE}")
    import lm_eval  # type: ignore[import-untyped]

    library = Path(lm_eval.__file__).resolve().parent
    files = {entry.yaml_path.resolve() for entry in manager.task_index.values() if entry.yaml_path}
    for path in sorted(path for path in files if library not in path.parents):
        holder = function_in(path, set())
        if holder is not None:
            what = "A task of this folder runs Python code."
            raise UserError(what, f"{holder} holds !function", f"where you trust it, add {RUN_CODE}")


def fetched(metric: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Would lm-eval load this metric through the `evaluate` library, that is, run code from the hub?"""
    import lm_eval.api.metrics  # type: ignore[import-untyped]  # noqa: F401
    from lm_eval.api.registry import METRIC_REGISTRY  # type: ignore[import-untyped]

    name = str(metric.get("metric"))
    if config.get("process_results") is not None or Path(name).is_absolute():  # named by `!function`
        return False
    return metric.get("hf_evaluate") is True or name not in METRIC_REGISTRY


def function_in(path: Path, visited: set[Path]) -> Path | None:
    """The file that names a Python function: this YAML or one that it includes. Reads the marks, builds nothing."""
    import yaml  # type: ignore[import-untyped]

    if path.resolve() in visited:
        return None
    visited.add(path.resolve())
    try:
        root = yaml.compose(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, OSError):
        return None  # lm-eval cannot read it either, and says so
    waiting, functions = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in functions or not isinstance(node, yaml.Node):
            continue
        functions.add(id(node))
        if node.tag == "!function":
            return path
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                waiting += [key, value]
                if key.value == "include":
                    named = value.value if isinstance(value, yaml.SequenceNode) else [value]
                    below = [function_in(path.parent / str(each.value), visited) for each in named]
                    if any(below):
                        return next(filter(None, below))
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return None


@contextlib.contextmanager
def data_redirected(manager: Any, task_leaves: Sequence[Leaf], data: Path | None, shots: int | None) -> Iterator[None]:
    """Within the block, the tasks read their data from `data`.

    Raises:
        UserError: a task's data is not there, or the task cannot be pointed at a folder.
    """
    index = manager.task_index
    before = dict(index)
    try:
        if data is not None:
            sets = {(leaf.config.get("dataset_path"), leaf.config.get("dataset_name")) for leaf in task_leaves}
            for leaf in task_leaves:
                if not is_local(leaf.config):
                    index[leaf.name] = pointed(index[leaf.name], leaf, data, alone=len(sets) == 1, shots=shots)
        yield
    finally:
        index.clear()
        index.update(before)


def pointed(entry: Any, leaf: Leaf, data: Path, *, alone: bool, shots: int | None) -> Any:
    """A task's entry that reads its data from a folder."""
    import dataclasses

    from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-untyped]

    if leaf.python or leaf.file is None:
        fix = "run it with the hub, without --harness-data"
        raise UserError("This task cannot be pointed at a folder: it is not a YAML of its own.", leaf.name, fix)
    full = load_yaml(leaf.file)
    changes = local_overrides(data, {**full, **leaf.config}, alone=alone, shots=leaf.shots(shots))
    return dataclasses.replace(entry, yaml_path=None, cfg={**full, **changes})


def build(manager: Any, task: str, task_leaves: Sequence[Leaf], data: Path | None) -> dict[str, Any]:
    """lm-eval's task objects: `tasks` and `groups` by name. Reads the data.

    Raises:
        UserError: the data cannot be had or does not fit the task, or a Python package is lacking.
    """
    from jinja2.exceptions import UndefinedError

    wanted_data = "; ".join(
        [wants(leaf.config) for leaf in task_leaves[:3]] + [f"and {len(task_leaves) - 3} more"] * (len(task_leaves) > 3)
    )
    try:
        return dict(manager.load([task]))
    except ImportError as error:
        raise UserError("This task needs a package that is not installed.", f"{task}: {error}", "install it") from error
    except OSError as error:
        first = f"{wanted_data} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        raise UserError("This task's data cannot be had.", first, how_to_lay_out(task_leaves[0].config)) from error
    except (KeyError, ValueError, TypeError, UndefinedError) as error:
        if data is None:
            raise
        fix = "give the files the columns and splits that the task reads"
        raise UserError(
            "The data does not fit the task.", f"{wanted_data} ({type(error).__name__}: {error})", fix
        ) from error
