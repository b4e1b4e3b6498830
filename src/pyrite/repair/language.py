"""The language model type of a repair: rows learned token by token, adapters, and the whole model written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import token_limit
from pyrite.models.template import REMARKS
from pyrite.records import Chat, Message, Text
from pyrite.repair.methods import REFUSALS, Method
from pyrite.repair.model_type import ROLES, RepairRows, check_guard, check_left, guard_rows
from pyrite.repair.settings import RepairSettings
from pyrite.steps import Context
from pyrite.train import adapters, language
from pyrite.train.language import load_to_train, read_language


def load_full_model(folder: Path, compute: Compute) -> Any:
    """The whole model of a folder, in fp32."""
    return load.load_causal(folder, compute)


def refusal_to(record: Chat | Text, number: int) -> Chat:
    """A forget row's prompt, answered with one of our sentences that say nothing.

    Raises:
        UserError: plain text has no prompt to answer.
    """
    if isinstance(record, Text):
        fix = "give chats, or take another method"
        raise UserError("This method needs prompts with answers.", f"row {record.id} is plain text", fix)
    answer = Message("assistant", REFUSALS[number % len(REFUSALS)])
    return Chat((*record.prompt, answer), record.id, record.meta)


def read_rows(context: Context, tokenizer: Any, settings: RepairSettings, method: Method) -> RepairRows:
    """Read and encode every file of the step.

    Raises:
        UserError: no row is left to forget, or to replay where replay rows are called for.
    """
    from pyrite.train.rows import encode_rows

    files = context.config["files"]
    records = {role: read_language(context.inputs[role] / files[role]) for role in ROLES if role in files}
    chats = any(isinstance(record, Chat) for role_records in records.values() for record in role_records)
    part = settings.part or ("answers" if chats else "all")
    for role, role_records in records.items():
        if part == "answers" and role_records and not any(isinstance(record, Chat) for record in role_records):
            detail = f"{role}: {len(role_records)} rows of plain text, beside chats"
            raise UserError(
                "Answers are learned, and some rows have none.", detail, "give chats on both sides, or --part all"
            )
    longest = token_limit(load.parsed_config(context.inputs.get("under", context.inputs["base"])), tokenizer)
    size = min(settings.max_tokens, longest or settings.max_tokens)
    long_rows = "drop" if method.kind in ("pair", "answer") else settings.long_rows
    template_kwargs = context.config.get("chat_template_kwargs")
    on_bad_row = context.config.get("on_bad_row", "stop")
    encoded, counts = {}, {}
    for role, role_records in records.items():
        plain = role.removeprefix("guard_")
        encoded[role], counts[role] = encode_rows(
            tokenizer,
            role_records,
            part,
            size,
            long_rows=long_rows,
            role=plain,
            on_bad_row=on_bad_row,
            template_kwargs=template_kwargs,
        )
    check_left(encoded, counts)
    check_guard(encoded, counts, settings)
    if method.kind in ("pair", "answer"):
        for side in ("", "guard_"):
            side_records, forget = records.get(f"{side}forget", []), encoded.get(f"{side}forget", [])
            encoded[f"{side}preferred"] = refusal_rows(
                tokenizer, side_records, forget, part, size, on_bad_row, template_kwargs
            )
    guard = guard_rows(encoded)
    prompts = [list(row.ids[: row.learned.index(True)]) for row in encoded.get("guard_replay", [])]
    room = (longest or size + settings.guard.answer_tokens) - settings.guard.answer_tokens
    counts_by_role = {role: tell(role_records) for role, role_records in counts.items()}
    return RepairRows(
        encoded["forget"], encoded.get("preferred", []), encoded.get("replay", []), guard,
        [prompt for prompt in prompts if 0 < len(prompt) <= room], counts_by_role,
    )  # fmt: skip


def refusal_rows(
    tokenizer: Any,
    records: Sequence[Chat | Text],
    forget: list[Any],
    part: Any,
    max_tokens: int,
    on_bad_row: str,
    template_kwargs: Mapping[str, Any] | None,
) -> list[Any]:
    """For every encoded forget row, its prompt with an answer that says nothing; both get one unit."""
    from pyrite.train.rows import encode_rows

    by_id = {record.id: record for record in records}
    refused = [refusal_to(by_id[row.id], number) for number, row in enumerate(forget)]
    rows, _ = encode_rows(
        tokenizer,
        refused,
        part,
        max_tokens,
        long_rows="drop",
        role="preferred",
        on_bad_row=on_bad_row,
        template_kwargs=template_kwargs,
    )
    by_row_id = {row.id: row for row in rows}
    forget[:] = [replace(row, number=at, unit=at) for at, row in enumerate(r for r in forget if r.id in by_row_id)]
    return [replace(by_row_id[row.id], number=row.number, unit=row.number) for row in forget]


def tell(counts: dict[str, int]) -> dict[str, Any]:
    """Counts of rows, with those dropped under their reasons."""
    not_dropped = {"read", "used", "split", *REMARKS}
    dropped = {reason: count for reason, count in counts.items() if count and reason not in not_dropped}
    remarks = {name: counts[name] for name in REMARKS if counts.get(name)}
    row_counts = {"read": counts["read"], "used": counts["used"], "split": counts["split"], "dropped": dropped}
    return {**row_counts, **({"chat template": remarks} if remarks else {})}


def prepare(context: Context, settings: RepairSettings, compute: Compute, seed: int) -> Any:
    """The model, ready to train: with the repair's adapter, over one that it came with where that is kept."""
    from pyrite.repair.reference import ADAPTER

    base = context.inputs["base"]
    training_method = settings.training.method
    under = context.inputs.get("under")
    model = load_to_train(under or base, compute, training_method)
    if training_method == "full":
        if under is not None:
            detail = "adapter: keep with training.method full"
            raise UserError("All weights cannot be trained beneath an adapter.", detail, "--adapter merge, or lora")
        return model
    if under is not None:
        model = adapters.with_adapter(model, base, train=False)
    lora = settings.training.lora
    return adapters.add_adapter(model, lora, "CAUSAL_LM", seed=seed, four_bit=training_method == "qlora", name=ADAPTER)


def reader(model: Any, tokenizer: Any) -> Any:
    """The model, read row by row without padding."""
    from pyrite.train.packed import row_reader

    return row_reader(model)


def forward(reader: Any, rows: Sequence[Any], layer: int | None = None) -> Any:
    """The hidden states that predict the rows' learned tokens."""
    from pyrite.repair.reference import forward_tokens

    return forward_tokens(reader, rows, layer)


def save_full_model(model: Any, tokenizer: Path, context: Context, compute: Compute) -> None:
    """The trained model as a whole, an adapter that it came with merged first."""
    base, under = context.inputs["base"], context.inputs.get("under")
    beneath = base if under is not None and hasattr(model, "peft_config") else None
    name = context.config["base_name"]
    language.save_full_model(model, tokenizer, under or base, context.out, name, beneath=beneath)
