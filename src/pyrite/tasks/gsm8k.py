"""GSM8K: is the number at the end of a grade-school sum right, and is it written in the task's own format?

Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv 2110.14168. A reference answer is a worked
solution whose last line is `#### NUMBER`. The question is asked as it stands: no examples, no added instruction.

How we differ: the original and lm-evaluation-harness (`strict-match`) compare text, of the first `#### NUMBER`; we
compare values (18 is 18.00 and $18), of the last one. Where there is none, the last number of the answer is taken
(lm-evaluation-harness: `flexible-extract`); so accuracy does not hang on the format, which is a metric of its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, open_records
from pyrite.io.raw_row import short_value
from pyrite.io.read_errors import SKIP
from pyrite.records import Chat, Record
from pyrite.tasks.generative import GenerativeTask
from pyrite.tasks.scoring import ItemScore, Metric

STANDARD_NEW_TOKENS = 512
"""How long an answer may be; the limit is ours."""

METRICS: tuple[Metric, ...] = (
    Metric("accuracy", says="the answer's number is the reference's: after its last ####, or else its last one"),
    Metric("format", says="the answer ends with a line `#### NUMBER`, as the reference does"),
)

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<!\w)\.[0-9]+"
_NUMBER = rf"(?:(?<![\w)])[-−])?\$?(?:(?<=\$)[-−])?(?:{_DIGITS})"
"""A minus counts where nothing is left of it that it could be taken from: -5 and $-5, but not 8-5."""
_LAST = re.compile(_NUMBER)
_MARKED = re.compile(rf"####[ \t]*((?>{_NUMBER}))(?![.):][ \t]*\S)")
"""A number after the mark, but not that of a heading (`#### 2. Then …`)."""
_FORMAT = re.compile(r"####[ \t]+-?[0-9][0-9,]*(?:\.[0-9]+)?")


def read_counted(path: Path, on_bad_row: Literal["stop", "skip"] = "stop") -> tuple[list[Chat], Counts]:
    """The questions of a file, each a prompt, and the file's rows by their fate.

    Takes question and answer as published, or any other layout of chats whose last message is the reference answer.
    `meta["gold"]` is the reference's number as text. Ids are those of the rows, or the number of the row; they do not
    depend on the file's name.

    Raises:
        UserError: there is no such file or no row in it, or, unless told to skip, a row is bad: no question with an
            answer, or a reference answer without `#### NUMBER`.
    """
    reader = open_records(path, ReadOptions(on_bad_row=on_bad_row))
    items, dropped = [], 0
    first_bad: UserError | None = None
    for record in reader:
        item = _item(record, Path(path).stem)
        if item is not None:
            items.append(item)
        else:
            dropped += 1
            detail = f"row {record.id} of {path}: {short_value(record)}"
            what = "bad row: no question with an answer that ends in `#### NUMBER`"
            first_bad = first_bad or UserError(what, detail, f"mend it, {SKIP}")
        if first_bad and items and on_bad_row == "stop":  # so that what it says of leaving rows out is true
            raise first_bad
    if not items:
        fix = "give GSM8K's file: question, answer, the answer ending in `#### NUMBER`"
        example = f"; the first is {first_bad.found}" if first_bad else ""
        raise UserError("no row could be read", f"{path}: {dropped} rows without such an answer{example}", fix)
    read = reader.counts
    reasons = {**read.dropped, **({"no reference number": dropped} if dropped else {})}
    return items, Counts(read.read, read.kept - dropped, reasons)


def measure(items: Sequence[Chat], answers: Mapping[str, str | None]) -> list[ItemScore]:
    """Two values for each item, 1 or 0, in the order of the items. No answer gives None; an empty one is wrong."""
    measured = []
    for item in items:
        answer = answers.get(item.id)
        right = None if answer is None else float(final_number(answer) == Decimal(item.meta["gold"]))
        formatted = None if answer is None else float(in_format(answer))
        measured.append(ItemScore(item.id, "accuracy", right, item.id))
        measured.append(ItemScore(item.id, "format", formatted, item.id))
    return measured


def final_number(text: str) -> Decimal | None:
    """The number that an answer ends in: after its last `####`, or else its last one; None where it has none.

    >>> final_number("She makes 9 * 2 = $18.00 a day."), final_number("#### 70,000"), final_number("I cannot tell.")
    (Decimal('18.00'), Decimal('70000'), None)
    """
    numbers = _MARKED.findall(text) or _LAST.findall(text)
    return Decimal(numbers[-1].replace(",", "").replace("$", "").replace("−", "-")) if numbers else None


def in_format(text: str) -> bool:
    """Is an answer's last line `#### NUMBER` and nothing else?

    >>> in_format("9 * 2 = 18\\n#### 18"), in_format("The answer is #### 18"), in_format("#### 18 dollars")
    (True, False, False)
    """
    *_, last = text.rstrip().splitlines() or [""]
    return _FORMAT.fullmatch(last) is not None


def _item(record: Record, stem: str) -> Chat | None:
    """A row as the prompt that is asked, its reference number beside it; None where it has not both."""
    if not isinstance(record, Chat) or [message.role for message in record.messages[-2:]] != ["user", "assistant"]:
        return None
    *prompt_messages, reference = record.messages
    marked = _MARKED.findall(reference.content)
    if not marked:
        return None
    gold = str(final_number(reference.content))
    return replace(
        record,
        messages=tuple(prompt_messages),
        id=record.id.removeprefix(f"{stem}:"),
        meta={**record.meta, "gold": gold},
    )


TASK = GenerativeTask(
    "gsm8k",
    read_counted,
    STANDARD_NEW_TOKENS,
    METRICS,
    usual=(1319, STANDARD_NEW_TOKENS),
    cluster="questions",
    by_rule=measure,
)
