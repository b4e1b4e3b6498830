"""What models write to prompts: the settings, the answer, and the file that an interrupted run resumes from.

A prompt is a `Chat` whose last message is the user's; its id is unique among the prompts of a run.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import orjson
from pydantic import Field

from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.io import complete_lines
from pyrite.records import Chat

Finish = Literal["stop", "length", "refused", "missing"]
"""Why an answer ends: by itself (end marker or stop string), at the token limit, or withheld by the model's owner;
"missing": no answer could be had, for the reason in its `meta`."""
WITHHELD = "withheld"


class Writing(ConfigBase):
    """How answers are written. Temperature 0 takes the most probable token each time."""

    max_new_tokens: int = Field(1280, ge=1, description="an answer is cut after so many tokens")
    temperature: float = Field(0.0, ge=0, description="0: always the most probable token")
    top_p: float = Field(1.0, gt=0, le=1, description="sample from the smallest set of tokens with this probability")
    stop: tuple[str, ...] = Field((), description="an answer ends before the first of these strings; repeatable")
    seed: int = Field(0, ge=0, description="seed of sampling; each prompt draws from its own generator")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the text without end marker or stop string, why it ended, and its size in tokens.

    `prompt_tokens` and `tokens` are None where an endpoint does not say. `attempt` numbers votes on one prompt.
    `thought` is what a reasoning model thought first, where an endpoint sends it apart from the answer.
    """

    id: str
    text: str
    finish: Finish
    tokens: int | None = None
    prompt_tokens: int | None = None
    attempt: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    thought: str = ""

    @property
    def why_missing(self) -> str:
        """Why is there no answer, in a few words? "" where there is one; an empty text is an answer."""
        if self.finish == "refused":
            return str(self.meta.get("reason") or WITHHELD)
        return str(self.meta.get("missing") or "no reason stored") if self.finish == "missing" else ""

    def as_line(self) -> bytes:
        """The answer as a line of a file; a thought only where there is one."""
        fields = asdict(self)
        if not self.thought:
            del fields["thought"]
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


class AnswerFile:
    """Answers as JSON lines, appended one by one as they arrive, so that a killed run loses none that were finished.

    Opening it reads what an earlier attempt left; a torn last line is cut off. Used as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[tuple[str, int], Answer] = {}
        for line in complete_lines(path):
            row = Answer(**orjson.loads(line))
            self.done[row.id, row.attempt] = row
        self._sink = path.open("ab")

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sink.close()

    def add(self, answer: Answer) -> None:
        """Append an answer; it is on its way to the disk when this returns."""
        self.done[answer.id, answer.attempt] = answer
        self._sink.write(answer.as_line())
        self._sink.flush()

    def missing(self, prompts: Sequence[Chat], attempt: int = 0) -> list[Chat]:
        """The prompts that have no answer yet, in order."""
        return [prompt for prompt in prompts if (prompt.id, attempt) not in self.done]


def write_answers(answers: Iterable[Answer], path: Path) -> None:
    """All answers in the given order, so that a finished file does not depend on who answered first."""
    with path.open("wb") as sink:
        for answer in answers:
            sink.write(answer.as_line())
        sink.flush()
        os.fsync(sink.fileno())


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers of a finished file."""
    with path.open("rb") as source:
        for line in source:
            yield Answer(**orjson.loads(line))


def check_ids(prompts: Sequence[Chat]) -> None:
    """Refuse prompts of one id: their answers could not be told apart."""
    ids: set[str] = set()
    for prompt in prompts:
        if prompt.id in ids:
            raise UserError("Two prompts have the same id.", prompt.id, "give every prompt its own id")
        ids.add(prompt.id)
