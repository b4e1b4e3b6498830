"""Tasks whose answers are texts, such as ifeval. A step lets the model answer, another lets a judge read."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from pyrite.errors import UserError
from pyrite.io import Counts, atomic_write
from pyrite.models import hardware, load
from pyrite.models.answers import Answer, Writing, read_answers, write_answers
from pyrite.models.hardware import Compute
from pyrite.models.remote import Endpoint, Usage, chat, ordered
from pyrite.probe.asked import Cuts, Result, Subject, choose, model_folder, model_input, source
from pyrite.probe.config import ProbeConfig
from pyrite.probe.texts import Texts, of_answers, texts_of
from pyrite.records import Chat, Estimate
from pyrite.steps import Context, Kind, Source, Step, Store
from pyrite.steps.step import digest
from pyrite.steps.store import make_folder
from pyrite.tasks import followbench, gsm8k, ifeval, mt_bench
from pyrite.tasks.judge import Judge, vote_noise
from pyrite.tasks.measure import Measured, Metric

OnBadRow = Literal["stop", "skip"]
PACE = ("concurrency", "requests_per_minute", "timeout_s", "retries")
JUDGE_TOKENS = 1024
"""What a judge may write about one answer."""


@dataclass(frozen=True)
class Kindred:
    """What the code must know of one benchmark of texts."""

    read: Callable[[Path, OnBadRow], tuple[list[Chat], Counts]]
    standard_tokens: int
    metrics: tuple[Metric, ...]
    cuts: Mapping[str, Cuts]
    alike: str
    turns: int = 1
    by_rule: Callable[[Sequence[Chat], Mapping[str, str | None]], list[Measured]] | None = None
    """What a program finds of prompts and answers; None: a judge has a say. Only by rule can bad rows be left out."""
    checkers: Callable[[], str] | None = None
    """What the rule's verdicts hang on beside the answers."""


def published(read: Callable[[Path], list[Chat]]) -> Callable[[Path, OnBadRow], tuple[list[Chat], Counts]]:
    """A reader of files that are taken as they were published: a bad row always stops."""

    def counted(path: Path, on_bad_row: OnBadRow) -> tuple[list[Chat], Counts]:
        items = read(path)
        return items, Counts(len(items), len(items))

    return counted


WRITTEN = {
    "ifeval": Kindred(
        ifeval.read_counted,
        ifeval.STANDARD_NEW_TOKENS,
        ifeval.METRICS,
        dict.fromkeys(("instruction_strict", "instruction_loose"), ifeval.SLICES),
        "prompts",
        by_rule=ifeval.measure,
        checkers=ifeval.identity,
    ),
    "gsm8k": Kindred(
        gsm8k.read_counted, gsm8k.STANDARD_NEW_TOKENS, gsm8k.METRICS, {}, "questions", by_rule=gsm8k.measure
    ),
    "followbench": Kindred(
        published(followbench.read),
        2048,
        followbench.METRICS,
        {"hsr": followbench.SLICES, "ssr": followbench.SLICES, "csl": ((), ("category",))},
        "examples",
    ),
    "mt_bench": Kindred(
        published(mt_bench.read), 1024, mt_bench.METRICS, {"score": mt_bench.SLICES}, "questions", turns=2
    ),
}


def items_of(path: Path, config: Mapping[str, Any]) -> tuple[list[Chat], Counts]:
    """The prompts that a step's configuration names (task, items, skip, seed), and the file's rows by their fate."""
    items, counts = WRITTEN[config["task"]].read(path, config.get("on_bad_row", "stop"))
    return choose(items, config["items"], config.get("skip", 0), config["seed"]), counts


def answers_step(context: Context) -> None:
    """Step: a model's or an endpoint's answers → `answers.jsonl` in the order of the prompts, and `run.json`."""
    config = context.config
    name = config["task"]
    items, _ = items_of(context.inputs["file"], config)
    writing = Writing.model_validate(config["writing"])
    temperatures = None
    if name == "mt_bench" and config["own_temperatures"]:
        temperatures = {item.id: mt_bench.TEMPERATURES[item.meta["category"]] for item in items}
        temperatures |= {f"{item.id}/2": temperatures[item.id] for item in items}
    answers = remote_answers if config["backend"] == "openai" else local_answers
    answer = answers(context, writing, temperatures)
    made, told = answer(items)
    if WRITTEN[name].turns == 2:
        first = {one.id: one for one in made}
        second = [
            mt_bench.second_turn(item, first[item.id].text) for item in items if first[item.id].finish != "refused"
        ]
        later, told_later = answer(second)
        made = [*made, *later]
        capped = told.get("capped", 0) + told_later.get("capped", 0)
        told = {**told_later, "capped": capped, "turn_1": told}
    write_answers(made, context.out / "answers.jsonl")
    cut = sum(one.finish == "length" for one in made)
    refused = sum(one.finish == "refused" for one in made)
    told |= {"prompts": len(made), "cut_at_limit": cut, "refused": refused, "models": served(made)}
    (context.out / "run.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


def served(answers: Sequence[Answer]) -> dict[str, list[str]]:
    """Which models and versions the server says it used."""
    models = sorted({str(one.meta["model"]) for one in answers if one.meta.get("model")})
    prints = sorted({str(one.meta["system_fingerprint"]) for one in answers if one.meta.get("system_fingerprint")})
    return {"models": models, "fingerprints": prints}


Made = tuple[list[Answer], dict[str, Any]]
Answering = Callable[[Sequence[Chat]], Made]
"""Given prompts: the answers in their order, and what is told of them."""


def local_answers(context: Context, writing: Writing, temperatures: Mapping[str, float] | None) -> Answering:
    """The packaged, downloaded or own model, on this machine, loaded once for all turns."""
    from pyrite.models.write import write

    load.quiet_libraries()
    compute = Compute(**context.config["compute"])
    base = model_folder(context, context.config["task"])
    model, compute = load.for_generation(load.load_causal(base, compute), compute)
    tokenizer = load.load_tokenizer(base)
    file = context.checkpoint / "answers.jsonl"

    def answer(prompts: Sequence[Chat]) -> Made:
        with compute.autocast():
            told = write(
                model, tokenizer, prompts, writing, file,
                temperatures=temperatures, tick=context.tick, expired=context.expired,
            )  # fmt: skip
        by_id = {one.id: one for one in read_answers(file)}
        return [by_id[prompt.id] for prompt in prompts], {**told, "dtype": str(model.dtype).removeprefix("torch.")}

    return answer


def remote_answers(context: Context, writing: Writing, temperatures: Mapping[str, float] | None) -> Answering:
    """An endpoint."""
    endpoint = Endpoint.model_validate(orjson.loads(context.inputs["endpoint"].read_bytes()))
    file = context.checkpoint / "answers.jsonl"

    def answer(prompts: Sequence[Chat]) -> Made:
        usage = ask_endpoint(context, endpoint, prompts, writing, temperatures, file, 1)
        found = ordered(file, prompts)
        return [one for one in found if one is not None], asdict(usage)

    return answer


def ask_endpoint(
    context: Context,
    endpoint: Endpoint,
    prompts: Sequence[Chat],
    writing: Writing,
    temperatures: Mapping[str, float] | None,
    out: Path,
    attempts: int,
) -> Usage:
    """Ask an endpoint, prompts of one temperature together."""
    groups: dict[float, list[Chat]] = defaultdict(list)
    for prompt in prompts:
        groups[(temperatures or {}).get(prompt.id, writing.temperature)].append(prompt)
    usage = Usage()
    for temperature, some in sorted(groups.items()):
        with_it = writing.model_copy(update={"temperature": temperature})
        chat(
            endpoint, some, with_it, out,
            attempts=attempts, tick=context.tick, expired=context.expired, usage=usage,
        )  # fmt: skip
    return usage


def judge_step(context: Context) -> None:
    """Step: a judge's replies about answers → `replies.jsonl` (every vote) and `run.json`."""
    config = context.config
    items, _ = items_of(context.inputs["file"], config)
    prompts = judge_prompts(config["task"], items, list(read_answers(context.inputs["answers"] / "answers.jsonl")))
    endpoint = Endpoint.model_validate(orjson.loads(context.inputs["endpoint"].read_bytes()))
    writing = Writing(max_new_tokens=JUDGE_TOKENS, temperature=config["temperature"], seed=config["seed"])
    out = context.checkpoint / "replies.jsonl"
    began = time.monotonic()
    usage = ask_endpoint(context, endpoint, prompts, writing, None, out, config["votes"])
    replies = [one for one in ordered(out, prompts, config["votes"]) if one is not None]
    write_answers(replies, context.out / "replies.jsonl")
    told = {**asdict(usage), "seconds": time.monotonic() - began, **served(replies)}
    (context.out / "run.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


ANSWERS = Kind("probe.answers", 1, answers_step)
JUDGE = Kind("probe.judge", 1, judge_step)


def answers_of(step: Step) -> Step:
    """The step in which the subject answered: this one, or the one that this one judges."""
    answers = step.inputs["answers"] if step.kind is JUDGE else step
    assert isinstance(answers, Step)
    return answers


def pairs_of(items: Sequence[Chat], texts: Mapping[str, str | None]) -> dict[str, tuple[str | None, str | None]]:
    """MT-Bench: the two answers to each question."""
    return {item.id: (texts.get(item.id), texts.get(f"{item.id}/2")) for item in items}


def judge_prompts(name: str, items: Sequence[Chat], answers: Sequence[Answer]) -> list[Chat]:
    """What the judge is asked."""
    texts = texts_of(answers)
    if name == "mt_bench":
        return mt_bench.judge_prompts(items, pairs_of(items, texts))
    return followbench.judge_prompts(items, texts)


@dataclass(frozen=True)
class WrittenTask:
    """`--task ifeval=FILE`, `gsm8k=FILE`, `followbench=FOLDER`, `mt_bench=FILE`."""

    name: str
    source: str
    config: ProbeConfig

    @property
    def kindred(self) -> Kindred:
        """What is known of the benchmark."""
        return WRITTEN[self.name]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured."""
        return self.kindred.metrics

    @property
    def margins(self) -> Mapping[str, float]:
        """Margins of metrics that are no share of 1: the judge's usual noise, and of five levels."""
        return {"score": mt_bench.NOISE, "csl": followbench.LEVELS * self.config.margin}

    @property
    def limit(self) -> int:
        """Tokens after which an answer is cut."""
        return self.config.max_new_tokens or self.kindred.standard_tokens

    @property
    def items(self) -> dict[str, Any]:
        """Which items are asked, as steps are told; what is left at its default stays out, so that keys stay."""
        told: dict[str, Any] = {"task": self.name, "items": self.config.items, "seed": self.config.seed}
        if self.config.skip:
            told["skip"] = self.config.skip
        if self.kindred.by_rule is not None and self.config.on_bad_row == "skip":
            told["on_bad_row"] = "skip"
        return told

    def endpoint(self, url: str, model: str | None, *, judge: bool = False) -> Source:
        """An endpoint as a step's input: known by address and model, whatever the pace at which it is asked."""
        own = "judge_" if judge else ""
        named = {name: getattr(self.config, own + name) for name in ("key_variable", "price_in", "price_out")}
        pace = {name: getattr(self.config, name) for name in PACE}
        try:
            told = Endpoint(base_url=url, model=model, **named, **pace)
        except ValidationError as error:
            found = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
            raise UserError("An endpoint's options do not fit.", f"{url}: {found}", "pyrite probe --help") from None
        from pyrite.steps import default_store

        plain = told.model_dump(mode="json")
        folder = Path(self.config.store or default_store()) / "endpoints"
        make_folder(folder)
        file = folder / f"{digest(plain)[:16]}.json"
        with atomic_write(file) as part:
            part.write_bytes(orjson.dumps(plain))
        return Source(str(file), f"endpoint:{url}#{model}")

    def answers(self, subject: Subject) -> Step:
        """The step in which the subject answers."""
        writing = Writing(max_new_tokens=self.limit, temperature=self.config.temperature or 0.0, seed=self.config.seed)
        chosen: dict[str, Any] = {
            **self.items,
            "writing": writing.model_dump(mode="json"),
            "own_temperatures": self.config.temperature is None,
            "backend": self.config.backend,
        }
        inputs: dict[str, Step | Source] = {"file": source(self.source)}
        if subject.remote:
            assert self.config.base_url is not None
            inputs["endpoint"] = self.endpoint(self.config.base_url, subject.name)
        else:
            inputs["base"] = model_input(subject, self.name)
            chosen["compute"] = hardware.choose(self.config.precision).as_config()
        return Step(ANSWERS, chosen, inputs, label=f"{subject.name}: {self.name}")

    def step(self, subject: Subject) -> Step:
        """The answers, and where there is a judge, what it says of them."""
        answers = self.answers(subject)
        if self.kindred.by_rule is not None or self.config.judge_url is None:
            return answers
        chosen = {
            **self.items,
            "votes": self.config.judge_votes,
            "temperature": self.config.judge_temperature,
            "prompts": mt_bench.PROMPTS if self.name == "mt_bench" else followbench.PROMPTS,
        }
        inputs: dict[str, Step | Source] = {
            "answers": answers,
            "file": source(self.source),
            "endpoint": self.endpoint(self.config.judge_url, self.config.judge_model, judge=True),
        }
        return Step(JUDGE, chosen, inputs, label=f"judge of {answers.label}")

    def read(self, store: Store, step: Step) -> Result:
        """The answers, checked by rule and by what the judge said."""
        judged = step.kind is JUDGE
        folder = store.path(answers_of(step).key)
        answers = list(read_answers(folder / "answers.jsonl"))
        told = orjson.loads((folder / "run.json").read_bytes())
        items, counts = items_of(Path(self.source), self.items)
        notes = []
        if counts.dropped:
            notes.append(f"{counts.read} rows read, {counts.kept} kept, dropped: {dict(counts.dropped)}")
        if self.config.skip:
            notes.append(f"asked without the items that --items {self.config.skip} takes")
        if self.limit != self.kindred.standard_tokens:
            notes.append(f"answers are cut at {self.limit} new tokens; the standard is {self.kindred.standard_tokens}")
        if told["cut_at_limit"]:
            notes.append(f"{told['cut_at_limit']} of {told['prompts']} answers were cut at the limit")
        if told.get("capped"):
            notes.append(f"{told['capped']} answers had less room than the limit: the model reads no more tokens")
        if told["refused"]:
            notes.append(f"{told['refused']} answers were refused and count as missing")
        details: dict[str, Any] = {"max_new_tokens": self.limit, "answers": told}
        result = Result([], self.kindred.metrics, self.kindred.cuts, self.kindred.alike, tuple(notes), details)
        if self.kindred.checkers is not None:
            details["checkers"] = self.kindred.checkers()
        if self.kindred.by_rule is not None:
            return replace(result, measured=self.kindred.by_rule(items, texts_of(answers)))
        replies: dict[str, list[str | None]] = defaultdict(list)
        if judged:
            for one in read_answers(store.path(step.key) / "replies.jsonl"):
                replies[one.id].append(None if one.finish == "refused" else one.text)
            details["judge"] = self.judge(store, step)
        else:
            notes = [*notes, "no judge was given (--judge-url): what only a judge can say is missing"]
        measured, noise = self.votes(items, answers, replies)
        if self.config.judge_votes > 1 and any(one.value == 0 for one in noise.values()):
            notes = [*notes, "the judge's votes are all equal: raise --judge-temperature, or the server ignores it"]
        return replace(result, measured=measured, notes=tuple(notes), noise=noise)

    def texts(self, store: Store, step: Step) -> Texts:
        """The prompts and the answers to them; the two turns of mt_bench together."""
        items, _ = items_of(Path(self.source), self.items)
        answers = read_answers(store.path(answers_of(step).key) / "answers.jsonl")
        return of_answers(items, texts_of(list(answers)), self.kindred.turns)

    def votes(
        self, items: list[Chat], answers: Sequence[Answer], replies: Mapping[str, list[str | None]]
    ) -> tuple[list[Measured], dict[str, Estimate]]:
        """The items' values from the judge's replies, and the judge's own noise."""
        texts = texts_of(answers)
        prompts = {prompt.id: prompt for prompt in judge_prompts(self.name, items, answers)}
        if self.name == "mt_bench":
            ratings = {
                at: [None if text is None else mt_bench.read_rating(text, prompts[at]) for text in some]
                for at, some in replies.items()
            }
            noise = {"score": vote_noise(ratings, default=mt_bench.NOISE)} if ratings else {}
            return mt_bench.measure(items, pairs_of(items, texts), ratings or None), noise
        verdicts = {
            at: [
                None if text is None else followbench.read_verdict(text, prompts[at].meta["n_constraints"], prompts[at])
                for text in some
            ]
            for at, some in replies.items()
        }
        found = {"hsr": vote_noise(followbench.hard_votes(items, texts, verdicts))} if verdicts else {}
        return followbench.measure(items, texts, verdicts or None), found

    def judge(self, store: Store, step: Step) -> dict[str, Any]:
        """Who judged, and how."""
        told = orjson.loads((store.path(step.key) / "run.json").read_bytes())
        judge = Judge(
            model=self.config.judge_model or "the only one listed",
            prompts=step.config["prompts"],
            votes=self.config.judge_votes,
            temperature=self.config.judge_temperature,
            versions=tuple(told["models"]),
            fingerprints=tuple(told["fingerprints"]),
        )
        return {**judge.as_json(), "usage": told}
