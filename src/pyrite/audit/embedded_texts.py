"""Which text of a row an embedder reads, how much of it fits, and whether the embedder knows it at all."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from pyrite.audit.flaw import Need
from pyrite.audit.gather import UNKNOWN, Sampled
from pyrite.audit.rows import Row
from pyrite.data.keys import same_text
from pyrite.data.words import sentences
from pyrite.models import load
from pyrite.models.positions import tokens_read
from pyrite.models.sentence_modules import sentence_modules

CHARACTERS = 64
"""A text is looked at up to so many characters for each token that fits (as `pyrite.models.embed` reads it)."""
MARGIN = 8
"""Tokens that are left free where the two ends of a long prompt are joined, which may be divided anew there; more than the
special tokens of a text."""


def own_sides(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Both sides of each row (`Row.parts`), the first without the sentences that other rows' first sides hold, too: of
    several questions on one passage, the questions. Sides that have nothing else stay whole."""
    asked = {row.parts[0] for row in rows}
    times = Counter(key for text in asked for key in {same_text(sentence) for sentence in sentences(text)})
    return [(own_part(row.parts[0], times), row.parts[1]) for row in rows]


def own_part(text: str, times: Mapping[str, int]) -> str:
    """A text without the sentences that stand in others."""
    pieces = sentences(text)
    own = [sentence for sentence in pieces if times[same_text(sentence)] == 1]
    return "\n".join(own) if own and len(own) < len(pieces) else text


def own_sides_by_source(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The same, source by source, in the order of the rows."""
    by_source: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        by_source.setdefault(row.source, []).append(at)
    sides = [row.parts for row in rows]
    for places in by_source.values():
        for at, side in zip(places, own_sides([rows[at] for at in places]), strict=True):
            sides[at] = side
    return sides


def without_shared_lead(rows: Sequence[Row], is_cut: Callable[[str], bool]) -> list[str]:
    """The answers. Of plain texts that are too long to be read whole, the sentences at the beginning that more than half of
    the rows of their source hold are left out: a template's text would be all that is read."""
    plain = [at for at, row in enumerate(rows) if not row.prompt and not row.fields]
    texts_of: dict[str, list[set[str]]] = {}
    for at in plain:
        texts_of.setdefault(rows[at].source, []).append({same_text(text) for text in sentences(rows[at].answer)})
    shared: dict[str, set[str]] = {}
    for source, texts in texts_of.items():
        times = Counter(key for keys in texts for key in keys)
        shared[source] = {key for key, count in times.items() if 2 * count > len(texts)}
    answers = [row.answer for row in rows]
    for at in plain:
        if shared[rows[at].source] and is_cut(answers[at]):
            answers[at] = after_lead(answers[at], shared[rows[at].source])
    return answers


def after_lead(text: str, shared: set[str]) -> str:
    """A text without the sentences at its beginning that are shared; all of it where there is nothing else."""
    pieces = sentences(text)
    own = list(dropwhile(lambda sentence: same_text(sentence) in shared, pieces))
    return "\n".join(own) if own and len(own) < len(pieces) else text


@dataclass(frozen=True)
class Cutter:
    """How texts fit into an embedder, which reads `limit` tokens of each, special ones included.

    Before a text it reads its `prompt`, which counts; where it reads in `lower` case, so are texts divided here."""

    tokenizer: Any = field(repr=False)
    limit: int
    prompt: str = ""
    lower: bool = False

    @classmethod
    def of(cls, folder: Path, max_tokens: int) -> "Cutter":
        """For a model whose hidden states are taken, which is to read so many tokens, or as many as it can."""
        tokenizer = load.load_tokenizer(folder)
        return cls(tokenizer, tokens_read(max_tokens, load.parsed_config(folder), tokenizer))

    @classmethod
    def of_sentences(cls, folder: Path, max_tokens: int) -> "Cutter":
        """For a sentence embedder, by what its folder says (`pyrite.models.sentence_modules`)."""
        modules = sentence_modules(folder)
        plain = cls.of(modules.folder, min(max_tokens, modules.max_tokens or max_tokens))
        return replace(plain, prompt=modules.prompt, lower=modules.lower)

    def cased(self, text: str) -> str:
        """A text in the case in which it is read."""
        return text.lower() if self.lower else text

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text as it stands, special ones included, as far as it is looked at."""
        ids: list[int] = self.tokenizer(well_formed(text[: CHARACTERS * self.limit]))["input_ids"]
        return ids

    def is_cut(self, text: str) -> bool:
        """Whether a text, after the embedder's prompt, has more tokens than are read."""
        text = self.prompt + self.cased(text)
        if text.isascii() and len(text) + MARGIN <= self.limit:  # each letter is one token at most
            return False
        return len(text) > CHARACTERS * self.limit or len(self.token_ids(text)) > self.limit

    def both_ends(self, text: str) -> str:
        """A text that fits: a longer one with its middle left out, as what is asked stands at either end."""
        if not self.tokenizer.is_fast or not self.is_cut(text):
            return text
        room = max(2, self.limit - MARGIN - (len(self._offsets(self.prompt)) if self.prompt else 0))
        head, tail = (well_formed(part) for part in self._ends(self.cased(text)))
        before = self._offsets(head)[: room // 2]
        after = self._offsets(tail)[-(room // 2) :]
        return f"{head[: before[-1][1]]}\n{tail[after[0][0] :]}" if before and after else text

    def _ends(self, text: str) -> tuple[str, str]:
        return text[: CHARACTERS * self.limit], text[-CHARACTERS * self.limit :]

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        offsets: list[tuple[int, int]] = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return offsets

    def counts(self, sampled: Sampled) -> dict[str, Any]:
        """What was cut of the sample (`pyrite.audit.gather.cut_counts`)."""
        return counts_by_side(sampled, range(len(sampled.rows)), self.limit, self._counted)

    def _counted(self, rows: Sequence[Row]) -> dict[str, Any]:
        ids = [token for row in rows for token in self.token_ids(self.cased(row.answer))[: self.limit]]
        plain = [token for token in ids if token not in self.tokenizer.all_special_ids]
        unknown = sum(token == self.tokenizer.unk_token_id for token in ids)
        return {
            "answers_cut": sum(self.is_cut(row.answer) for row in rows),
            "prompts_cut": sum(self.is_cut(row.prompt) for row in rows),
            "unknown": unknown / max(1, unknown + len(plain)),
        }


def well_formed(text: str) -> str:
    """Halves of surrogate pairs, which no tokenizer reads, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")


def counts_by_side(
    sampled: Sampled, places: Iterable[int], limit: int, count: Callable[[Sequence[Row]], Mapping[str, Any]]
) -> dict[str, Any]:
    """`pyrite.audit.gather.cut_counts` of the rows at some places of the sample, counted for each side."""
    read = set(places)
    sides: dict[str, Sequence[int]] = {
        "data": sampled.data,
        "references": [at for source_places in sampled.references.values() for at in source_places],
    }
    counts: dict[str, Any] = {"limit": limit}
    for side, side_places in sides.items():
        rows = [sampled.rows[at] for at in side_places if at in read]
        counts[side] = {"rows": len(rows), **count(rows)}
    return counts


READS: Mapping[Need, tuple[str, str, str]] = {
    "embeddings": ("the embedder", "their beginnings", "both ends of these"),
    "nll": ("the causal model", "their beginnings", "the ends of these"),
}
"""Who reads, what of an answer that is too long, and what of such a prompt."""


def notes_on_cut(need: Need, counts: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the texts that a model read (`pyrite.audit.gather.cut_counts`)."""
    model, *read_of = READS[need]
    notes = []
    share = max(counts["data"]["unknown"], counts["references"]["unknown"])
    if share > UNKNOWN and need == "embeddings":
        notes.append(
            f"the embedder does not know {100 * share:.0f} % of the answers' tokens: nothing was measured with it "
            "(name an --embedder that was trained on this language)"
        )
    for what, read in zip(("answers", "prompts"), read_of, strict=True):
        cut = [(counts[side][f"{what}_cut"], counts[side]["rows"], side) for side in ("data", "references")]
        if any(number for number, *_ in cut):
            parts = " and ".join(f"{number:,} of {rows:,} of the {side}" for number, rows, side in cut if number)
            limit = f"{what} longer than the {counts['limit']} tokens of each that {model} reads"
            notes.append(f"{limit}: {parts}; {read} were read")
    return notes
