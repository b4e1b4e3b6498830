"""What an audit sees of a record: what was asked, what was answered, the label, and where the row stands."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyrite.io import turn_text
from pyrite.records import Chat, Labelled, Pair, Record, Text
from pyrite.thoughts import has_thought, split_thought

AnswerPart = Literal["answer", "final", "thought"]
"""What is measured of an answer: all of it, what follows its thought, or the thought."""
PART_WORDS: Mapping[AnswerPart, str] = {"answer": "answer", "final": "final answer", "thought": "thought"}


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a source.

    `number` is the record's place among the kept records of its source, from 0, and with `id` names it to the user.
    `prompt` is what was asked (empty for plain text) without the system text, which many rows share and which stands in
    `system`; `answers` what a model or a person wrote in reply: the
    assistant's turns, the hypothesis of a pair, the joined fields of a labelled row, the whole of a plain text; none where
    nothing was written (turns of blanks count as nothing). `label`
    and `fields` are there for labelled rows and pairs only. `source` says which reference (or data file) the row comes
    from, `cluster` which rows come from one author, article or conversation (empty: a row of its own)."""

    number: int
    id: str
    prompt: str
    answers: tuple[str, ...]
    label: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    cluster: str = ""
    system: str = ""

    @property
    def text(self) -> str:
        """What was asked, then the answers."""
        return "\n".join([self.prompt, *self.answers] if self.prompt else self.answers)

    @property
    def whole_text(self) -> str:
        """Everything that a model reads of the row: the system text, what was asked, the answers."""
        return f"{self.system}\n{self.text}" if self.system else self.text

    @property
    def whole_prompt(self) -> str:
        """Everything that a model reads before the answers: the system text and what was asked."""
        return "\n".join(text for text in (self.system, self.prompt) if text)

    @property
    def parts(self) -> tuple[str, str]:
        """The two sides of a row, both of which copies have in common: what was asked and the answers; of labelled rows
        the fields before the last, and the last."""
        if self.fields:
            *before, last = self.fields.values()
            return "\n".join(before), last
        return self.prompt, self.answer

    @property
    def answer(self) -> str:
        """All answers of the row as one text."""
        return self.answers[0] if len(self.answers) == 1 else "\n".join(self.answers)

    def as_json(self) -> dict[str, Any]:
        """As plain values; `row_from_json` reads it back."""
        values: dict[str, Any] = {"number": self.number, "id": self.id, "prompt": self.prompt}
        values |= {"answers": self.answers, "source": self.source}
        values |= {"cluster": self.cluster} if self.cluster else {}
        values |= {"system": self.system} if self.system else {}
        return values | ({"label": self.label, "fields": dict(self.fields)} if self.fields else {})


def row_from_json(values: Mapping[str, Any]) -> Row:
    """The row that `Row.as_json` told."""
    return Row(**{**values, "answers": tuple(values["answers"])})


def audit_row(record: Record, number: int, source: str = "") -> Row:
    """A record as an audit sees it."""
    match record:
        case Chat():
            prompt = "\n".join(turn.content for turn in record.messages if turn.role in ("user", "tool"))
            answers = written(turn_text(turn) for turn in record.messages if turn.role == "assistant")
            system = "\n".join(turn.content for turn in record.messages if turn.role == "system")
            return Row(number, record.id, prompt, answers, source=source, system=system)
        case Pair():
            fields = {"premise": record.premise, "hypothesis": record.hypothesis}
            return Row(number, record.id, record.premise, (record.hypothesis,), record.label, fields, source)
        case Labelled():
            joined = "\n".join(record.fields.values())
            return Row(number, record.id, "", (joined,), record.label, dict(record.fields), source)
        case Text():
            return Row(number, record.id, "", written([record.text]), source=source)


def written(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that hold something."""
    return tuple(text for text in texts if text.strip())


def holds_thought(row: Row) -> bool:
    """Whether one of a row's answers has a thought that can be told from its final answer."""
    return not row.fields and any(has_thought(answer) for answer in row.answers if "<" in answer or "[" in answer)


def part_of(row: Row, part: AnswerPart) -> Row:
    """The row with only so much of its answers: `final` what follows the thought, `thought` the thought; no answer where it
    has no such part (`lacks_part`). Labelled rows stay as they are."""
    if part == "answer" or row.fields:
        return row
    thoughts = [split_thought(answer) for answer in row.answers]
    return replace(row, answers=written(each.answer if part == "final" else each.thought for each in thoughts))


def lacks_part(row: Row, part: AnswerPart) -> bool:
    """Whether only a part of the answers is measured, and the row (as `part_of` returns it) has none of it."""
    return part != "answer" and not row.answers


def cluster_of(record: Record, column: str) -> str:
    """What a record's column says it belongs to; empty where it does not have the column."""
    fields: Mapping[str, Any] = record.fields if isinstance(record, Labelled) else {}
    if isinstance(record, Pair):
        fields = {"premise": record.premise, "hypothesis": record.hypothesis}
    value = record.meta.get(column, fields.get(column))
    return "" if value is None else str(value)


def as_rows(records: Iterable[Record], source: str = "") -> Iterator[Row]:
    """Records as an audit sees them, numbered from 0."""
    return (audit_row(record, number, source) for number, record in enumerate(records))
