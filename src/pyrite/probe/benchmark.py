"""The task `harness:NAME`: any task of lm-evaluation-harness, asked through our engine, measured item by item."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.probe.config import ProbeConfig
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
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", MAX_LENGTH)
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
            max_length=min(longest, MAX_LENGTH),
        )
        found = run(config["task"], lm, settings)
    with (context.out / "measured.jsonl").open("wb") as sink:
        for one in found.measured:
            sink.write(orjson.dumps(asdict(one), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
    told = {
        "metrics": [asdict(metric) for metric in found.metrics],
        "numbers": [asdict(number) for number in found.numbers],
        "shots": dict(found.shots),
        "versions": dict(found.versions),
        "cut": found.cut,
        "notes": list(found.notes),
        "lm_eval": found.lm_eval,
    }
    (context.out / "harness.json").write_bytes(
        orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    )


def scorer(model: Any, context: Context, compute: Compute) -> Any:
    """Our engine as the harness asks for log-probabilities: continuations of one context share it."""
    from pyrite.models.continuations import continuations
    from pyrite.models.trees import Ask

    def score(requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        groups: dict[tuple[int, ...], dict[tuple[int, ...], None]] = defaultdict(dict)
        for asked, follows in requests:
            groups[tuple(asked)][tuple(follows)] = None
        asks = [Ask(asked, tuple(some)) for asked, some in groups.items()]

        def some(part: list[int], report_progress: "ReportProgress") -> tuple[list[Any], dict[str, Any]]:
            found, _ = continuations(model, [asks[at] for at in part], report_progress=report_progress)
            return [[(one.logprob, one.greedy) for one in row] for row in found], {}

        found, _ = in_parts(
            context, "scores", [asdict(ask) for ask in asks], [ask.tokens for ask in asks], some,
            tokens=PART_TOKENS[compute.device], order=sorted(range(len(asks)), key=lambda at: (asks[at].context, at)),
        )  # fmt: skip
        told = {
            (ask.context, follows): (one[0], one[1])
            for ask, row in zip(asks, found, strict=True)
            for follows, one in zip(ask.continuations, row, strict=True)
        }
        return [told[tuple(asked), tuple(follows)] for asked, follows in requests]

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

        def some(part: list[int], report_progress: "ReportProgress") -> tuple[list[Any], dict[str, Any]]:
            made: dict[int, str] = {}
            for number, one in generate(
                model,
                [prompts[at] for at in part],
                max_new_tokens=[settings[at]["max_gen_toks"] for at in part],
                end_ids=ends,
                drawing=drawing,
                seeds=[[seed, settings[at]["number"], settings[at].get("attempt", 0)] for at in part],
                ended=stopper(tokenizer, stops) if stops else None,
            ):
                text = tokenizer.decode(one.ids, skip_special_tokens=True)
                cut = cut_at(text, stops)
                made[number] = text if cut is None else cut
                report_progress(len(made), len(part), "answers")
            return [made[at] for at in range(len(part))], {}

        sizes = [len(prompt) + own["max_gen_toks"] for prompt, own in zip(prompts, settings, strict=True)]
        asked = [list(map(list, prompts)), list(map(dict, settings))]
        return in_parts(context, "texts", asked, sizes, some, tokens=WRITTEN * PART_TOKENS[compute.device])[0]

    def write(prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for at, one in enumerate(settings):
            groups[tuple(one["until"]), one["temperature"], one.get("top_p", 1.0)].append(at)
        texts = [""] * len(prompts)
        for members in groups.values():
            numbered = [{**settings[at], "number": at} for at in members]
            made = of_one_setting([prompts[at] for at in members], numbered)
            for at, text in zip(members, made, strict=True):
                texts[at] = text
        return texts

    return write


BENCHMARK = StepType("probe.harness", 1, benchmark_step)


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
            "compute": hardware.choose(self.config.precision).as_config(),
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
        told = orjson.loads((folder / "harness.json").read_bytes())
        measured = [ItemScore(**orjson.loads(line)) for line in (folder / "measured.jsonl").read_bytes().splitlines()]
        metrics = tuple(Metric(**metric) for metric in told["metrics"])
        columns = list(dict.fromkeys(column for one in measured for column in one.slices))
        many = [column for column in columns if len({one.slices.get(column) for one in measured}) > 1]
        cuts = {metric.name: ((), *((column,) for column in many)) for metric in metrics}
        notes = list(told["notes"])
        notes += [
            f"{number['metric']} = {number['value']:.4g} ({number['says']})"
            for number in told["numbers"]
            if not number["of_items"]
        ]
        if told["cut"]:
            notes.append(f"{told['cut']} prompts were cut from the left")
        return Result(measured, metrics, cuts, "groups", tuple(notes), told)

    def texts(self, store: Store, step: Step) -> Texts:
        """Nothing: the step keeps the values of documents, not their texts."""
        return Texts()
