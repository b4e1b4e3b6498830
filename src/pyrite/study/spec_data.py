"""What a study file says of its data: where rows come from, and the pools that they are divided into."""

from os.path import normpath
from typing import Any, Literal

from pydantic import Field, model_validator

from pyrite.config_base import DistinctConfig
from pyrite.synth.settings import SynthSettings


class GrammarSpec(DistinctConfig):
    """Rows written by one of our grammars."""

    name: Literal["heuristics", "general", "reviews"] = Field(
        description="HANS-like pairs, general NLI pairs, or short reviews (field text; positive, negative)"
    )
    rows: int = Field(ge=1, description="rows to write")
    seed: int = Field(0, ge=0, description="seed of the grammar")
    three_way: bool = Field(False, description="heuristics: neutral/contradiction instead of non-entailment")
    subcases: tuple[str, ...] | None = Field(None, description="heuristics: only these subcases")
    leave_out: tuple[str, ...] = Field((), description="heuristics: heuristics or subcases to leave out")
    overlap_entailment: float = Field(
        0.5, ge=0, le=1, description="general: share of entailment rows with full word overlap"
    )
    overlap_other: float = Field(0.0, ge=0, le=1, description="general: share of the other rows with full word overlap")
    negated: float = Field(
        0.3, ge=0, le=1, description="reviews: share of each label's rows that say what a thing was not"
    )
    style: Literal["people", "program"] = Field(
        "people", description="reviews: twenty shapes, or one that begins with a stock phrase"
    )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the grammar writes."""
        return ("text",) if self.name == "reviews" else ("premise", "hypothesis")

    def as_config(self) -> dict[str, Any]:
        """As plain values for a step: what the named grammar reads, so that further grammars change no step's key."""
        reviews = {"negated", "style"}
        if self.name == "reviews":
            return self.model_dump(mode="json", include={"name", "rows", "seed", *reviews})
        return self.model_dump(mode="json", exclude=reviews)


class PoolSpec(DistinctConfig):
    """A part of a source."""

    rows: int | Literal["rest", "all"] = Field(
        description="rows in the pool; rest: what no other pool takes; all: every row. Pools are filled by name, rest last"
    )
    disjoint: bool = Field(
        True,
        description="false: draw from every row but those of disjoint pools that a probe, judge or guard reads, or that are named test or validation",
    )
    balance: bool = Field(
        False, description="the same number of rows for every label; of rest and all, as many as of the rarest"
    )
    where: dict[str, str] = Field(
        default_factory=dict, description="only rows with these values in their columns; of a group, in all its rows"
    )
    shares_with: tuple[str, ...] = Field(
        (),
        description="pools of this source whose rows may be in this one too, though a probe, judge or guard reads them: it then reads what was trained on",
    )


def as_pool(value: int | Literal["rest"] | PoolSpec) -> PoolSpec:
    """A pool written as a number (or rest), or in full."""
    return value if isinstance(value, PoolSpec) else PoolSpec(rows=value)


class DataSpec(DistinctConfig):
    """Where rows come from: files, a data set on the hub, a grammar, or a generator; and the pools that they are divided into."""

    holds: Literal["labelled", "chats"] | None = Field(
        None,
        description="labelled: text fields and a label; chats: conversations or plain text [labelled where the study has labels]",
    )
    files: tuple[str, ...] = Field((), description="files below --data, or hf://org/name[:config][@split]")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    encoding: str | None = Field(
        None, description="encoding of the files' text, such as cp1252 [UTF-8, or what the first bytes show]"
    )
    roles: dict[str, Literal["system", "user", "assistant", "tool"]] | None = Field(
        None, description="chats: who speaks in the file: the role that it is"
    )
    tool_calls: Literal["text", "leave-out"] = Field(
        "text", description="chats: calls of tools and their answers are part of the text, or left out"
    )
    duplicates: Literal["drop_all", "drop_repeats", "drop", "keep"] | None = Field(
        None,
        description="drop_all: every copy of a duplicated row (the paper); drop_repeats, the same as drop: all but the first [drop_repeats]",
    )
    grammar: GrammarSpec | None = Field(None, description="labelled rows written by a grammar")
    synth: SynthSettings | None = Field(None, description="labelled rows written by a generator")
    train_on: str | None = Field(None, description="synth: the data that the generator is trained on or shown")
    judge: str | None = Field(None, description="synth: the start whose model (first seed) judges the labels' quality")
    pools: dict[str, int | Literal["rest"] | PoolSpec] = Field(
        default_factory=dict, description="parts of this source that share no row; chats are used by pool only"
    )
    group: str | None = Field(
        None,
        description="rows with the same value here go to one pool: a field of the study, such as premise; of chats prompt (what stands before the first answer); or a column of the file",
    )
    expected_rows: int | None = Field(None, ge=1, description="rows after cleaning, for plans made without the data")
    tokens_per_row: int | None = Field(
        None, ge=1, description="for plans: tokens in a row [of chats 200, else the study's]"
    )

    @model_validator(mode="after")
    def _checked(self) -> "DataSpec":
        if sum([bool(self.files), self.grammar is not None, self.synth is not None]) != 1:
            raise ValueError("give exactly one of files, grammar, synth")
        if self.synth and self.train_on is None:
            raise ValueError("a synth source needs train_on: the data that its generator is trained on or shown")
        for key in ("train_on", "judge"):
            if getattr(self, key) is not None and self.synth is None:
                raise ValueError(f"{key} is of a generator's rows, and there is no synth here: leave it out")
        if len(set(map(file_name, self.files))) < len(self.files):
            raise ValueError("files: two names are of one file; name each file once")
        for name, pool in self.pools.items():
            if as_pool(pool).rows == "all" and as_pool(pool).disjoint:
                raise ValueError(f"pools.{name}: all rows cannot be disjoint from the other pools; say disjoint: false")
        if sum(as_pool(pool).rows == "rest" and as_pool(pool).disjoint for pool in self.pools.values()) > 1:
            raise ValueError("pools: only one can take the rest")
        if self.group is not None and not self.pools:
            raise ValueError("group keeps rows together in pools, and there are none: add pools, or leave group out")
        return self

    @property
    def chat_pools(self) -> "dict[str, int | Literal['rest']]":
        """The pools of a source of chats: so many rows, or the rest."""
        return {name: pool for name, pool in self.pools.items() if not isinstance(pool, PoolSpec)}


def file_name(file: str) -> str:
    """A file as a study names it, the same for `a.jsonl` and `./a.jsonl`."""
    return file if file.startswith("hf://") else normpath(file)
