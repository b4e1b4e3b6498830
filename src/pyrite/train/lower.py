"""Step: what the frozen lower layers of a classifier make of rows, once for every model that is trained on top of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.errors import OutOfTime
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.steps import Context, StepType
from pyrite.tasks.rows import read_rows
from pyrite.train.classifier_rows import Encoded, encode_classifier_rows, load_trained

if TYPE_CHECKING:
    from pyrite.models.lower import Injected


def lower_step(context: Context) -> None:
    """Step: rows → the states before layer `freeze` of each different row (`pyrite.models.lower.write_states`)."""
    from pyrite.models.lower import states_of, token_row_key, write_states

    load.quiet_libraries()
    config = context.config
    compute = Compute(**config["compute"])
    base = context.inputs["base"]
    model, _, tokenizer = load_trained(
        context.inputs.get("model", base), base, config["labels"], compute, seed=config["seed"]
    )
    rows = read_rows(context.inputs["rows"] / config["rows_file"])
    size = tokens_read(config["max_tokens"], load.parsed_config(base), tokenizer)
    encoded = encode_classifier_rows(tokenizer, rows, config["labels"], config["reads"], size)
    segments = segments_for(model, encoded)
    kinds: Sequence[Sequence[int] | None] = [None] * len(rows) if segments is None else segments
    first: dict[str, int] = {}
    for at, (ids, row_segments) in enumerate(zip(encoded.ids, kinds, strict=True)):
        first.setdefault(token_row_key(ids, row_segments), at)
    chosen = list(first.values())

    def report_progress(finished: float, total: float, unit: str) -> None:
        context.report_progress(finished, total, unit)
        if context.expired() and finished < total:
            raise OutOfTime("--max-time is over; the lower layers are computed again by the next run")

    with compute.autocast():
        states = states_of(
            model,
            config["freeze"],
            [encoded.ids[at] for at in chosen],
            None if segments is None else [segments[at] for at in chosen],
            pad_id=tokenizer.pad_token_id,
            report_progress=report_progress,
        )
    write_states(list(first), states, config["freeze"], context.out)
    summary = {"rows": len(rows), "distinct": len(chosen), "layers": config["freeze"], "rows_cut": encoded.cut}
    (context.out / "lower.json").write_bytes(orjson.dumps(summary))


def segments_for(model: Any, encoded: Encoded) -> list[list[int]] | None:
    """The segments of every row's tokens, for a model that is told them."""
    return encoded.segments if encoded.segments is not None and load.takes_segments(model) else None


def stored_lower(
    context: Context, model: Any, encoded: Encoded, pad_id: int, compute: Compute
) -> "tuple[Injected, list[Any]] | None":
    """The stored states of the rows that a training reads, and the model that takes them in the place of its lower
    layers; None where the step has no such input, or where they do not give the model's logits."""
    from pyrite.models.lower import Stored, fitting_states

    folders = [path for name, path in sorted(context.inputs.items()) if name.startswith("lower")]
    if not folders:
        return None
    segments = segments_for(model, encoded)
    with compute.autocast():
        return fitting_states(model, Stored(folders), encoded.ids, segments, pad_id=pad_id, precision=compute.precision)


LOWER = StepType("train.lower", 2, lower_step)
