"""What a flaw family is: how it reads a whole data set once, what it compares, and which rows show the flaw.

A family is a module of this folder with these functions; `pyrite.audit.flaws.registry` finds them. All are pure but for the
folder that a stream is given. What shows a finding is told by the module of the same name in `pyrite.audit.evidence`.

    class Stream            reads every row once; its files in a folder can be merged with those of other parts   [optional]
    def whole(...)          merges parts into what is true of the whole data set (plain values)                  [optional]
    def contrasts(...)      measures on a sample of the data and of the references, to be put between two yardsticks
    def alone(...)          measures that have a null of their own, for when there is no reference               [optional]
    def marks(...)          for each row and rule, how strongly it shows the flaw, 0 to 1                        [optional]

    def evidence(...)       in `evidence`: readable templates, tokens, example rows; and the rules for `marks`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from pyrite.audit.rows import Row

Flaw = Literal["format", "tokens", "perplexity", "embedding", "duplicates", "diversity", "artifacts", "contamination"]
FLAWS: tuple[Flaw, ...] = (
    "format", "tokens", "perplexity", "embedding", "duplicates", "diversity", "artifacts", "contamination"
)  # fmt: skip

Floats = np.ndarray[Any, np.dtype[np.float64]]
Draws = np.ndarray[Any, np.dtype[np.float32]]
"""[draws, rows], 0 or 1: which rows of the sample belong to a group in each draw."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured: one number of a data set that is larger where the flaw is worse.

    `name` is the measure's name within its flaw (snake_case), `question` a question that a high value answers with yes,
    `unit` the unit of its value ("share", "bits", "nats", "ratio", "AUC", …), `advice` what to do about it, one
    sentence in the imperative.
    """

    flaw: Flaw
    name: str
    question: str
    unit: str
    advice: str

    @property
    def full_name(self) -> str:
        """Its name among all measures."""
        return f"{self.flaw}.{self.name}"


@dataclass(frozen=True)
class Contrast:
    """A measure of one group of rows against another.

    `statistic(a, b)` takes two group matrices [draws, rows of the sample] with the same number of rows in every draw of
    both groups (a: in the data's role, b: in the reference's role; disjoint), and returns one value for each draw
    [draws]: how much worse a is than b. Under the null, where a and b are drawn from one population, swapping rows
    between them changes nothing but chance. It must be quick: it is called for some thousand draws, so it computes from
    what was prepared once (counts, kernels, distances), in matrix products. It never sees a row twice in one group.

    `rows` are the numbers (places in the sample given to `contrasts`) of the rows that the measure can be taken on;
    None: all. Matrices passed to `statistic` are zero elsewhere.
    """

    measure: Measure
    statistic: Callable[[Draws, Draws], Floats]
    rows: Sequence[int] | None = None


@dataclass(frozen=True)
class Alone:
    """A measure of the data alone: its value, and draws of the value under a null of its own (labels permuted, say).

    `null` is None where no null exists (overlap with an evaluation set): the value is then told by `threshold`, and a
    value above it is a warning. `low`, `high`: an interval of the value, None where none can be given. `n` rows.
    """

    measure: Measure
    value: float
    null: Floats | None
    n: int
    threshold: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Extras:
    """What else a family may need. A sample row's number in `embeddings` and `surprises` is its place in the sample.

    `embeddings` [rows, width] fp32, unit length: of the answers; `prompt_embeddings` of the prompts, 0 where a row has
    none. `surprises`: per row, the mean negative log-likelihood in nats per token
    of the answer given the prompt (`with_prompt`), of the answer alone (`without_prompt`), nan where not measured.
    `tokenize(texts)` gives token ids. `against` are the evaluation sets: name -> texts. `permutations`: draws of a null that a
    family makes itself.
    """

    embeddings: np.ndarray[Any, Any] | None = None
    prompt_embeddings: np.ndarray[Any, Any] | None = None
    surprises: Mapping[str, Floats] | None = None
    tokenize: Callable[[Sequence[str]], list[list[int]]] | None = None
    against: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int = 0
    permutations: int = 999

    @property
    def row_embeddings(self) -> np.ndarray[Any, Any] | None:
        """Prompt and answer of each row as one vector of unit length: a cosine is the mean of both cosines, and far below
        1 between a row with a prompt and one without."""
        if self.embeddings is None or self.prompt_embeddings is None:
            return self.embeddings
        prompted = np.linalg.norm(self.prompt_embeddings, axis=1, keepdims=True) > 0
        both = np.concatenate([self.embeddings, self.prompt_embeddings], axis=1)
        joined: np.ndarray[Any, Any] = np.where(prompted, both / np.float32(2**0.5), both).astype(np.float32)
        return joined


class Stream(Protocol):
    """Reads every row of a part of a data set once, in order, within bounded memory."""

    def add(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]:
        """Take a batch in; returns columns for the row-level table (one value for each row; may be empty)."""

    def close(self) -> None:
        """Write what was gathered into the folder that the stream was made with, and let go of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows a finding: `lines` for people (short, worst first), `rows` (`Row.number`s, worst first, at most 20), `values` as plain values for `--json`, and `rule`: what `marks` needs to find such rows (plain values)."""

    lines: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Population:
    """The data or the references as a family's `evidence` sees them: the sample, and what is true of the whole set
    (what the family's `whole` returned; empty where it has none)."""

    rows: Sequence[Row]
    whole: Mapping[str, Any]
    folders: Sequence[Path] = ()


def numbered(shown: Evidence, data: Population) -> Evidence:
    """Evidence whose rows are places in the data's sample, with their numbers instead."""
    return replace(shown, rows=tuple(data.rows[at].number for at in shown.rows))
