"""Why answers and a judge's replies are missing: counted by reason, with the first in the endpoint's or judge's words."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyrite.models.answers import WITHHELD, Answer
from pyrite.outputs import storable
from pyrite.probe.texts import why_no_answer
from pyrite.records import Chat
from pyrite.redact import redact_existing_path
from pyrite.stats.missing import MAX_MISSING, too_many_missing
from pyrite.tasks import followbench, mt_bench
from pyrite.tasks.judge import Unread

EXAMPLES = 3
"""So many replies that could not be read are shown."""
SHOWN = 300
"""Characters of each."""


def counted(reasons: Counter[str]) -> str:
    """Reasons with their counts, the most frequent first.

    >>> counted(Counter(["empty", "cut", "cut"]))
    'cut 2, empty 1'
    """
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())


def with_missing(notes: Sequence[str], answers: Sequence[Answer]) -> list[str]:
    """The notes and what a reader must know of missing answers; this first where more are missing than a verdict bears."""
    refused = sum(answer.why_missing == WITHHELD for answer in answers)
    lost = [answer for answer in answers if why_no_answer(answer) not in ("", WITHHELD)]
    own = [f"{refused} answers were refused and count as missing"] if refused else []
    if lost:
        words = lost[0].meta.get("detail")
        reasons = counted(Counter(why_no_answer(answer) for answer in lost))
        note = (
            f"{len(lost)} of {len(answers)} prompts got no answer and count as missing: {reasons}; first: {lost[0].id}"
        )
        own.append(note + (f": {words}" if words else ""))
    n_missing = refused + len(lost)
    if not too_many_missing(n_missing, len(answers)):
        return [*notes, *own]
    share = f"{n_missing / len(answers):.0%} of the answers are missing, more than the {MAX_MISSING:.0%} that a verdict bears"
    return [f"{share}: {own[0]}", *own[1:], *notes]


def request_notes(answers: Sequence[Answer], names: Mapping[str, str], model: str) -> list[str]:
    """What requests left out or sent under another name, by the settings (`names`) or as the server refuses it; who answered."""
    notes = []
    sent: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        request = answer.meta.get("request")
        sent.update((request if isinstance(request, dict) else {}).items())
    for (name, name_sent), count in sorted(sent.items()):
        changed = "left out" if name_sent == "left out" else f"sent as {name_sent}"
        by = "as set" if names.get(name, "left out") == name_sent else "the server refuses it"
        notes.append(
            f"{name} was {changed} ({by}): {count} of {len(answers)} answers{EFFECT[name] * (name_sent == 'left out')}"
        )
    models = sorted({str(answer.meta["model"]) for answer in answers if answer.meta.get("model")})
    if models and model and not any(name in model or model in name for name in models):
        listed = ", ".join(redact_existing_path(name) for name in models)
        notes.append(f"asked for {model}; the server says that it is {listed}")
    mended = sum(answer.meta.get("mended") is True for answer in answers)
    if mended:
        notes.append(f"{mended} replies held bytes that are no Unicode; the replacement character stands for them")
    return notes


EFFECT = {
    "max_tokens": "; the server's own limit cuts them",
    "temperature": "; the server's own temperature applies",
    "top_p": "",
    "seed": "",
    "stop": "; they are cut at the stop strings all the same",
}
"""What leaving a parameter out means for the answers."""


@dataclass
class Readings:
    """What a judge's replies say, by its prompts' ids and in the order of the votes; None where nothing was read."""

    votes: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    unread: list[tuple[Answer, str]] = field(default_factory=list)
    """Replies without a verdict, and why."""

    @property
    def total(self) -> int:
        """How many replies there are."""
        return sum(map(len, self.votes.values()))

    def as_json(self) -> dict[str, Any]:
        """How many replies could not be read, why, and the first of them in the judge's words."""
        examples = [
            {"id": reply.id, "vote": reply.attempt, "why": why, "reply": storable(reply.text, SHOWN)}
            for reply, why in self.unread[:EXAMPLES]
        ]
        reasons = dict(Counter(why for _, why in self.unread).most_common())
        return {"replies": self.total, "unread": len(self.unread), "reasons": reasons, "examples": examples}

    def notes(self) -> list[str]:
        """The same in a sentence."""
        if not self.unread:
            return []
        reply, why = self.unread[0]
        words = " ".join(storable(reply.meta.get("detail") or reply.text, SHOWN).split())
        reasons = counted(Counter(why for _, why in self.unread))
        return [
            f"{len(self.unread)} of {self.total} replies of the judge could not be read and count as missing: {reasons}; "
            f"first: {reply.id}, {why}: {words[-SHOWN // 2 :]!r}"
        ]


def read_replies(task: str, replies: Sequence[Answer], prompts: Mapping[str, Chat]) -> Readings:
    """The judge's replies, read as the task reads them."""
    readings = Readings()
    for reply in replies:
        outcome = reply.why_missing or verdict_of_reply(task, reply, prompts[reply.id])
        why = str(outcome) if isinstance(outcome, str) else ""
        readings.votes[reply.id].append(None if why else outcome)
        if why:
            readings.unread.append((reply, why))
    return readings


def verdict_of_reply(task: str, reply: Answer, prompt: Chat) -> float | list[bool] | Unread:
    """One reply's verdict, or why it has none; one that was cut before its end is said to be so."""
    if task == "mt_bench":
        verdict: float | list[bool] | Unread = mt_bench.read_rating(reply.text, prompt)
    else:
        verdict = followbench.read_verdict(reply.text, prompt.meta["n_constraints"], prompt)
    cut = reply.finish == "length" and verdict in (Unread.NO_LINE, Unread.NOT_LAST, Unread.FORM)
    return Unread.CUT if cut else verdict
