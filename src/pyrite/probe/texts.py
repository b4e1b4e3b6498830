"""What was asked and what was answered, in words, for a reader of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyrite.io import turn_text
from pyrite.models.answers import Answer
from pyrite.records import Chat, Labelled, Record, Text
from pyrite.thoughts import has_thought, split_thought

OPEN_THOUGHT = "ended within its thought: raise --max-new-tokens"


@dataclass(frozen=True)
class Texts:
    """One subject's texts on one task, by item; an item that was not answered has no answer, and none is made up."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[str, str] = field(default_factory=dict)
    """The right label, where the task has one."""


def of_labels(items: Sequence[Labelled], answers: Mapping[str, str | None]) -> Texts:
    """Labelled items: their fields, the labels that were given, and the right ones."""
    labels = {item.id: answers.get(item.id) for item in items}
    return Texts(
        {item.id: with_names(list(item.fields.items())) for item in items},
        {item: label for item, label in labels.items() if label is not None},
        {item.id: item.label for item in items if item.label is not None},
    )


def final_answer(answer: Answer) -> str | None:
    """What follows the thought; None where there is no answer (`why_no_answer`)."""
    return None if why_no_answer(answer) else split_thought(answer.text).answer


def why_no_answer(answer: Answer) -> str:
    """Why is there nothing to grade, in a few words: withheld, missing, or a thought that never ended; "" where there is."""
    return answer.why_missing or ("" if split_thought(answer.text).closed else OPEN_THOUGHT)


def texts_of(answers: Sequence[Answer]) -> dict[str, str | None]:
    """Each prompt's final answer; None where there is none."""
    return {answer.id: final_answer(answer) for answer in answers}


def thought_notes(answers: Sequence[Answer]) -> list[str]:
    """How many answers hold a thought: what follows it is graded."""
    n_thoughts = sum(has_thought(answer.text) or bool(answer.thought) for answer in answers)
    return [f"{n_thoughts} of {len(answers)} answers hold a thought: what follows it is graded"] if n_thoughts else []


def of_answers(items: Sequence[Chat], answers: Mapping[str, str | None], turns: int) -> Texts:
    """Prompts and written answers; a benchmark of several turns asks and answers them under one item, joined.

    The answer to the second turn of an item goes by `ITEM/2`.
    """
    if turns == 1:
        prompts = {item.id: prompt_text(item) for item in items}
        return Texts(prompts, {item: text for item, text in answers.items() if text is not None and item in prompts})
    prompts, replies = {}, {}
    for item in items:
        prompts[item.id] = with_names([(f"turn {at}", text) for at, text in enumerate(item.meta["turns"], 1)])
        ids = [item.id, *(f"{item.id}/{at}" for at in range(2, turns + 1))]
        turns_given = [(f"turn {at}", answers.get(turn_id)) for at, turn_id in enumerate(ids, 1)]
        present = [(name, text) for name, text in turns_given if text is not None]
        if present:
            replies[item.id] = with_names(present)
    return Texts(prompts, replies)


def prompt_text(record: Record) -> str:
    """A prompt, chat or text as one text; who speaks is named where there are several turns."""
    match record:
        case Text():
            return record.text
        case Chat():
            turns: list[tuple[str, str]] = [(turn.role, turn_text(turn)) for turn in record.messages]
            return with_names(turns)
        case Labelled():
            return with_names(list(record.fields.items()))
        case _:
            return with_names([("premise", record.premise), ("hypothesis", record.hypothesis)])


def with_names(parts: Sequence[tuple[str, str]]) -> str:
    """Several texts as one, each under its name; a single one stands alone.

    >>> print(with_names([("premise", "It rains."), ("hypothesis", "It is wet.")]))
    premise: It rains.
    hypothesis: It is wet.
    """
    if len(parts) == 1:
        return parts[0][1]
    return "\n".join(f"{name}: {text}" for name, text in parts)
