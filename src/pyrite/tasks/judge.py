"""What tasks that a model judges share: who judged, how texts are fenced, how a verdict is read, how noisy it is.

A judge is an instrument with an error of its own. Its name, version and prompt go into the result, and a difference
that its own noise could make is no finding. What it judges is untrusted: an answer may hold orders to the judge, or
lines in the verdict's own layout. So texts stand between marks that occur in none of them, and a verdict is read from
the judge's reply alone: from its last line, and only where no other line looks like one.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import fmean, stdev, variance
from typing import Any

from pydantic import Field

from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.records import Estimate
from pyrite.stats import Verdict
from pyrite.thoughts import split_thought

RUN_TO_RUN = (0.16, 0.2)
"""How far MT-Bench's overall score (1-10) moves between runs of a judge on the same answers, as published."""


class Judge(ConfigBase):
    """Who judged, and how: stored with every result, as results of two judges cannot be compared.

    A name alone may change its meaning from day to day, so what the server says about itself is kept as well: every
    model name and every fingerprint that it sent during the run. More than one of either means that the judge changed
    under way.
    """

    model: str = Field(min_length=1, description="the judge as asked for; pin a dated version, not an alias")
    prompts: str = Field(min_length=1, description="hash of the judge prompts, `PROMPTS` of the task")
    votes: int = Field(1, ge=1, description="how often each answer is judged; 2 or more show the judge's noise")
    temperature: float = Field(0.0, ge=0, description="the judge's sampling temperature")
    versions: tuple[str, ...] = Field((), description="model names that the server sent back")
    fingerprints: tuple[str, ...] = Field((), description="system fingerprints that the server sent back")

    @property
    def steady(self) -> bool:
        """Did the server name at most one version and one fingerprint?"""
        return len(set(self.versions)) <= 1 and len(set(self.fingerprints)) <= 1

    def as_json(self) -> dict[str, Any]:
        """The judge as plain values, for `--json` and run folders."""
        return {**self.model_dump(mode="json"), "steady": self.steady}


def prompt_hash(*templates: str) -> str:
    """The first 12 hex digits of the SHA-256 of prompt templates: another wording is another instrument."""
    return hashlib.sha256("\0".join(templates).encode()).hexdigest()[:12]


def fence_key(*texts: str) -> str:
    """Eight hex digits that occur in none of the texts; the same texts give the same key."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass"))
    while any(digest.hexdigest()[:8] in text for text in texts):
        digest.update(b"again")
    return digest.hexdigest()[:8]


def fenced_text(name: str, text: str, key: str) -> str:
    """A text between marks that it cannot close itself, as they carry a key that does not occur in it."""
    assert key not in text, name
    return f"<<< {name} {key}\n{text}\n{name} {key} >>>"


class Unread(StrEnum):
    """Why a judge's reply holds no verdict."""

    EMPTY = "empty"
    CUT = "cut at the limit before its verdict"
    THOUGHT = "cut within its thought"
    NO_LINE = "no line of the verdict's form"
    NOT_LAST = "its verdict is not the last line"
    SEVERAL = "several verdicts"
    FORM = "its verdict has another form"
    SCALE = "its verdict is outside the scale"
    ECHO = "its verdict stands in what it judges already"


def verdict_text(reply: str, word: str, prompt: str = "") -> str | Unread:
    """What stands behind `word:` in the last line of a judge's reply, or why nothing is read.

    Nothing is read where that line is another one, or where a second line starts with `word:` (a quoted answer, a
    change of mind): then nobody can say which one is the verdict. Asterisks, underscores and # around the line are let
    pass; quote marks are not. Of a reasoning judge only what follows its thought counts, and nothing of one cut off
    before.

    `prompt` is the judge's prompt. A line that stands in it already may be an echo of the answer, so it is not read
    either: that loses a verdict which happens to be the one an answer asks for, and never takes an answer's for the
    judge's.
    """
    if not reply.strip():
        return Unread.EMPTY
    thought = split_thought(reply)
    if not thought.closed:
        return Unread.THOUGHT
    lines = [line.rstrip() for line in thought.answer.splitlines() if line.strip()]
    looks = re.compile(rf"[\W_]*{re.escape(word)}[\s*_]*:(.*)", re.IGNORECASE)
    verdicts = [line for line in lines if looks.match(line)]
    if len(verdicts) != 1:
        return Unread.SEVERAL if verdicts else Unread.NO_LINE
    if verdicts[0] is not lines[-1]:
        return Unread.NOT_LAST
    match = re.fullmatch(rf"[*_#]*\s?{re.escape(word)}[*_]*:(.*)", lines[-1], re.IGNORECASE)
    if match is None:
        return Unread.FORM
    echoes = {_squeezed(line[1]) for line in map(looks.match, prompt.splitlines()) if line is not None}
    return Unread.ECHO if _squeezed(match[1]) in echoes else match[1].strip(" \t*_")


def _squeezed(text: str) -> str:
    """Letters, digits and what is between them, so that two ways to write a verdict look alike."""
    return re.sub(r"\s+", "", text).strip("*_.\"'`").casefold()


def vote_noise(votes: Mapping[str, Sequence[float | None]], *, default: float | None = None) -> Estimate:
    """How far does the judge alone move the benchmark's score? In the score's units; n counts items.

    `votes` maps an item to its readings in the order of the votes, None where the judge refused or could not be read;
    what an item lacks against the longest is missing too. Only items with every vote count, so that scores of two
    votes are about the same items; the others are `n_missing`. With votes x[i, v] of n items, k votes each:

        scores     S[v] = mean over i of x[i, v]
        between    sqrt( sum over v of (S[v] - mean S)^2 / (k - 1) )
        within     sqrt( sum over i of var_v(x[i, v]) ) / n,   var with k - 1

    Both estimate the standard deviation of a score from one vote where votes are drawn on their own. The larger is
    the value: `between` sees a judge that drifts from vote to vote, and `within` does not vanish where two scores
    agree by chance. The mean of k votes is steadier, by up to sqrt(k); the value does not take credit for that.

    With one vote no noise can be seen: the value is `default`, a published figure (`RUN_TO_RUN` for MT-Bench), or NaN
    where there is none. It is NaN too where no item has every vote. No interval is given.

    Raises:
        UserError: there are no items, or a reading is not finite.
    """
    if not votes:
        raise UserError("There are no votes to find a judge's noise from.", "0 items", "judge some answers first")
    for item, readings in votes.items():
        if any(reading is not None and not math.isfinite(reading) for reading in readings):
            raise UserError(
                "A vote is not a finite number.", f"{item}: {list(readings)}", "pass None where it is missing"
            )
    k = max(len(readings) for readings in votes.values())
    full = [[r for r in readings if r is not None] for readings in votes.values()]
    full = [readings for readings in full if readings and len(readings) == k]
    n, lost = len(full), len(votes) - len(full)
    if k < 2:
        method = "one vote cannot show noise" if default is None else "one vote cannot show noise: a published figure"
        return _noise(float("nan") if default is None else default, n, lost, method)
    if n == 0:
        return _noise(float("nan"), 0, lost, "no item has every vote")
    between = stdev(fmean(scores) for scores in zip(*full, strict=True))
    within = math.sqrt(sum(variance(readings) for readings in full)) / n
    method = f"standard deviation of one vote's score over {k} votes (between {between:.4g}, within {within:.4g})"
    return _noise(max(between, within), n, lost, method)


def _noise(value: float, n: int, n_missing: int, method: str) -> Estimate:
    return Estimate(value, None, None, n, n_missing, direction="lower", method=method)


def verdict_against_noise(difference: Estimate, noise: Estimate | float) -> Verdict:
    """Is a judged change better, worse, or no more than the judge's own noise?

    `difference` is arm minus comparison with its interval over questions, `noise` what `vote_noise` says, in the same
    units. "better" or "worse" needs both: the interval excludes 0, and the change is larger than the noise. The
    interval holds noise that differs from question to question; the second condition guards against a judge that
    moves all questions at once. Where either number is unknown (NaN, no interval) the word is "cannot tell yet".

    Raises:
        UserError: a direction "none", or a noise below 0.
    """
    if difference.direction == "none":
        raise UserError('"worse" and "better" need a direction.', 'direction = "none"', 'pass "higher" or "lower"')
    size = noise.value if isinstance(noise, Estimate) else noise
    if size < 0:
        raise UserError("A judge's noise is not below 0.", f"{size}", "pass a standard deviation")
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return Verdict.CANNOT_TELL
    if not abs(difference.value) > size:
        return Verdict.CANNOT_TELL
    return Verdict.BETTER if (difference.value > 0) == (difference.direction == "higher") else Verdict.WORSE
