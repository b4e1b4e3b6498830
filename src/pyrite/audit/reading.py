"""What models make of rows: embeddings, and how surprising answers are; the steps in which they read, and their cost.

A reference's rows are read in a step of its own, which the next audit finds again.

What was read is kept by the row's texts, so that the step that reads the sample looks up what earlier ones have read,
whatever else is in the sample.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from pyrite.audit.config import AuditConfig
from pyrite.audit.embedded_texts import Cutter, counts_by_side, own_sides_by_source, well_formed, without_shared_lead
from pyrite.audit.flaw import WITH_PROMPT, WITHOUT_PROMPT, Floats, Need
from pyrite.audit.gather import CUT, Sampled
from pyrite.audit.rows import Row, row_from_json
from pyrite.errors import UserError
from pyrite.models import hardware, load
from pyrite.models.hardware import FLOPS, Compute
from pyrite.models.perplexity import EncodedText as Tokens
from pyrite.models.perplexity import text_nlls
from pyrite.models.positions import tokens_read
from pyrite.models.refusals import encode_each
from pyrite.models.sentence_modules import sentence_modules
from pyrite.models.template import BY_TEMPLATE, opening_ids, render_chat
from pyrite.models.tokenise import encode_after
from pyrite.models.work import ReportProgress, unique_rows
from pyrite.records import Message
from pyrite.steps import Context, Cost, Source, Step, StepType

READ = "read "
"""What the names of inputs begin with that hold what was read before."""
FILE = "read.npz"
REFUSED = "refused.json"
"""How many rows of the sample the model could not be given."""
INPUT_NAMES: Mapping[Need, str] = {"nll": "surprises", "embeddings": "embeddings"}
"""What the inputs of a step that hold what a model has read of the sample are called; part of the step's key."""
CHARACTERS = 32
"""A text is read up to so many characters for each token: a row of 100 MB is cut before the tokenizer sees it."""
MAX_TOKENS = 256
"""Longer rows are cut here before a model reads them."""
FIRST_LOOK = 60
"""Rows of each side that the causal model reads first."""
PARTS = 2
"""Steps that the data's rows are divided among for a model to read on a CPU: the same on every machine, as what they
make is part of what comparisons are made of."""
Values = np.ndarray[Any, Any]


def texts_key(*texts: str) -> bytes:
    """A key of some texts: 16 bytes."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read_before(context: Context) -> dict[bytes, Values]:
    """What earlier steps have read, by the texts' keys."""
    values: dict[bytes, Values] = {}
    for name, folder in sorted(context.inputs.items()):
        if name.startswith(READ):
            with np.load(folder / FILE, allow_pickle=False) as file:
                values |= {bytes(key): value for key, value in zip(file["keys"], file["values"], strict=True)}
    return values


def model_outputs(
    context: Context, keys: Sequence[bytes], compute: Callable[[list[int]], Values], width: int | None = None
) -> Values:
    """What a model makes of every item [items, …], in their order: looked up, or computed now (given the places of
    those that are not known), and written for steps to come."""
    values_by_key = read_before(context)
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    lacking = sorted(at for key, at in first.items() if key not in values_by_key)
    if lacking:
        values_by_key |= {keys[at]: value for at, value in zip(lacking, compute(lacking), strict=True)}
    distinct_keys = list(first)
    values = (
        np.stack([values_by_key[key] for key in distinct_keys])
        if distinct_keys
        else np.zeros((0, width or 0), np.float32)
    )
    stored = (
        np.frombuffer(b"".join(distinct_keys), dtype=np.uint8).reshape(len(distinct_keys), 16)
        if distinct_keys
        else np.zeros((0, 16), np.uint8)
    )
    np.savez(context.out / FILE, keys=stored, values=values)
    number = {key: at for at, key in enumerate(distinct_keys)}
    return values[[number[key] for key in keys]] if distinct_keys else values


def drawn_rows(folder: Path, size: int) -> list[Row]:
    """The first so many rows that a file's reader drew of each source, in the order in which they were drawn."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "sample.jsonl").read_bytes().splitlines():
        entry = orjson.loads(line)
        by_source.setdefault(entry["row"]["source"], []).append(entry)
    return [
        row_from_json(entry["row"])
        for source_rows in by_source.values()
        for entry in sorted(source_rows, key=lambda entry: cast(float, entry["drawn"]))[:size]
    ]


def rows_to_read(context: Context) -> list[Row]:
    """The rows that a step reads: of a reference's file, every n-th of the data's, or of the sample (the smaller one
    for the causal model)."""
    size = context.config["rows"]
    if "file" in context.inputs:
        return drawn_rows(context.inputs["file"], size)
    sampled = Sampled.read(context.inputs["sample"])
    if "part" in context.config:
        part, parts = context.config["part"]
        return [sampled.rows[at] for at in sampled.data[:size][part::parts]]
    return list(sampled.rows) if size is None else [sampled.rows[at] for at in sampled.first(size)]


def embedded_rows(context: Context, cutter: Cutter) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """What a step embeds of its rows: answers, prompts, and both sides without what other rows of the source ask, too."""
    rows = rows_to_read(context)
    every, step = rows, slice(None)
    if "part" in context.config:
        sampled = Sampled.read(context.inputs["sample"])
        every = [sampled.rows[at] for at in sampled.data]
        part, parts = context.config["part"]
        step = slice(part, context.config["rows"], parts)
    answers = without_shared_lead(every, cutter.is_cut)[step]
    return answers, [row.prompt for row in rows], own_sides_by_source(every)[step]


def embed_step(context: Context) -> None:
    """Step: answers and prompts of rows as vectors of unit length. Of the sample: `embeddings.npz`, `answers` and
    `prompts` [rows of the sample, width], and both sides as copies are looked for, `asked` and `answered`; zeros where
    there is no such text. `cut.json`: how many texts were cut, by side.

    Apart, because a prompt that many rows share would hide how their answers differ, and because prompts say whether
    the data is of the references' task. Of a prompt that is too long, both ends are read: what is asked stands at
    either."""
    load.quiet_libraries()
    cutter_of = Cutter.of_sentences if context.config["by"] == "sentences" else Cutter.of
    cutter = cutter_of(context.inputs["model"], context.config["max_tokens"])
    answers, prompts, own = embedded_rows(context, cutter)
    prompts = [cutter.both_ends(prompt) for prompt in prompts]
    asked, answered = [cutter.both_ends(asked) for asked, _ in own], [answered for _, answered in own]
    first_sides = [text for text in (*prompts, *asked) if text.strip()]
    texts = list(dict.fromkeys([*answers, *answered, *first_sides]))
    vectors = model_outputs(
        context, [texts_key(text) for text in texts], lambda places: vectors_of(context, [texts[at] for at in places])
    ).astype(np.float32)
    if "file" in context.inputs or "part" in context.config:
        return
    by_text = dict(zip(texts, vectors, strict=True))
    nothing = np.zeros(vectors.shape[1:], dtype=np.float32)
    sides = {"answers": answers, "prompts": prompts, "asked": asked, "answered": answered}
    stacked: dict[str, Any] = {
        name: np.array([by_text.get(text, nothing) for text in side]) for name, side in sides.items()
    }
    np.savez(context.out / "embeddings.npz", **stacked)
    (context.out / CUT).write_bytes(orjson.dumps(cutter.counts(Sampled.read(context.inputs["sample"]))))


def vectors_of(context: Context, texts: Sequence[str]) -> Values:
    """Texts as vectors [texts, width]."""
    from pyrite.models import embed

    config = context.config
    compute = Compute(**config["compute"])
    folder, size = context.inputs["model"], config["max_tokens"]
    if config["by"] == "sentences":
        vectors = embed.sentence_embeddings(
            folder, texts, compute=compute, max_tokens=size, report_progress=context.report_progress
        )
    else:
        model, _ = load.for_generation(load.load_causal(folder, compute), compute)
        tokenizer = load.load_tokenizer(folder)
        vectors = embed.hidden_state_embeddings(
            model, tokenizer, texts, max_tokens=size, report_progress=context.report_progress
        )
    if not np.isfinite(vectors).all():
        raise UserError("The embeddings are not numbers.", str(folder), "name another --embedder")
    return vectors


def nll_step(context: Context) -> None:
    """Step: nats per token of answers, with and without the prompt. Of the sample: `surprises.npz`, nan for rows that
    are not in the smaller sample or that the model cannot be given, and `refused.json`, how many those are by reason."""
    load.quiet_libraries()
    rows = rows_to_read(context)

    def compute(places: list[int]) -> Values:
        nll = answer_nll(
            context.inputs["model"],
            [rows[at] for at in places],
            compute=Compute(**context.config["compute"]),
            max_tokens=context.config["max_tokens"],
            on_bad_row=context.config.get("on_bad_row", "stop"),
            report_progress=context.report_progress,
        )
        return np.stack([nll[WITH_PROMPT], nll[WITHOUT_PROMPT]], axis=1)

    values = model_outputs(context, [texts_key(row.whole_prompt, row.answer) for row in rows], compute, width=2)
    if "file" in context.inputs or "part" in context.config:
        return
    refused = np.asarray(np.isinf(values).any(1))
    dropped = {BY_TEMPLATE: int(refused.sum())} if refused.any() else {}
    (context.out / REFUSED).write_bytes(orjson.dumps({"read": len(values), "dropped": dropped}))
    values[refused] = np.nan
    sampled = Sampled.read(context.inputs["sample"])
    places = sampled.first(context.config["rows"])
    by_name: dict[str, Any] = {name: np.full(len(sampled.rows), np.nan) for name in (WITH_PROMPT, WITHOUT_PROMPT)}
    for at, name in enumerate((WITH_PROMPT, WITHOUT_PROMPT)):
        by_name[name][places] = values[:, at]
    np.savez(context.out / "surprises.npz", **by_name)
    read = [at for at, left_out in zip(places, refused.tolist(), strict=True) if not left_out]
    counts = nll_cut_counts(context.inputs["model"], sampled, read, context.config["max_tokens"])
    (context.out / CUT).write_bytes(orjson.dumps(counts))


def nll_cut_counts(folder: Path, sampled: Sampled, places: Sequence[int], max_tokens: int) -> dict[str, Any]:
    """What `answer_nll` cuts of the sample's rows at these places (`pyrite.audit.gather.cut_counts`; no token is unknown to
    it)."""
    tokenizer = load.load_tokenizer(folder)
    room = room_of(max_tokens, load.parsed_config(folder), tokenizer)

    def count(rows: Sequence[Row]) -> dict[str, Any]:
        answers_cut = prompts_cut = 0
        for row in rows:
            prompt, answer = row.whole_prompt, row.answer
            prompt_ids, ids = encoded_sides(tokenizer, prompt, answer, room, f"row {row.id}")
            answers_cut += len(answer) > CHARACTERS * room or len(ids) > room
            prompts_cut += len(prompt) > CHARACTERS * room or len(prompt_ids) > room
        return {"answers_cut": answers_cut, "prompts_cut": prompts_cut, "unknown": 0.0}

    return counts_by_side(sampled, places, room, count)


def with_names(steps: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Steps as inputs that hold what was read before."""
    return ((f"{READ}{at}", step) for at, step in enumerate(steps))


def answer_nll(
    model_folder: Path,
    rows: Sequence[Row],
    *,
    compute: Compute,
    max_tokens: int = 256,
    on_bad_row: str = "stop",
    report_progress: ReportProgress,
) -> dict[str, Floats]:
    """The mean negative log-likelihood of each row's answer to a causal model: {"with_prompt", "without_prompt"}: nats
    per token [rows].

    The prompt is opened by the model's chat template, where it has one, and the answer's tokens follow: the same
    tokens, cut off at the same place, with the prompt and without. What the template puts after an answer does not
    count (`pyrite.models.perplexity.encode` counts it): an end marker would weigh most in the shortest answers. Read
    are the first `max_tokens` tokens of the answer after the last `max_tokens` of the prompt. Without a prompt the
    answer follows only what the tokenizer puts at the beginning of any text; where that is nothing, its first token is
    not counted. nan: no prompt, or no token to count; inf: the chat template refuses the row, and `on_bad_row` is "skip".
    bf16 where `compute` says so.

    Raises:
        UserError: the folder holds no causal model, or the chat template refuses plain questions.
    """
    tokenizer = load.load_tokenizer(model_folder)
    model, compute = load.for_generation(load.load_causal(model_folder, compute), compute)
    room = room_of(max_tokens, model.config, tokenizer)
    unique, numbers = unique_rows((row.whole_prompt, row.answer) for row in rows)
    names = {(row.whole_prompt, row.answer): f"row {row.id}" for row in reversed(rows)}

    def pieces_of(place: int) -> tuple[Tokens, Tokens]:
        prompt, answer = unique[place]
        return tokens_of(tokenizer, prompt, answer, room, names[prompt, answer])

    read, pieces, _ = encode_each(range(len(unique)), pieces_of, skip=on_bad_row == "skip")
    nats = np.full((len(unique), 2), np.inf)
    with compute.autocast():
        losses = text_nlls(
            model,
            [piece for both in zip(*pieces, strict=True) for piece in both],
            max_tokens=2 * room + 1,
            report_progress=report_progress,
        )
    values = [loss.nats / loss.tokens if loss.tokens else np.nan for loss in losses]
    nats[read] = np.array(values, dtype=np.float64).reshape(2, len(read)).T
    nats[[place for place in read if not unique[place][0]], 0] = np.nan
    return {WITH_PROMPT: nats[numbers, 0], WITHOUT_PROMPT: nats[numbers, 1]}


def room_of(max_tokens: int, config: Any, tokenizer: Any) -> int:
    """Tokens of an answer, and of its prompt, that a causal model reads: so many, or half of what it can take."""
    return max(2, min(max_tokens, (tokens_read(2 * max_tokens + 1, config, tokenizer) - 1) // 2))


def tokens_of(tokenizer: Any, prompt: str, answer: str, room: int, where: str) -> tuple[Tokens, Tokens]:
    """A question with its answer, and the answer alone, as the model reads them: only the answer's tokens count, and they
    are the same in both. They are those that the answer has after its prompt, encoded as one text (`tokenise`); of a
    row without a prompt, those that it has at the beginning of a text."""
    start = before = opening_ids(tokenizer)
    prompt_ids, ids = encoded_sides(tokenizer, prompt, answer, room, where)
    if prompt:
        before = prompt_ids[-room:] if tokenizer.chat_template else start + prompt_ids[-room:]
    return counted_after(before, ids[:room]), counted_after(start, ids[:room])


def encoded_sides(tokenizer: Any, prompt: str, answer: str, room: int, where: str) -> tuple[list[int], list[int]]:
    """The tokens of a question, opened by the chat template, and of its answer, before either is cut to `room`."""
    opened = ""
    if prompt:
        opened = render_chat(
            tokenizer, [Message("user", well_formed(prompt[-CHARACTERS * room :]))], opened=True, row_name=where
        )
    text = well_formed(answer[: CHARACTERS * room])
    ((prompt_ids, ids),) = encode_after(tokenizer, [(opened, text)], add_special_tokens=False)
    return list(prompt_ids), list(ids)


def counted_after(before: Sequence[int], ids: Sequence[int]) -> Tokens:
    """Tokens that count, after others that do not."""
    counted = [False] * len(before) + [True] * len(ids)
    return Tokens([*before, *ids], counted, [0] * len(counted))


NLL = StepType("audit.surprise", 5, nll_step)
EMBED = StepType("audit.embed", 5, embed_step)


@dataclass(frozen=True)
class Reading:
    """A model that reads rows: what its steps are told, how their cost is estimated, and which input it is."""

    kind: StepType
    need: Need
    model: Source
    compute: Compute
    common: Mapping[str, Any]

    def step(
        self, rows: int | None, inputs: Mapping[str, Step | Source], label: str, *, part: int | None = None
    ) -> Step:
        """A step that reads so many rows (None: all of the sample)."""
        config = {**self.common, "rows": rows} | ({} if part is None else {"part": [part, self.parts]})
        count = (rows or 0) // (1 if part is None else self.parts)
        return Step(self.kind, config, {"model": self.model, **inputs}, label=label, cost=self.cost(count))

    @property
    def parts(self) -> int:
        """Steps that the data's rows are divided among."""
        return PARTS if self.compute.device == "cpu" else 1

    def cost(self, rows: int) -> Cost:
        """What reading so many rows should take: two FLOPs for each weight and token, of a model in fp32."""
        count = rows * (300 if self.need == "nll" else 100)
        rate = FLOPS[self.compute.device, self.compute.precision]
        return Cost(count, count * self.bytes / 2 / rate)

    @property
    def bytes(self) -> int:
        """Bytes of the model's weights on disk."""
        return sum(file.stat().st_size for file in Path(self.model.path).glob("*.safetensors"))


def reading(config: AuditConfig, need: Need) -> Reading:
    """How the causal model, or the embedder, reads rows."""
    hidden = need == "embeddings" and config.embedder == "hidden-states"
    model = load.resolve(config.model if hidden or need == "nll" else config.embedder)
    spread = need == "nll" or hidden
    compute = hardware.choose(config.precision, config.device_map if spread else "one")
    common: dict[str, Any] = {"max_tokens": MAX_TOKENS, "compute": compute.as_config()}
    common |= {"by": "hidden-states" if hidden else "sentences"} if need == "embeddings" else {}
    if need == "nll" and config.on_bad_row == "skip":
        common["on_bad_row"] = "skip"
    if need == "embeddings" and not hidden and (modules := sentence_modules(model.folder)).pooling is not None:
        common |= {"pooling": modules.pooling}
    kind = EMBED if need == "embeddings" else NLL
    return Reading(kind, need, Source(str(model.folder), model.identity), compute, common)
