"""Steps: what models make of rows. A reference's rows are read in a step of its own, which the next audit finds again.

What was read is kept by the row's texts, so that the step that reads the sample looks up what earlier ones have read,
whatever else is in the sample.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from pyrite.audit.flaw import Need
from pyrite.audit.gather import Sampled
from pyrite.audit.rows import Row, row_from_json
from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.steps import Context, StepType

READ = "read "
"""What the names of inputs begin with that hold what was read before."""
FILE = "read.npz"
INPUT_NAMES: Mapping[Need, str] = {"nll": "surprises", "embeddings": "embeddings"}
"""What the inputs of a step that hold what a model has read of the sample are called; part of the step's key."""
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


def embed_step(context: Context) -> None:
    """Step: answers and prompts of rows as vectors of unit length. Of the sample: `embeddings.npz`, `answers` and
    `prompts` [rows of the sample, width]; a row without a prompt has zeros there.

    Apart, because a prompt that many rows share would hide how their answers differ, and because prompts say whether
    the data is of the references' task."""
    from pyrite.models import load

    load.quiet_libraries()
    rows = rows_to_read(context)
    prompted = [at for at, row in enumerate(rows) if row.prompt.strip()]
    texts = [*(row.answer for row in rows), *(rows[at].prompt for at in prompted)]
    vectors = model_outputs(
        context, [texts_key(text) for text in texts], lambda places: vectors_of(context, [texts[at] for at in places])
    )
    if "file" in context.inputs or "part" in context.config:
        return
    answers = vectors[: len(rows)].astype(np.float32)
    prompts = np.zeros_like(answers)
    prompts[prompted] = vectors[len(rows) :]
    np.savez(context.out / "embeddings.npz", answers=answers, prompts=prompts)


def vectors_of(context: Context, texts: Sequence[str]) -> Values:
    """Texts as vectors [texts, width]."""
    from pyrite.models import embed, load

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
    are not in the smaller sample."""
    from pyrite.audit.nll import ALONE, PROMPTED, answer_nll
    from pyrite.models import load

    load.quiet_libraries()
    rows = rows_to_read(context)

    def compute(places: list[int]) -> Values:
        nll = answer_nll(
            context.inputs["model"],
            [rows[at] for at in places],
            compute=Compute(**context.config["compute"]),
            max_tokens=context.config["max_tokens"],
            report_progress=context.report_progress,
        )
        return np.stack([nll[PROMPTED], nll[ALONE]], axis=1)

    values = model_outputs(context, [texts_key(row.prompt, row.answer) for row in rows], compute, width=2)
    if "file" in context.inputs or "part" in context.config:
        return
    sampled = Sampled.read(context.inputs["sample"])
    places = sampled.first(context.config["rows"])
    by_name: dict[str, Any] = {name: np.full(len(sampled.rows), np.nan) for name in (PROMPTED, ALONE)}
    for at, name in enumerate((PROMPTED, ALONE)):
        by_name[name][places] = values[:, at]
    np.savez(context.out / "surprises.npz", **by_name)


def with_names(steps: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Steps as inputs that hold what was read before."""
    return ((f"{READ}{at}", step) for at, step in enumerate(steps))


NLL = StepType("audit.surprise", 2, nll_step)
EMBED = StepType("audit.embed", 3, embed_step)
