"""How does a model do on any task of lm-evaluation-harness? Our loaded model, its tasks, prompts and metrics.

The task's own prompts, few-shot choice, answer filters and metrics are lm-eval's (Gao et al., "A framework for few-shot
language model evaluation", 10.5281/zenodo.12608602), through its Python API. The model is ours (`PyriteLM`): lm-eval's
model classes, its answer cache and its request cache are not used. Each document's value of a metric becomes a
`ItemScore`, so that intervals and paired comparisons are ours.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.probe.harness_protocols import Scorer, Writer
from pyrite.probe.harness_results import HarnessResult, Number, convert_results

__all__ = ["HarnessResult", "HarnessSettings", "Number", "Scorer", "Writer", "language_model", "run"]

RANDOM_SEED, NUMPY_SEED, TORCH_SEED = 0, 1234, 1234
"""lm-eval's own defaults, so that its published numbers can be compared with."""
NOTES_KEPT, NOTE_LENGTH = 20, 300
ASKED_FOR = ("Overwriting default num_fewshot", "generation_kwargs: ")
"""How lm-eval's warnings begin that only repeat what the user set."""


class HarnessSettings(ConfigBase):
    """How a task is run. What is not set is as the task's YAML says."""

    num_fewshot: int | None = Field(None, ge=0, description="examples shown in each prompt; by default the task's")
    items: int | None = Field(None, ge=1, description="only the first so many documents of each subtask")
    data: Path | None = Field(None, description="folder in which the data sets are, instead of the hub")
    tasks_folder: Path | None = Field(None, description="folder with task YAMLs of your own")
    chat: bool = Field(False, description="put prompts into the model's chat template")
    system: str | None = Field(None, description="system message of every prompt")
    max_gen_toks: int | None = Field(None, ge=1, description="answers end after so many tokens; by default the task's")
    run_code: bool = Field(False, description="allow tasks that run code: the model's, the hub's or a folder's")
    fewshot_seed: int = Field(1234, ge=0, description="seed of the choice of examples")


def language_model(
    tokenizer: Any, scorer: Scorer, writer: Writer, *, max_length: int, max_gen_toks: int = 256, name: str = "pyrite"
) -> Any:
    """A `PyriteLM`: our model as lm-eval asks it. `max_length` is the number of tokens that the model reads.

    Raises:
        UserError: lm-eval is not installed.
    """
    with quiet([]):
        need_lm_eval()
        from pyrite.probe.harness_model import PyriteLM
    return PyriteLM(tokenizer, scorer, writer, max_length=max_length, max_gen_toks=max_gen_toks, name=name)


def run(task: str, lm: Any, settings: HarnessSettings | None = None) -> HarnessResult:
    """Run one lm-eval task, group or tag with `lm`, as `language_model` makes it.

    With `items`, the first documents of each subtask are used, in file order, as lm-eval's own `limit` does.

    Raises:
        UserError: lm-eval is not installed, no such task, it runs code and that was not allowed, its data cannot be
            had, or the model cannot do what it asks.
    """
    settings = settings or HarnessSettings()
    notes: list[str] = []
    with quiet(notes):
        need_lm_eval()
        from lm_eval.evaluator import simple_evaluate  # type: ignore[import-untyped]

        from pyrite.probe import harness_tasks

        manager, task_leaves = harness_tasks.find_tasks(task, settings.tasks_folder)
        harness_tasks.refuse_code(manager, task_leaves, settings.run_code)
        if settings.run_code:
            os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # what the `evaluate` library asks for
        with harness_tasks.data_redirected(manager, task_leaves, settings.data, settings.num_fewshot):
            loaded = harness_tasks.build(manager, task, task_leaves, settings.data)
        lm.cut, lm.system_left_out = 0, 0
        results = simple_evaluate(
            model=lm,
            tasks=[loaded["groups"][task]] if task in loaded["groups"] else list(loaded["tasks"].values()),
            num_fewshot=settings.num_fewshot,
            use_cache=None,
            cache_requests=False,
            limit=settings.items,
            bootstrap_iters=0,
            log_samples=True,
            system_instruction=settings.system,
            apply_chat_template=settings.chat,
            gen_kwargs={"max_gen_toks": settings.max_gen_toks} if settings.max_gen_toks else None,
            task_manager=manager,
            random_seed=RANDOM_SEED,
            numpy_random_seed=NUMPY_SEED,
            torch_random_seed=TORCH_SEED,
            fewshot_random_seed=settings.fewshot_seed,
            confirm_run_unsafe_code=settings.run_code,
        )
    if lm.system_left_out:
        notes.append(f"the chat template takes no system message; it was left out of {lm.system_left_out} prompts")
    result = convert_results(task, results, loaded, cut=lm.cut, notes=notes)
    fixed = [name for name, shots in result.shots.items() if settings.num_fewshot not in (None, shots)]
    if fixed:
        note = f"{len(fixed)} of {len(result.shots)} subtasks fix the number of examples ({fixed[0]}: {result.shots[fixed[0]]})"
        result = dataclasses.replace(result, notes=(*result.notes, note))
    return result


def need_lm_eval() -> None:
    """Is lm-eval there?"""
    try:
        import lm_eval  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise UserError("lm-evaluation-harness is not installed.", str(error), "pip install 'pyrite[eval]'") from error


class _Notes(logging.Handler):
    """Keeps warnings as text, each once, cut to a line's length; says how many more there were."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.notes, self.more = notes, 0

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())[:NOTE_LENGTH]
        if text in self.notes or text.startswith(ASKED_FOR):
            return
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(text)
        else:
            self.more += 1


@contextlib.contextmanager
def quiet(notes: list[str]) -> Iterator[None]:
    """Within the block lm-eval prints nothing to stdout and shows no bars; its warnings go to `notes`."""
    logger, handler = logging.getLogger("lm_eval"), _Notes(notes)
    level, propagate = logger.level, logger.propagate
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as restore:
        restore.callback(logger.removeHandler, handler)
        restore.callback(logger.setLevel, level)
        restore.callback(setattr, logger, "propagate", propagate)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        with contextlib.suppress(ImportError):
            without_bars(restore)
        yield
    if handler.more:
        notes.append(f"and {handler.more} more warnings of lm-eval")


def without_bars(restore: contextlib.ExitStack) -> None:
    """Switch off the bars that lm-eval and datasets would show, until `restore` is closed."""
    import datasets
    import lm_eval.api.task as tasks  # type: ignore[import-untyped]

    restore.callback(setattr, tasks, "tqdm", tasks.tqdm)
    tasks.tqdm = functools.partial(tasks.tqdm, disable=True)
    if not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
        restore.callback(datasets.enable_progress_bars)
