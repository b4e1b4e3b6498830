"""The task `harness:NAME`: any task of lm-evaluation-harness, asked through our engine, measured item by item."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.probe.config import ProbeConfig
from pyrite.probe.int8_check import UNCHECKED
from pyrite.probe.probe_task import ModelUnderTest, Result, model_folder, model_input, source
from pyrite.probe.texts import Texts
from pyrite.steps import PART_TOKENS, Context, Source, Step, StepType, Store, in_parts
from pyrite.tasks.scoring import ItemScore, Metric

if TYPE_CHECKING:
    from pyrite.models.work import ReportProgress

PREFIX = "harness:"
WRITTEN = 4
"""Texts are written in parts so many times as large as those that are read: the more at once, the fewer wait."""
MAX_LENGTH = 4096
"""Prompts are cut from the left to so many tokens, or to what the model reads if that is less."""


def benchmark_step(context: Context) -> None:
    """Step: a model on a harness task → `measured.jsonl` (items) and `harness.json` (the harness's own numbers)."""
    from pyrite.probe.harness import HarnessSettings, language_model, run

    load.quiet_libraries()
    config = context.config
    compute = Compute(**config["compute"])
    base = model_folder(context, PREFIX + config["task"])
    tokenizer = load.load_tokenizer(base)
    model, compute = load.for_generation(load.load_causal(base, compute), compute)
    settings = HarnessSettings(
        **config["settings"],
        data=context.inputs.get("data"),
        tasks_folder=context.inputs.get("tasks"),
    )
    with compute.autocast():
        lm = language_model(
            tokenizer,
            scorer(model, context, compute),
            writer(model, tokenizer, config["seed"], context, compute),
            max_length=tokens_read(MAX_LENGTH, model.config, tokenizer),
        )
        outcome = run(config["task"], lm, settings)
    with (context.out / "measured.jsonl").open("wb") as sink:
        for item in outcome.measured:
            sink.write(orjson.dumps(asdict(item), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
    record = {
        "metrics": [asdict(metric) for metric in outcome.metrics],
        "numbers": [asdict(number) for number in outcome.numbers],
        "shots": dict(outcome.shots),
        "versions": dict(outcome.versions),
        "cut": outcome.cut,
        "notes": [*outcome.notes, *([UNCHECKED] if compute.precision == "int8" else [])],
        "lm_eval": outcome.lm_eval,
    }
    (context.out / "harness.json").write_bytes(
        orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    )


def scorer(model: Any, context: Context, compute: Compute) -> Any:
    """Our engine as the harness asks for log-probabilities: continuations of one context share it."""
    from pyrite.models.continuations import continuations
    from pyrite.models.trees import ContinuationRequest

    def score(requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        groups: dict[tuple[int, ...], dict[tuple[int, ...], None]] = defaultdict(dict)
        for prefix, follows in requests:
            groups[tuple(prefix)][tuple(follows)] = None
        asks = [ContinuationRequest(prefix, tuple(next_tokens)) for prefix, next_tokens in groups.items()]

        def scores_of_part(part: list[int], report_progress: "ReportProgress") -> tuple[list[Any], dict[str, Any]]:
            rows, _ = continuations(model, [asks[at] for at in part], report_progress=report_progress)
            return [[(score.logprob, score.greedy) for score in row] for row in rows], {}

        rows, _ = in_parts(
            context, "scores", [asdict(request) for request in asks], [request.tokens for request in asks], scores_of_part,
            tokens=PART_TOKENS[compute.device], order=sorted(range(len(asks)), key=lambda at: (asks[at].context, at)),
        )  # fmt: skip
        scores = {
            (request.context, follows): (score[0], score[1])
            for request, row in zip(asks, rows, strict=True)
            for follows, score in zip(request.continuations, row, strict=True)
        }
        return [scores[tuple(prefix), tuple(follows)] for prefix, follows in requests]

    return score


def writer(model: Any, tokenizer: Any, seed: int, context: Context, compute: Compute) -> Any:
    """Our engine as the harness asks for texts: requests of one setting together."""
    from pyrite.models.generate import generate
    from pyrite.models.sampling import Drawing
    from pyrite.models.write import cut_at, end_ids, stopper

    ends = end_ids(model, tokenizer)

    def of_one_setting(prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
        drawing = Drawing(settings[0]["temperature"], settings[0].get("top_p", 1.0))
        stops = [stop for stop in settings[0]["until"] if stop]

        def texts_of_part(part: list[int], report_progress: "ReportProgress") -> tuple[list[Any], dict[str, Any]]:
            texts: dict[int, str] = {}
            for number, generated in generate(
                model,
                [prompts[at] for at in part],
                max_new_tokens=[settings[at]["max_gen_toks"] for at in part],
                end_ids=ends,
                drawing=drawing,
                seeds=[[seed, settings[at]["number"], settings[at].get("attempt", 0)] for at in part],
                ended=stopper(tokenizer, stops) if stops else None,
            ):
                text = tokenizer.decode(generated.ids, skip_special_tokens=True)
                cut = cut_at(text, stops)
                texts[number] = text if cut is None else cut
                report_progress(len(texts), len(part), "answers")
            return [texts[at] for at in range(len(part))], {}

        sizes = [len(prompt) + setting["max_gen_toks"] for prompt, setting in zip(prompts, settings, strict=True)]
        part_inputs = [list(map(list, prompts)), list(map(dict, settings))]
        return in_parts(
            context, "texts", part_inputs, sizes, texts_of_part, tokens=WRITTEN * PART_TOKENS[compute.device]
        )[0]

    def write(prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for at, setting in enumerate(settings):
            groups[tuple(setting["until"]), setting["temperature"], setting.get("top_p", 1.0)].append(at)
        texts = [""] * len(prompts)
        for members in groups.values():
            numbered = [{**settings[at], "number": at} for at in members]
            answers = of_one_setting([prompts[at] for at in members], numbered)
            for at, text in zip(members, answers, strict=True):
                texts[at] = text
        return texts

    return write


BENCHMARK = StepType("probe.harness", 2, benchmark_step)


@dataclass(frozen=True)
class Benchmark:
    """`--task harness:NAME`."""

    name: str
    config: ProbeConfig
    metrics: None = None

    @property
    def margins(self) -> Mapping[str, float]:
        """Shares take `--margin` as it is."""
        return {}

    @property
    def source(self) -> str:
        """Where the items come from."""
        return str(self.config.harness_data or "hub")

    def step(self, subject: ModelUnderTest) -> Step:
        """The step that runs the task."""
        import importlib.metadata

        from pyrite.probe.harness import need_lm_eval

        need_lm_eval()
        chosen: dict[str, Any] = {
            "task": self.name.removeprefix(PREFIX),
            "seed": self.config.seed,
            "lm_eval": importlib.metadata.version("lm-eval"),
            "compute": hardware.choose(self.config.precision, self.config.device_map).as_config(),
            "settings": {
                "num_fewshot": self.config.num_fewshot,
                "items": self.config.items,
                "chat": self.config.harness_chat,
                "max_gen_toks": self.config.max_new_tokens,
                "run_code": self.config.harness_run_code,
            },
        }
        inputs: dict[str, Step | Source] = {"base": model_input(subject, self.name)}
        if self.config.harness_data:
            inputs["data"] = source(str(self.config.harness_data))
        if self.config.harness_tasks:
            inputs["tasks"] = source(str(self.config.harness_tasks))
        return Step(BENCHMARK, chosen, inputs, label=f"{subject.name}: {self.name}")

    def read(self, store: Store, step: Step) -> Result:
        """The items as the step left them; what is no mean of items stays the harness's own number."""
        folder = store.path(step.key)
        record = orjson.loads((folder / "harness.json").read_bytes())
        measured = [ItemScore(**orjson.loads(line)) for line in (folder / "measured.jsonl").read_bytes().splitlines()]
        metrics = tuple(Metric(**metric) for metric in record["metrics"])
        columns = list(dict.fromkeys(column for item in measured for column in item.slices))
        many = [column for column in columns if len({item.slices.get(column) for item in measured}) > 1]
        cuts = {metric.name: ((), *((column,) for column in many)) for metric in metrics}
        notes = list(record["notes"])
        notes += [
            f"{number['metric']} = {number['value']:.4g} ({number['says']})"
            for number in record["numbers"]
            if not number["of_items"]
        ]
        if record["cut"]:
            notes.append(f"{record['cut']} prompts were cut from the left")
        return Result(measured, metrics, cuts, "groups", tuple(notes), record)

    def texts(self, store: Store, step: Step) -> Texts:
        """Nothing: the step keeps the values of documents, not their texts."""
        return Texts()
