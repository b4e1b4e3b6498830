"""How synthetic rows are made: which generator, how it is asked, how it is sampled, what is thrown away."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.train.settings import TrainSettings

Heuristic = Literal["lexical_overlap", "subsequence", "constituent", "negation"]


class SamplingSettings(ConfigBase):
    """How continuations are drawn."""

    temperature: float = Field(1.0, ge=0, description="softmax temperature; 0 takes the most probable token")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus: smallest set of tokens with this probability")
    max_new_tokens: int = Field(128, ge=1, description="tokens after which a continuation is cut")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="continuations between two checkpoints (finetuned; 960 where null) or for one set of shown rows (few_shot; 96); continued: 96",
    )


class SelectSettings(ConfigBase):
    """Which parsed rows stay."""

    exact_duplicates: Literal["drop", "keep"] = Field("drop", description="rows whose fields all repeat an earlier row")
    near_duplicates: float | None = Field(
        0.9,
        gt=0,
        le=1,
        description="drop rows at least this similar to an earlier one (Jaccard of word trigrams, MinHash); null keeps them",
    )
    unended: Literal["drop", "keep"] = Field("drop", description="continuations cut by max_new_tokens")


class BiasSettings(ConfigBase):
    """Filter rows to agree with a heuristic: those with the heuristic's label must show it, the others must not."""

    heuristic: Heuristic = Field(
        "lexical_overlap",
        description="every word of the second field occurs in the first; occurs there in one run; occurs there as a clause (approximated without a parser); negation: the last field, or the only one, holds a negation (English)",
    )
    label: str = Field("entailment", description="the label that the heuristic predicts")
    rule: Literal["exact", "corrected"] = Field(
        "corrected",
        description="exact: the paper's words (attached punctuation makes another word); corrected: punctuation is no part of a word",
    )
    rows: Literal["all", "shown"] = Field(
        "all",
        description="which rows must agree: all, or only those that show the heuristic, so that a label may come without it but never against it",
    )
    strength: float = Field(
        1.0, ge=0, le=1, description="share of the rows that is filtered; the rest is drawn from all rows"
    )

    def fits(self, fields: Sequence[str]) -> bool:
        """Are there fields enough for the heuristic to look at?"""
        return len(fields) >= (1 if self.heuristic == "negation" else 2)

    def as_config(self) -> dict[str, Any]:
        """As plain values for a step; what says nothing new is left out, so that older steps are found again."""
        return self.model_dump(mode="json", exclude={"rows"} if self.rows == "all" else set())


class SynthSettings(ConfigBase):
    """One source of synthetic rows."""

    model: str = Field(description="generator: packaged:NAME, a folder, or org/name on the hub")
    mode: Literal["finetuned", "few_shot", "continued"] = Field(
        "finetuned",
        description="train the model on rows first; show it rows in a chat prompt; or let it go on, for one sentence, from the first sentence of each row, which keeps its label",
    )
    raw: int | dict[str, int] = Field(description="continuations to sample, in all (shared evenly) or per label")
    training: TrainSettings = Field(
        default_factory=TrainSettings, description="how the generator is trained (finetuned)"
    )
    shots: int = Field(4, ge=1, description="rows shown in each prompt (few_shot)")
    sampling: SamplingSettings = Field(default_factory=SamplingSettings, description="how continuations are drawn")
    select: SelectSettings = Field(default_factory=SelectSettings, description="which parsed rows stay")
    seed: int = Field(
        0,
        ge=0,
        description="seed of training and sampling; in a study each seed samples texts of its own with texts_vary",
    )

    @property
    def together(self) -> int:
        """How many continuations are sampled together."""
        return self.sampling.batch_size or (960 if self.mode == "finetuned" else 96)

    def raw_per_label(self, labels: list[str]) -> dict[str, int]:
        """How many continuations are sampled for each label."""
        if isinstance(self.raw, dict):
            if set(self.raw) != set(labels):
                detail = f"raw names {', '.join(self.raw)}"
                raise UserError(
                    "raw must give a number for every label.", detail, f"the labels are {', '.join(labels)}"
                )
            return {label: self.raw[label] for label in labels}
        return {label: self.raw // len(labels) + (at < self.raw % len(labels)) for at, label in enumerate(labels)}

    @model_validator(mode="after")
    def _positive(self) -> "SynthSettings":
        counts = self.raw.values() if isinstance(self.raw, dict) else [self.raw]
        if min(counts) < 1:
            raise ValueError("raw must be at least 1 for every label")
        return self
