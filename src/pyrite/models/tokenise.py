"""Texts as token ids where one text follows another: encoded together, then split.

A text alone and the same text after another need not have the same tokens: SentencePiece tokenizers (Llama 2, Mistral,
Gemma, T5) put a `▁` before a text that stands at the beginning, and a byte pair can lie across the border.
"""

from collections.abc import Sequence
from typing import Any

from pyrite.models.prefix import common_length

AT_ONCE = 1024
"""Texts given to the tokenizer at a time."""


def encode_after(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], *, add_special_tokens: bool
) -> list[tuple[list[int], list[int]]]:
    """The token ids of each (context, continuation), encoded as one text: those of the context, and those of the
    continuation.

    A token with any character of the continuation is the continuation's, and so is one without characters at the border
    (a `▁` that begins a word). With `add_special_tokens`, what the tokenizer puts before a text is the context's; what it
    puts after a text (an end marker, `[SEP]`) is left out, as the text goes on.
    """
    split: list[tuple[list[int], list[int]]] = []
    for first in range(0, len(pairs), AT_ONCE):
        chunk = pairs[first : first + AT_ONCE]
        encoded = tokenizer(
            [context + continuation for context, continuation in chunk],
            add_special_tokens=add_special_tokens,
            return_special_tokens_mask=True,
            return_offsets_mapping=tokenizer.is_fast,
        )
        for at, (context, _) in enumerate(chunk):
            ids, added = list(encoded["input_ids"][at]), encoded["special_tokens_mask"][at]
            end = text_end(added)
            if tokenizer.is_fast:
                border = border_by_offsets(encoded["offset_mapping"][at], added, len(context), end)
            else:
                alone = tokenizer(context, add_special_tokens=add_special_tokens)["input_ids"]
                border = common_length(ids[:end], list(alone))
            split.append((ids[:border], ids[border:end]))
    return split


def text_end(added: Sequence[int]) -> int:
    """Where the special tokens begin that the tokenizer puts after a text, given which tokens it added."""
    end = len(added)
    while end and added[end - 1]:
        end -= 1
    return end


def border_by_offsets(offsets: Sequence[tuple[int, int]], added: Sequence[int], characters: int, end: int) -> int:
    """The first token that is not wholly within the first `characters` characters; `end` where there is none."""
    return next(
        (at for at in range(end) if not added[at] and (offsets[at][1] > characters or offsets[at][0] >= characters)),
        end,
    )


def encode_choices(
    tokenizer: Any, contexts: Sequence[str], choices: Sequence[str], *, add_special_tokens: bool
) -> list[tuple[list[int], list[list[int]]]]:
    """For each context its token ids, and those of each choice after it. Where the tokens at the border differ from
    choice to choice, they are the choices': what is left of the context is the same for all of them."""
    pairs = [(context, choice) for context in contexts for choice in choices]
    split = encode_after(tokenizer, pairs, add_special_tokens=add_special_tokens)
    encoded = []
    for first in range(0, len(split), len(choices)):
        rows = [[*before, *after] for before, after in split[first : first + len(choices)]]
        shared = min(len(before) for before, _ in split[first : first + len(choices)])
        shared = min(common_length(rows[0][:shared], row[:shared]) for row in rows)
        encoded.append((rows[0][:shared], [row[shared:] for row in rows]))
    return encoded
