"""Do blind spots open while a model is trained? A callback for the `transformers` Trainer, and every trainer built on it.

    trainer.add_callback(ProbeCallback(trainer, task=("heuristics=300", "nli=dev.jsonl"), every_steps=200))

asks the model in memory before the first step, then every so many steps (or after each evaluation or epoch), and at the
last step; and logs `probe/TASK/METRIC[/SLICE]` through `trainer.log`, which is where the user's own tracker listens. The
training is the same with and without it, bit by bit: `untouched` says what is put back.
"""

import logging
import math
import re
import time
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field
from transformers import TrainerCallback

from pyrite.conditions import GateOutcome, exit_code
from pyrite.config_base import CallConfig
from pyrite.errors import UserError
from pyrite.probe import gate as gating
from pyrite.probe.config import ProbeConfig
from pyrite.probe.gate import answer_gate, refuse_early
from pyrite.probe.in_memory import NAME, check_task, key_of, model_in_memory, probe_now, same_chances, untouched
from pyrite.probe.labels import LabelTask
from pyrite.probe.parse_task import parse_task
from pyrite.probe.probe_task import Result
from pyrite.probe.result import Scorecard, estimate_record, scorecard
from pyrite.records import Estimate
from pyrite.steps import Progress, RunOptions, open_store, run_steps
from pyrite.tasks.scoring import ItemScore

if TYPE_CHECKING:
    import polars as pl

OPTIONS = (
    *("items", "skip", "seed", "columns", "label_map", "on_bad_row", "labels", "max_tokens", "max_new_tokens"),
    *("temperature", "part", "gate", "undecided", "store"),
)
"""Options of `pyrite probe` that mean here what they mean there."""
KEPT = "pyrite.probe"
"""Where a checkpoint's trainer state keeps what was measured before the first step, beside the states of callbacks."""

logger = logging.getLogger(__name__)


class CallbackOptions(CallConfig):
    """When the model is asked, what is logged, and what follows."""

    when: Literal["steps", "evaluate", "epoch"] = Field("steps", description="after what the model is asked")
    every_steps: int = Field(200, ge=1, description="with when=steps: after every so many steps")
    slices: tuple[str, ...] = Field(("gold", "heuristic"), description="columns whose values are logged apart")
    stop: bool = Field(False, description="a failed gate ends the training")
    on_error: Literal["raise", "warn"] = Field("raise", description="whether a probe that fails ends the training")


class ProbeCallback(TrainerCallback):  # type: ignore[misc]
    """Probes the model that a Trainer trains, and logs what it finds.

    `task`: as `pyrite probe --task` takes them: tasks of labels, `perplexity=FILE`, `ifeval=FILE`, `gsm8k=FILE`.
    `when`: every `every_steps` steps, after each evaluation of the trainer, or after each epoch; always also before
    the first step and at the last. `slices`: the columns whose values are logged apart (all are in `history`).
    `gate`: conditions; those on a `change` are against the model before the first step. They are asked after each later
    probe, and with `stop` a failed one ends the training. `on_error`: whether a probe that fails ends the training, or is
    a warning and an entry in `history`. `tokenizer`: where the trainer has none. `options`: see `CallbackOptions` and
    `OPTIONS`.

    `history` holds one entry for each time: step, epoch, moment, scorecards with every interval, gates, seconds.

    A training that is resumed from a checkpoint is not asked again at the checkpoint's step. What gates on a change are
    measured from lies in the checkpoint's trainer_state.json; where it does not (another task, other items, no such gate
    when it was saved), those gates are undecided. `history` then begins after the checkpoint, or, in the callback that
    was there before it, goes on.

    The model is read in evaluation mode, with its weights as they are and under bf16 autocast where the training uses
    it. In distributed training the main process asks while the others wait, for as long as the process group's
    timeout lets them, and every process logs the same.

    Raises:
        UserError: at once, a task or gate that cannot be asked of this model, or a model in shards.
    """

    def __init__(self, trainer: Any, *, task: str | Sequence[str], tokenizer: Any = None, **options: Any) -> None:
        settings = {name: options.pop(name) for name in CallbackOptions.model_fields if name in options}
        self.trainer, self.options = trainer, CallbackOptions(**settings)
        self.history: list[dict[str, Any]] = []
        self.config = config_of((task,) if isinstance(task, str) else tuple(task), options)
        self.store = open_store(self.config.store)
        self.tasks = [parse_task(text, self.config) for text in self.config.task]
        names = [probe_task.name for probe_task in self.tasks]
        if len(set(names)) < len(names):
            raise UserError("A task is asked twice.", ", ".join(names), "give each task once")
        self.gates = [gating.parse(text, names) for text in self.config.gate]
        for gate in self.gates:
            refuse_early(gate, self.tasks, two_models=True)
        self._tokenizer = tokenizer
        self._start: dict[str, list[ItemScore]] = {}
        self._no_start = ""
        self._last: int | None = None
        self._ready = False
        if getattr(trainer, "model", None) is not None:
            self._prepare()

    def _prepare(self) -> None:
        """Everything that can be refused before training is refused here; the items are made once."""
        check_whole(self.trainer)
        with model_in_memory(self.trainer, self._tokenizer) as model:
            for probe_task in self.tasks:
                check_task(probe_task, model)
        if self.trainer.is_world_process_zero():
            items = [probe_task.items for probe_task in self.tasks if isinstance(probe_task, LabelTask)]
            with same_chances():
                run_steps(items, self.store, RunOptions(), Progress(quiet=True))
        self._ready = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask before the first step; from a checkpoint on, take up what it holds of that moment."""
        if not self._ready:
            self._prepare()
        self._start, self._no_start = {}, "the model before the first step was not measured"
        if state.global_step == 0:
            self.history = []
            self._probe("start", state, control)
            self._keep(state.stateful_callbacks)
            return
        self._last = state.global_step
        self.history = [record for record in self.history if record["step"] <= state.global_step]
        self._no_start = "the checkpoint does not hold what the model before the first step got"
        self._take_up(state.stateful_callbacks)

    def _keep(self, states: MutableMapping[str, Any]) -> None:
        """Put the start's values, of tasks with a gate on a change, where checkpoints keep the states of callbacks."""
        tasks = [gate.task for gate in self.gates if gate.change and gate.task in self._start]
        if tasks:
            start_values = {
                key: orjson.dumps(self._start[task]).decode() for task, key in self._keys().items() if task in tasks
            }
            states[KEPT] = {**states.get(KEPT, {}), **start_values}

    def _take_up(self, states: Mapping[str, Any]) -> None:
        """The start's values out of a checkpoint: of the same tasks on the same items."""
        start_values = states.get(KEPT, {})
        starts = {task: start_values[key] for task, key in self._keys().items() if key in start_values}
        self._start = {task: [ItemScore(**item) for item in orjson.loads(text)] for task, text in starts.items()}

    def _keys(self) -> dict[str, str]:
        """What each task asks, as a hash that is the same in every process and on every machine of the same kind."""
        with model_in_memory(self.trainer, self._tokenizer) as model:
            return {probe_task.name: key_of(probe_task, model) for probe_task in self.tasks}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask every so many steps, and at the last."""
        if control.should_training_stop or (
            self.options.when == "steps" and state.global_step % self.options.every_steps == 0
        ):
            self._probe("end" if control.should_training_stop else "step", state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask after an evaluation."""
        if self.options.when == "evaluate":
            self._probe("evaluate", state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask after an epoch, and where the training ends before its last step."""
        if control.should_training_stop or self.options.when == "epoch":
            self._probe("end" if control.should_training_stop else "epoch", state, control)

    def _probe(self, moment: str, state: Any, control: Any) -> None:
        """Ask, log, and stop the training where a gate says so; once at each step."""
        if self._last == state.global_step and moment != "start":
            return
        self._last = state.global_step
        record = {"step": state.global_step, "epoch": state.epoch, "moment": moment} | self._everywhere(moment)
        self.history.append(record)
        if record.get("error"):
            logger.warning("the probe at step %s failed: %s", record["step"], record["error"])
            return
        should_log = control.should_log  # logging takes this mark away, and the trainer's own line with it
        self.trainer.log(logged(record, self.options.slices))
        control.should_log = should_log
        failed = [gate for gate in record["gates"] if gate["outcome"] == "failed"]
        for failed_gate in failed:
            logger.warning("gate failed at step %s: %s: %s", record["step"], failed_gate["gate"], failed_gate["why"])
        if self.options.stop and record["exit_code"] == 1:
            control.should_training_stop = True

    def _everywhere(self, moment: str) -> dict[str, Any]:
        """What the main process finds, in every process; so is its failure, lest the others wait for ever."""
        record: dict[str, Any] = {}
        failure: Exception | None = None
        if self.trainer.is_world_process_zero():
            try:
                record = self._measure(moment)
            except Exception as error:
                failure = error
                record = {"error": f"{type(error).__name__}: {error}"}
        if self.trainer.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            (record,) = broadcast_object_list([record], from_process=0)
        if "error" in record and self.options.on_error == "raise":
            raise failure or RuntimeError(f"The probe failed in the main process: {record['error']}")
        return record

    def _measure(self, moment: str) -> dict[str, Any]:
        """Every task's scorecard and every gate, with the training left as it was."""
        began = time.monotonic()
        with untouched(self.trainer.model), model_in_memory(self.trainer, self._tokenizer) as model:
            results = {probe_task.name: probe_now(probe_task, model, self.store) for probe_task in self.tasks}
        cards = [scorecard(NAME, probe_task, results[probe_task.name], self.config.seed) for probe_task in self.tasks]
        gate_results = [self._answer(gate, results) for gate in self.gates]
        if moment == "start":  # asked all the same: a slice that no item has is found before anything is trained
            self._start, gate_results = {name: list(result.measured) for name, result in results.items()}, []
        return {
            "scorecards": [scorecard_values(card) for card in cards],
            "gates": [result.as_json() for result in gate_results],
            "exit_code": exit_code([result.outcome for result in gate_results], self.config.undecided),
            "seconds": time.monotonic() - began,
        }

    def _answer(self, gate: gating.Gate, results: Mapping[str, Result]) -> GateOutcome:
        """Does a gate hold? One on a change that has nothing to be measured from is undecided."""
        has_start = gate.task in self._start
        before = replace(results[gate.task], measured=self._start[gate.task]) if has_start else results[gate.task]
        gate_result = answer_gate(gate, [{gate.task: before}, dict(results)], self.config.seed)
        if has_start or not gate.change:
            return gate_result
        estimate = gate_result.estimate or {}
        nothing = Estimate(math.nan, None, None, 0, estimate["n"], estimate["direction"], method=self._no_start)
        values = gating.estimate_values(nothing)
        return replace(gate_result, estimate=values, outcome="undecided", why=self._no_start)

    def table(self) -> "pl.DataFrame":
        """Every line of every scorecard: step, epoch, moment, task, metric, slice, value, interval, counts."""
        import polars as pl

        lines = [
            {
                **{name: record[name] for name in ("step", "epoch", "moment")},
                "task": card["task"],
                **{name: value for name, value in line.items() if name != "values"},
            }
            for record in self.history
            for card in record.get("scorecards", ())
            for line in card["lines"]
        ]
        return pl.DataFrame(lines, infer_schema_length=None)


def config_of(tasks: tuple[str, ...], options: Mapping[str, Any]) -> ProbeConfig:
    """The options as `pyrite probe` has them."""
    strange = [name for name in options if name not in OPTIONS]
    if strange:
        available = ", ".join([*CallbackOptions.model_fields, *OPTIONS])
        raise UserError("The callback has no such option.", ", ".join(strange), f"it has: {available}")
    plain = {name: (value,) if name == "gate" and isinstance(value, str) else value for name, value in options.items()}
    return ProbeConfig(**{"task": tasks, "precision": "fp32", **plain})


def check_whole(trainer: Any) -> None:
    """Refuse a model of which one process has a part only: asking it from one process would wait for ever."""
    parallel = getattr(trainer.accelerator, "parallelism_config", None)
    sharded = {
        "FSDP": getattr(trainer, "is_fsdp_enabled", False),
        "DeepSpeed": getattr(trainer, "is_deepspeed_enabled", False),
        "layers on several devices": getattr(trainer, "is_model_parallel", False),
        "a parallelism_config": parallel is not None and parallel.total_size > 1,
    }
    ways = [name for name, is_so in sharded.items() if is_so]
    if ways:
        fix = "probe the checkpoints instead (pyrite probe FOLDER), or train with DDP or on one device"
        raise UserError("The callback asks models that are whole in one process.", ", ".join(ways), fix)


def scorecard_values(card: Scorecard) -> dict[str, Any]:
    """A scorecard as plain values, a line for each metric and slice; `values` are the slice's columns."""
    lines = [
        {"metric": line.metric, "by": line.by, "name": line.name, "values": dict(line.values), **estimate_record(line)}
        for line in card.lines
    ]
    return {"task": card.task, "source": card.source, "notes": list(card.result.notes), "lines": lines}


def logged(record: Mapping[str, Any], slices: Collection[str]) -> dict[str, float]:
    """What goes to the tracker: the value and both ends of the interval of each line whose columns are in `slices`.

    A line without a value, or an end without a number, is left out: nothing is filled in. Trackers differ in what a name
    may hold, so other characters become `_`, and a name that is taken is told apart by its columns.
    """
    numbers: dict[str, float] = {}
    for card in record["scorecards"]:
        for line in card["lines"]:
            if line["value"] is None or not set(line["values"]) <= set(slices):
                continue
            parts = ["probe", card["task"], line["metric"], *line["values"].values()]
            key = "/".join(re.sub(r"[^\w.\- ]", "_", part) for part in parts)
            key = key if key not in numbers else f"{key}.{re.sub(r'[^A-Za-z0-9_.-]', '_', line['by'])}"
            numbers[key] = line["value"]
            numbers |= {f"{key}_{end}": line[end] for end in ("low", "high") if line[end] is not None}
    if record["gates"]:
        for outcome in ("failed", "undecided"):
            numbers[f"probe/gates_{outcome}"] = sum(gate["outcome"] == outcome for gate in record["gates"])
    return numbers | {"probe/seconds": record["seconds"]}
