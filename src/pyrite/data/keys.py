"""When are two rows the same? One reading, for leak notes, overlap tables, copies, groups and pools.

Two texts are the same up to Unicode's compatibility forms (NFKC), case, and blanks: `same_text`. Two labelled rows are the
same where all their fields are, whatever their labels; two chats where all turns but the system's are (`row_key`).

Another reading is named where it is wanted: `as_written` (the cleaning of human sources, as arXiv 2502.07164 does it: only
copies letter by letter) and the audit's words only (`audit.minhash`: punctuation does not count, a flaw's own question).
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from pyrite.records import Chat, Labelled, Text


def same_text(text: str) -> str:
    """What two texts have in common that are the same: NFKC, without regard to case, runs of blanks as one.

    >>> same_text("Two  Words ") == same_text("ｔｗｏ words")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


NEGATED_ENTAILMENT = re.compile(r"(not|non)[-_ ]?entailment")


def label_key(label: str) -> str:
    """What two spellings of a label have in common: their letters without regard to case; all of "not entailment" are one.

    >>> {label_key(label) for label in ("non-entailment", "NOT_ENTAILMENT", "not entailment", "nonentailment")}
    {'non-entailment'}
    """
    plain = label.strip().lower()
    return "non-entailment" if NEGATED_ENTAILMENT.fullmatch(plain) else plain


def same_fields(row: Labelled) -> tuple[str, ...]:
    """What two labelled rows have in common that are the same: every field as `same_text`, whatever the label."""
    return tuple(map(same_text, row.fields.values()))


def as_written(row: Labelled) -> tuple[str, ...]:
    """The stricter reading of a labelled row: its fields letter by letter."""
    return tuple(row.fields.values())


def text_key(parts: Iterable[str]) -> bytes:
    """16 bytes of the hash of texts, the same for texts that are the same, part by part.

    >>> text_key(["Two  words"]) == text_key(["two words "])
    True
    >>> text_key(["two", "words"]) == text_key(["two words"])
    False
    """
    plain = "\0".join(map(same_text, parts))
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def row_key(record: Chat | Text | Labelled) -> bytes:
    """The key of a whole row; of a chat, of all its turns but the system's, so that a new system text makes no new row.
    Of a labelled row, of its fields: another label makes no other row, but a contradiction."""
    if isinstance(record, Text):
        return text_key([record.text])
    if isinstance(record, Labelled):
        return text_key(record.fields.values())
    turns = [turn for turn in record.messages if turn.role != "system"]
    return text_key(part for turn in turns for part in (turn.role, turn.content, *filter(None, [turn.tool_calls])))


def prompt_key(record: Chat | Text | Labelled) -> bytes | None:
    """The key of what stands before a chat's first answer; None for other rows, and for a chat that has no prompt."""
    if not isinstance(record, Chat):
        return None
    prompt = []
    for turn in record.messages:
        if turn.role == "assistant":
            break
        if turn.role != "system":
            prompt.append(turn.content)
    return text_key(prompt) if prompt else None
