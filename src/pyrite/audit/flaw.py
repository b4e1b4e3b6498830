"""A flaw of data as an audit knows it: one typed entry with all that is its own.

Every flaw is a folder of `pyrite.audit.flaws` whose `__init__.py` holds its entry, a `Flaw`. Steps, decisions and pages
iterate over the entries and know no flaw by name. All functions of an entry are pure but for the folder that a stream
is given:

    stream         reads every row once; its files in a folder can be merged with those of other parts
    merge          merges parts into what is true of the whole data set (plain values)
    differences      statistics on a sample of the data and of the references, compared with a null and a baseline
    alone          statistics that have a null of their own, for when there is no reference
    evidence       readable templates, tokens, example rows; and the rules for `flag_scores`
    flag_scores    for each row and rule, how strongly it shows the flaw, 0 to 1
    figure         charts of what the evidence has values for
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from pyrite.audit.rows import Row
from pyrite.charts import Palette

Need = Literal["tokenizer", "evaluation_sets", "embeddings", "nll"]
"""What a flaw may need beside the rows: the tokenizer of the model to be trained, evaluation sets, the sample's
embeddings, the negative log-likelihood of its answers."""
MODEL_READS: tuple[Need, ...] = ("nll", "embeddings")
"""Needs for which a model reads the sample."""

WITH_PROMPT, WITHOUT_PROMPT = "with_prompt", "without_prompt"
"""Keys of the negative log-likelihoods: of the answers given their prompts, and of the answers alone."""

DataKind = Literal["chat", "code", "labelled", "text"]
"""What most rows of the data are: answers to prompts, code, labelled rows, plain text."""

Floats = np.ndarray[Any, np.dtype[np.float64]]
Draws = np.ndarray[Any, np.dtype[np.float32]]
"""[draws, rows], 0 or 1: which rows of the sample belong to a group in each draw."""

SideEmbeddings = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""[rows, width] fp32, unit length, of what was asked (0 where nothing was) and of what was answered."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of a data set that is larger where the flaw is worse.

    `name` is the measure's name within its flaw (snake_case), `question` a question that a high value answers with yes,
    `unit` the unit of its value ("share", "bits", "nats", "ratio", "AUC", …), `advice` what to do about it, one
    sentence in the imperative, `advice_by_kind` the same where it differs by the kind of rows, `ceiling` the most that its value can be where the unit does not say it (a share is 1
    at most). `definition` is raised where the value of the same rows changes, since the table of human sources holds values by
    the definition of its time; `wider`: earlier definitions by which the value of people's rows, and how much it varies, was
    never smaller, so that their limits are at least as high.
    """

    flaw: str
    name: str
    question: str
    unit: str
    advice: str
    ceiling: float | None = None
    advice_by_kind: Mapping[DataKind, str] = field(default_factory=dict, hash=False, compare=False)
    definition: int = 1
    wider: tuple[int, ...] = ()

    def advice_for(self, kind: DataKind) -> str:
        """What to do about it where the data holds such rows."""
        return self.advice_by_kind.get(kind, self.advice)

    def as_json(self) -> dict[str, str]:
        """What stays of it with a measurement, as plain values."""
        return {
            "flaw": self.flaw,
            "name": self.name,
            "question": self.question,
            "unit": self.unit,
            "advice": self.advice,
        }

    @property
    def full_name(self) -> str:
        """Its name among all statistics."""
        return f"{self.flaw}.{self.name}"


@dataclass(frozen=True)
class Difference:
    """A statistic as a function: how far one group of rows lies from another. (`Statistic` is its description.)

    `statistic(a, b)` takes two group matrices [draws, rows of the sample] with the same number of rows in every draw of
    both groups (a: in the data's role, b: in the reference's role; disjoint), and returns one value for each draw
    [draws]: how much worse a is than b. Under the null, where a and b are drawn from one population, swapping rows
    between them changes nothing but chance. It must be quick: it is called for some thousand draws, so it computes from
    what was prepared once (counts, kernels, distances), in matrix products. It never sees a row twice in one group.

    `rows` are the numbers (places in the sample given to `differences`) of the rows that the measure can be taken on;
    None: all. Matrices passed to `statistic` are zero elsewhere.
    """

    measure: Statistic
    statistic: Callable[[Draws, Draws], Floats]
    rows: Sequence[int] | None = None


@dataclass(frozen=True)
class Alone:
    """A measure of the data alone: its value, and draws of the value under a null of its own (labels permuted, say).

    `null` is None where no null exists (overlap with an evaluation set): the value is then told by `threshold`, and a
    value above it is a warning. `low`, `high`: an interval of the value, None where none can be given. `n` rows.
    """

    measure: Statistic
    value: float
    null: Floats | None
    n: int
    threshold: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Extras:
    """What a flaw may need beside the rows. A row's number in `embeddings` and `nll` is its place in the sample.

    `embeddings` [rows, width] fp32, unit length: of the answers; `prompt_embeddings` of the prompts, 0 where a row has
    none; `sides` of what was asked and what was answered, as copies are compared. `nll`: per row, the mean negative log-likelihood in nats per token of the answer given the prompt
    (`with_prompt`), of the answer alone (`without_prompt`), nan where not measured. `tokenize(texts)` gives token ids.
    `against` are the evaluation sets: name -> texts. `permutations`: draws of a null that a flaw has of its own."""

    embeddings: np.ndarray[Any, Any] | None = None
    prompt_embeddings: np.ndarray[Any, Any] | None = None
    sides: SideEmbeddings | None = None
    nll: Mapping[str, Floats] | None = None
    tokenize: Callable[[Sequence[str]], list[list[int]]] | None = None
    against: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int = 0
    permutations: int = 999

    @property
    def side_embeddings(self) -> SideEmbeddings | None:
        """Both sides of each row (`Row.parts`): those given, else prompts and answers."""
        if self.sides is not None or self.embeddings is None:
            return self.sides
        asked = np.zeros_like(self.embeddings) if self.prompt_embeddings is None else self.prompt_embeddings
        return asked, self.embeddings


class Stream(Protocol):
    """Reads every row of a part of a data set once, in order, within bounded memory."""

    def add(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]:
        """Take a batch in; returns columns for the row-level table (one value for each row; may be empty)."""

    def close(self) -> None:
        """Write what was gathered into the folder that the stream was made with, and let go of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows a finding: `lines` for people (short, worst first), `rows` (`Row.number`s, worst first, at most 20),
    `values` as plain values for `--json`, and `rule`: what `flag_scores` needs to find such rows (plain values)."""

    lines: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Population:
    """The data or the references as a flaw's `evidence` sees them: the sample, and what is true of the whole set (what
    the flaw's `merge` returned; empty where it has none)."""

    rows: Sequence[Row]
    totals: Mapping[str, Any]
    folders: Sequence[Path] = ()


class Merge(Protocol):
    """Merges parts into what is true of the whole data set, as plain values; may write files into `out`."""

    def __call__(
        self,
        folders: Sequence[Path],
        out: Path,
        extras: Extras,
        reference: Sequence[Path] = (),
        offsets: Sequence[int] = (),
    ) -> dict[str, Any]:
        """`folders`: of the data's parts, `reference`: of all references' parts, for the data alone; `offsets`: what to
        add to the row numbers of each part."""


class FlagScores(Protocol):
    """How strongly each row shows the flaw by each rule (statistic -> rule): statistic -> 0 to 1 [rows]."""

    def __call__(
        self,
        rows: Sequence[Row],
        rules: Mapping[str, Mapping[str, Any]],
        extras: Extras,
        folder: Path | None,
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """`folder`: what `merge` wrote of the whole data set; None where it was not read."""


EvidenceValues = Sequence[Mapping[str, Any]]
"""`Evidence.values` of an audit's findings of one flaw, worst first."""
DrawCharts = Callable[[EvidenceValues, Palette, int], Mapping[str, Any]]
"""Charts by name, in colours, with so many points at most; nothing where the values for it are absent."""


@dataclass(frozen=True)
class Figure:
    """How a flaw is drawn. `charts` names all that `draw` may return; `alt_text` says what one of them shows, for
    someone who cannot see it; `quotes`: the charts hold text of the data."""

    charts: tuple[str, ...]
    draw: DrawCharts
    alt_text: Callable[[EvidenceValues, str], str]
    quotes: bool = False


def no_differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """The differences of a flaw that is not compared with references."""
    return []


Lacking = Callable[[Sequence[Row], Extras], Mapping[str, str]]


@dataclass(frozen=True)
class Flaw:
    """One flaw: what it measures, what it needs, and how it is decided, shown and drawn.

    `needs`: what its comparison gets beside the rows. A flaw that needs `nll` is decided twice where the first look at
    part of the rows was not clear. `alone_from_totals` measures on what `merge` returned, `notes` says of it what
    every reader must know. `drawn_values`: further evidence values of one statistic, for the figure.

    `tells_sources_apart`: statistics by which references are told from each other; True: a distance, the same in both
    directions. `tells_tasks_apart`: the statistic that, on embeddings of prompts, says whether the data is of another
    task. `prior_options`: the options that must be at their defaults for the table of human sources to speak of this
    flaw (empty: it always does; None: the table does not hold it). `where_labels_differ`: of a flaw of labels, the note
    where the references have other labels, so that only the data is measured. `skips_unanswered`: rows without an
    answer are left out. `reads_prompts`: it measures all text of a row, so that its counts hold rows without the part of the
    answers that is measured (`--part`), too. `lacking`: what the rows of one side do not have, without which a statistic cannot
    be taken, by the statistic's name. `version`: of a flaw that does not come with Pyrite, to be raised when its results change."""

    name: str
    statistics: tuple[Statistic, ...]
    evidence: Callable[[str, Population, Mapping[str, Population], Extras], Evidence]
    differences: Callable[[Sequence[Row], Extras], list[Difference]] = no_differences
    alone: Callable[[Sequence[Row], Extras], list[Alone]] | None = None
    alone_from_totals: Callable[[Mapping[str, Any]], list[Alone]] | None = None
    stream: Callable[[Path, Extras], Stream] | None = None
    merge: Merge | None = None
    flag_scores: FlagScores | None = None
    notes: Callable[[Mapping[str, Any]], list[str]] | None = None
    drawn_values: Callable[[str, Population, Mapping[str, Population], Extras], Mapping[str, Any]] | None = None
    figure: Figure | None = None
    needs: tuple[Need, ...] = ()
    tells_sources_apart: Mapping[str, bool] = field(default_factory=dict)
    tells_tasks_apart: str = ""
    prior_options: tuple[str, ...] | None = None
    where_labels_differ: str = ""
    skips_unanswered: bool = False
    reads_prompts: bool = False
    lacking: Lacking | None = None
    version: int = 1

    @property
    def model_reads(self) -> tuple[Need, ...]:
        """What a model must have read of the sample."""
        return tuple(need for need in self.needs if need in MODEL_READS)

    @property
    def two_looks(self) -> bool:
        """Whether it is decided at part of the rows first: reading them all takes the causal model long."""
        return "nll" in self.needs


def without_answers(statistics: Sequence[Statistic], *, words: int = 1) -> Lacking:
    """`Flaw.lacking` of statistics that are taken of answers with so many words."""

    def lacking(rows: Sequence[Row], extras: Extras) -> Mapping[str, str]:
        enough = sum(len(row.answer.split(maxsplit=words)) >= words for row in rows)
        long = f" of {words} words or more" if words > 1 else ""
        return (
            dict.fromkeys((each.name for each in statistics), f"fewer than two rows have an answer{long}")
            if enough < 2
            else {}
        )

    return lacking


def answered(population: Population) -> Population:
    """The population's rows that have an answer."""
    return replace(population, rows=[row for row in population.rows if row.answers])


def numbered(evidence: Evidence, data: Population) -> Evidence:
    """Evidence whose rows are places in the data's sample, with their numbers instead."""
    return replace(evidence, rows=tuple(data.rows[at].number for at in evidence.rows))
