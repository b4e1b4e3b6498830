"""Negative log-likelihood of texts under a model, in nats, over the tokens that count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyrite.models.rows import Pass, layout, reader_of
from pyrite.models.spread import device_of
from pyrite.models.template import PINNED_DATE, chat_with_answers, has_pinned_date, opening_ids, render_chat
from pyrite.models.work import BATCH_TOKENS, HEAD_ROWS, ReportProgress
from pyrite.records import Chat, Text

Part = Literal["all", "answers"]
LN2 = math.log(2)
"""Nats in a bit."""


@dataclass(frozen=True, slots=True)
class TextNll:
    """One row: nats summed over `tokens` predicted tokens, which stand for `bytes` bytes of text (UTF-8).

    `windows` is how many pieces the row was read in; a token at a piece's beginning has nothing before it and is not
    counted (`skipped`).
    """

    nats: float
    tokens: int
    bytes: int
    windows: int
    skipped: int


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Token ids of a text; for each token whether it counts, and how many bytes of counted text it adds (a character
    of several tokens adds its bytes once); `remarks` on how the chat template wrote it."""

    ids: list[int]
    counted: list[bool]
    bytes: list[int]
    remarks: tuple[str, ...] = ()


def encode_record(
    tokenizer: Any, record: Chat | Text, part: Part, *, template_kwargs: Mapping[str, Any] | None = None
) -> EncodedText:
    """A record's tokens and which of them count: all, or those that hold characters of an answer.

    A chat is rendered by the tokenizer's template; where answers stand is told by `pyrite.models.template`. A token that
    holds the end of what precedes an answer beside its beginning counts, too.

    Raises:
        RowRefused: the template refuses the chat, or its answers cannot be located in it.
    """
    row_name, remarks = f"row {record.id}", tuple[str, ...]()
    if isinstance(record, Text):
        text, spans = record.text, [(0, len(record.text))] if part == "all" else []
    elif part == "answers":
        rendered = chat_with_answers(tokenizer, record, row_name=row_name, template_kwargs=template_kwargs)
        text, spans, remarks = rendered.text, rendered.spans, rendered.remarks
    else:
        tools = record.meta.get("tools")
        text = render_chat(
            tokenizer, record.messages, opened=False, row_name=row_name, tools=tools, template_kwargs=template_kwargs
        )
        spans, remarks = [(0, len(text))], (PINNED_DATE,) if has_pinned_date(tokenizer, text, tools) else ()
    encoded = tokenizer(
        text, add_special_tokens=isinstance(record, Text), return_offsets_mapping=True, return_special_tokens_mask=True
    )
    ids, counted, sizes, end_before = list(encoded["input_ids"]), [], [], 0
    added_tokens = encoded["special_tokens_mask"]
    for (start, end), added in zip(encoded["offset_mapping"], added_tokens, strict=True):
        if start == end and not added:  # some tokenizers leave blanks out of their offsets
            start = end = end_before
        answer_starts = [] if added and start == end else [a for a, b in spans if start < b and max(end, start + 1) > a]
        counted.append(bool(answer_starts))
        sizes.append(len(text[max(end_before, answer_starts[0]) : end].encode()) if answer_starts else 0)
        end_before = max(end_before, end)
    if isinstance(record, Chat) and not tokenizer.chat_template:
        before = opening_ids(tokenizer)
        ids, counted, sizes = before + ids, [False] * len(before) + counted, [0] * len(before) + sizes
    return EncodedText(ids, counted, sizes, tuple(remarks))


def windows(row: EncodedText, size: int) -> list[tuple[int, int]]:
    """Pieces [from, to) of a row of at most `size` tokens each; every piece but the first begins with the last token of
    the one before, which it reads but does not count, so that no token is lost but the row's first."""
    pieces = [(0, min(size, len(row.ids)))]
    while pieces[-1][1] < len(row.ids):
        start = pieces[-1][1] - 1
        pieces.append((start, min(start + size, len(row.ids))))
    return pieces


def text_nlls(
    model: Any,
    rows: Sequence[EncodedText],
    *,
    max_tokens: int,
    report_progress: ReportProgress,
    batch_tokens: int | None = None,
) -> list[TextNll]:
    """The negative log-likelihood of each row under a causal model, in the order of the rows.

    The vocabulary is looked at only at the positions that are counted, a few at a time.
    """
    import torch

    pieces = [
        (at, start, end)
        for at, row in enumerate(rows)
        for start, end in windows(row, max_tokens)
        if any(row.counted[start + 1 : end])
    ]
    pieces.sort(key=lambda piece: (piece[1] - piece[2], piece))
    nats, tokens, n_bytes = [0.0] * len(rows), [0] * len(rows), [0] * len(rows)
    with torch.inference_mode():
        read = HiddenStates(model)
        size = batch_tokens or BATCH_TOKENS[device_of(model).type]
        at = 0
        while at < len(pieces):
            batch = [pieces[at]]
            room = size - (pieces[at][2] - pieces[at][1])
            while at + len(batch) < len(pieces) and pieces[at + len(batch)][2] - pieces[at + len(batch)][1] <= room:
                batch.append(pieces[at + len(batch)])
                room -= batch[-1][2] - batch[-1][1]
            hidden = read([rows[of].ids[start:end] for of, start, end in batch])
            places, target, owner = [], [], []
            offset = 0
            for of, start, end in batch:
                for place in range(start + 1, end):
                    if rows[of].counted[place]:
                        places.append(offset + place - 1 - start)
                        target.append(rows[of].ids[place])
                        owner.append(of)
                        n_bytes[of] += rows[of].bytes[place]
                offset += end - start
            step = HEAD_ROWS[device_of(model).type]
            for first in range(0, len(places), step):
                logits = read.logits(hidden[torch.tensor(places[first : first + step], device=hidden.device)]).float()
                goal = torch.tensor(target[first : first + step], device=hidden.device)
                loss = logits.logsumexp(-1) - logits.gather(-1, goal[:, None])[:, 0]
                for of, value in zip(owner[first : first + step], loss.tolist(), strict=True):
                    nats[of] += value
                    tokens[of] += 1
            at += len(batch)
            report_progress(at, len(pieces), "pieces of text")
    results = []
    for at, row in enumerate(rows):
        skipped = sum(row.counted) - tokens[at]
        results.append(TextNll(nats[at], tokens[at], n_bytes[at], len(windows(row, max_tokens)), skipped))
    return results


class HiddenStates:
    """The last hidden states of rows, side by side: row-wise where the model can be read so, else row by row."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.reader = reader_of(model)

    def __call__(self, rows: list[list[int]]) -> Any:
        import torch

        if self.reader is None:
            device = device_of(self.model)
            out = [self.model(torch.tensor([row], device=device), use_cache=False).logits[0] for row in rows]
            return torch.cat(out)
        flat = torch.tensor([token for row in rows for token in row], device=self.reader.device)
        positions = torch.cat([torch.arange(len(row), device=self.reader.device) for row in rows])
        return self.reader.hidden(flat, positions, Pass(layout([len(row) for row in rows], 0, self.reader.device)))

    def logits(self, hidden: Any) -> Any:
        """The vocabulary's logits; where the model was read plainly, it gave them already."""
        return hidden if self.reader is None else self.reader.logits(hidden)
