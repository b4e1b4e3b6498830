"""Do blind spots open while a model is trained? A callback for the `transformers` Trainer, and every trainer built on it.

    trainer.add_callback(ProbeCallback(trainer, task=("heuristics=300", "nli=dev.jsonl"), every_steps=200))

asks the model in memory before the first step, then every so many steps (or after each evaluation or epoch), and at the
last step; and logs `probe/TASK/METRIC[/SLICE]` through `trainer.log`, which is where the user's own tracker listens. The
training is the same with and without it, bit by bit: `untouched` says what is put back.
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from transformers import TrainerCallback

from pyrite.errors import UserError
from pyrite.probe import gate as gating
from pyrite.probe.asked import LabelTask, Result, ask
from pyrite.probe.config import ProbeConfig
from pyrite.probe.in_memory import NAME, ask_now, check_task, held, same_chances, untouched
from pyrite.probe.run import Scorecard, answer, early, interval, scorecard
from pyrite.steps import Progress, RunOptions, Store, default_store, run_steps

if TYPE_CHECKING:
    import polars as pl

When = Literal["steps", "evaluate", "epoch"]
OPTIONS = (
    *("items", "skip", "seed", "columns", "label_map", "on_bad_row", "labels", "max_tokens", "max_new_tokens"),
    *("temperature", "part", "gate", "undecided", "store"),
)
"""Options of `pyrite probe` that mean here what they mean there."""

logger = logging.getLogger(__name__)


class ProbeCallback(TrainerCallback):  # type: ignore[misc]
    """Probes the model that a Trainer trains, and logs what it finds.

    `task`: as `pyrite probe --task` takes them: tasks of labels, `perplexity=FILE`, `ifeval=FILE`, `gsm8k=FILE`.
    `when`: every `every_steps` steps, after each evaluation of the trainer, or after each epoch; always also before
    the first step and at the last. `slices`: the columns whose values are logged apart (all are in `history`).
    `gate`: conditions; those on a `change` are against the model before the first step. They are asked after each later
    probe, and with `stop` a failed one ends the training. `on_error`: whether a probe that fails ends the training, or is
    a warning and an entry in `history`. `tokenizer`: where the trainer has none. `options`: see `OPTIONS`.

    `history` holds one entry for each time: step, epoch, moment, scorecards with every interval, gates, seconds.

    The model is read in evaluation mode, with its weights as they are and under bf16 autocast where the training uses
    it. In distributed training the main process asks while the others wait, for as long as the process group's
    timeout lets them, and every process logs the same.

    Raises:
        UserError: at once, a task or gate that cannot be asked of this model, or a model in shards.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        task: str | Sequence[str],
        when: When = "steps",
        every_steps: int = 200,
        slices: Sequence[str] = ("gold", "heuristic"),
        stop: bool = False,
        on_error: Literal["raise", "warn"] = "raise",
        tokenizer: Any = None,
        **options: Any,
    ) -> None:
        check_choices(when, every_steps, on_error)
        self.trainer, self.when, self.every_steps = trainer, when, every_steps
        self.slices, self.stop, self.on_error = frozenset(slices), stop, on_error
        self.history: list[dict[str, Any]] = []
        self.config = config_of((task,) if isinstance(task, str) else tuple(task), options)
        self.store = Store(self.config.store or default_store())
        self.asked = [ask(text, self.config) for text in self.config.task]
        names = [one.name for one in self.asked]
        if len(set(names)) < len(names):
            raise UserError("A task is asked twice.", ", ".join(names), "give each task once")
        self.gates = [gating.parse(text, names) for text in self.config.gate]
        for gate in self.gates:
            early(gate, self.asked, two_models=True)
        self._tokenizer = tokenizer
        self._start: dict[str, Result] | None = None
        self._last: int | None = None
        self._ready = False
        if getattr(trainer, "model", None) is not None:
            self._prepare()

    def _prepare(self) -> None:
        """Everything that can be refused before training is refused here; the items are made once."""
        check_whole(self.trainer)
        with held(self.trainer, self._tokenizer) as model:
            for one in self.asked:
                check_task(one, model)
        if self.trainer.is_world_process_zero():
            items = [one.items for one in self.asked if isinstance(one, LabelTask)]
            with same_chances():
                run_steps(items, self.store, RunOptions(), Progress(quiet=True))
        self._ready = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask before the first step."""
        if not self._ready:
            self._prepare()
        self._start = None
        self._probe("start", state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask every so many steps, and at the last."""
        if control.should_training_stop or (self.when == "steps" and state.global_step % self.every_steps == 0):
            self._probe("end" if control.should_training_stop else "step", state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask after an evaluation."""
        if self.when == "evaluate":
            self._probe("evaluate", state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask after an epoch, and where the training ends before its last step."""
        if control.should_training_stop or self.when == "epoch":
            self._probe("end" if control.should_training_stop else "epoch", state, control)

    def _probe(self, moment: str, state: Any, control: Any) -> None:
        """Ask, log, and stop the training where a gate says so; once at each step."""
        if self._last == state.global_step and moment != "start":
            return
        self._last = state.global_step
        told = {"step": state.global_step, "epoch": state.epoch, "moment": moment} | self._everywhere(moment)
        self.history.append(told)
        if told.get("error"):
            logger.warning("the probe at step %s failed: %s", told["step"], told["error"])
            return
        should_log = control.should_log  # logging takes this mark away, and the trainer's own line with it
        self.trainer.log(logged(told, self.slices))
        control.should_log = should_log
        failed = [one for one in told["gates"] if one["outcome"] == "failed"]
        for one in failed:
            logger.warning("gate failed at step %s: %s: %s", told["step"], one["gate"], one["why"])
        if self.stop and told["exit_code"] == 1:
            control.should_training_stop = True

    def _everywhere(self, moment: str) -> dict[str, Any]:
        """What the main process finds, in every process; so is its failure, lest the others wait for ever."""
        told: dict[str, Any] = {}
        failure: Exception | None = None
        if self.trainer.is_world_process_zero():
            try:
                told = self._measure(moment)
            except Exception as error:
                failure = error
                told = {"error": f"{type(error).__name__}: {error}"}
        if self.trainer.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            (told,) = broadcast_object_list([told], from_process=0)
        if "error" in told and self.on_error == "raise":
            raise failure or RuntimeError(f"The probe failed in the main process: {told['error']}")
        return told

    def _measure(self, moment: str) -> dict[str, Any]:
        """Every task's scorecard and every gate, with the training left as it was."""
        began = time.monotonic()
        with untouched(self.trainer.model), held(self.trainer, self._tokenizer) as model:
            found = {one.name: ask_now(one, model, self.store) for one in self.asked}
        cards = [scorecard(NAME, one, found[one.name], self.config.seed) for one in self.asked]
        results = [found if self._start is None else self._start, found]
        told = [answer(gate, results, self.config.seed) for gate in self.gates]
        if moment == "start":  # asked all the same: a slice that no item has is found before anything is trained
            self._start, told = found, []
        elif self._start is None:
            told = [one for one in told if not one.gate.change]
        return {
            "scorecards": [told_of(card) for card in cards],
            "gates": [one.as_json() for one in told],
            "exit_code": gating.verdict(told, self.config.undecided),
            "seconds": time.monotonic() - began,
        }

    def table(self) -> "pl.DataFrame":
        """Every line of every scorecard: step, epoch, moment, task, metric, slice, value, interval, counts."""
        import polars as pl

        lines = [
            {
                **{name: one[name] for name in ("step", "epoch", "moment")},
                "task": card["task"],
                **{name: value for name, value in line.items() if name != "values"},
            }
            for one in self.history
            for card in one.get("scorecards", ())
            for line in card["lines"]
        ]
        return pl.DataFrame(lines, infer_schema_length=None)


def check_choices(when: str, every_steps: int, on_error: str) -> None:
    """Refuse what is none of the choices."""
    if when not in ("steps", "evaluate", "epoch"):
        raise UserError("When is the model to be asked?", f"when={when!r}", "one of: steps, evaluate, epoch")
    if on_error not in ("raise", "warn"):
        raise UserError("What becomes of a failed probe?", f"on_error={on_error!r}", "one of: raise, warn")
    if every_steps < 1:
        raise UserError("A probe comes every 1 or more steps.", f"every_steps={every_steps}", "give a number above 0")


def config_of(tasks: tuple[str, ...], options: Mapping[str, Any]) -> ProbeConfig:
    """The options as `pyrite probe` has them."""
    strange = [name for name in options if name not in OPTIONS]
    if strange:
        raise UserError("The callback has no such option.", ", ".join(strange), f"it has: {', '.join(OPTIONS)}")
    plain = {name: (value,) if name == "gate" and isinstance(value, str) else value for name, value in options.items()}
    try:
        return ProbeConfig(task=tasks, precision="fp32", **plain)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError("An option of the callback does not fit.", found, "see pyrite probe --help") from None


def check_whole(trainer: Any) -> None:
    """Refuse a model of which one process has a part only: asking it from one process would wait for ever."""
    parallel = getattr(trainer.accelerator, "parallelism_config", None)
    sharded = {
        "FSDP": getattr(trainer, "is_fsdp_enabled", False),
        "DeepSpeed": getattr(trainer, "is_deepspeed_enabled", False),
        "layers on several devices": getattr(trainer, "is_model_parallel", False),
        "a parallelism_config": parallel is not None and parallel.total_size > 1,
    }
    found = [name for name, is_so in sharded.items() if is_so]
    if found:
        fix = "probe the checkpoints instead (pyrite probe FOLDER), or train with DDP or on one device"
        raise UserError("The callback asks models that are whole in one process.", ", ".join(found), fix)


def told_of(card: Scorecard) -> dict[str, Any]:
    """A scorecard as plain values, a line for each metric and slice; `values` are the slice's columns."""
    lines = [
        {"metric": line.metric, "by": line.by, "name": line.name, "values": dict(line.values), **interval(line)}
        for line in card.lines
    ]
    return {"task": card.task, "source": card.source, "notes": list(card.result.notes), "lines": lines}


def logged(told: Mapping[str, Any], slices: frozenset[str]) -> dict[str, float]:
    """What goes to the tracker: the value and both ends of the interval of each line whose columns are in `slices`.

    A line without a value, or an end without a number, is left out: nothing is filled in. Trackers differ in what a name
    may hold, so other characters become `_`, and a name that is taken is told apart by its columns.
    """
    made: dict[str, float] = {}
    for card in told["scorecards"]:
        for line in card["lines"]:
            if line["value"] is None or not set(line["values"]) <= slices:
                continue
            parts = ["probe", card["task"], line["metric"], *line["values"].values()]
            key = "/".join(re.sub(r"[^\w.\- ]", "_", part) for part in parts)
            key = key if key not in made else f"{key}.{re.sub(r'[^A-Za-z0-9_.-]', '_', line['by'])}"
            made[key] = line["value"]
            made |= {f"{key}_{end}": line[end] for end in ("low", "high") if line[end] is not None}
    if told["gates"]:
        for outcome in ("failed", "undecided"):
            made[f"probe/gates_{outcome}"] = sum(one["outcome"] == outcome for one in told["gates"])
    return made | {"probe/seconds": told["seconds"]}
