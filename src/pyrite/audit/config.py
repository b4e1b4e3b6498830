"""The options of `pyrite audit`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pyrite.audit.flaws import BUILT_IN
from pyrite.config_base import ENGINE, CallConfig, ConfigBase
from pyrite.models.hardware import DeviceMap, ReadingPrecision


class AuditOptions(ConfigBase):
    """What to compare the data with, and what to look for."""

    reference: tuple[str, ...] = Field(
        (),
        description="data written by people (or pre-training text): file, folder or hf://…; repeatable, each is a source; files of one source after a comma, or shards NAME-00001-of-00004",
    )
    source_column: str | None = Field(
        None, description="column of the references that names each row's source, instead of one source a file"
    )
    cluster: str | None = Field(
        None,
        description="column that says which rows come together (author, article, conversation): chance moves them together, and those of 50 rows or more count as human sources",
    )
    no_prior: bool = Field(
        False,
        description="judge by the references alone, without the table of how far human sources lie apart that comes with Pyrite",
    )
    only: tuple[str, ...] = Field(
        (),
        description=f"look for these flaws only, comma-separated: {', '.join(BUILT_IN)}",
    )
    against: tuple[str, ...] = Field(
        (),
        description="evaluation set to look for in the data: a file, or NAME=FILE with NAME ifeval, followbench, mt_bench, hans or nli; repeatable",
    )
    layout: str | None = Field(None, description="layout of the data, where its columns do not tell")
    columns: tuple[str, ...] = Field((), description="OURS=THEIRS: a column of the data under another name; repeatable")
    split: str | None = Field(
        None, description="split of the data, where a folder or a hub data set has several (of a reference: NAME@SPLIT)"
    )
    encoding: str | None = Field(
        None, description="encoding of the data's text, such as cp1252 [UTF-8, or what the first bytes show]"
    )
    reference_layout: str | None = Field(None, description="layout of the references, where their columns do not tell")
    reference_columns: tuple[str, ...] = Field((), description="the same as --columns for the references; repeatable")
    reference_encoding: str | None = Field(None, description="encoding of the references' text")
    roles: tuple[str, ...] = Field(
        (), description="THEIRS=OURS: who speaks in chats, ours system, user, assistant or tool; repeatable"
    )
    tool_calls: Literal["text", "leave-out"] = Field(
        "text", description="calls of tools are part of the answers, as text; or are left out, with what tools answered"
    )
    label_map: tuple[str, ...] = Field(
        (), description="THEIRS=OURS: what a label stands for, in data and references; repeatable"
    )
    text_fields: tuple[str, ...] = Field((), description="text columns of labelled data, in order; repeatable")
    part: Literal["answer", "final", "thought"] = Field(
        "answer",
        description="what is measured of answers that begin with a thought (<think>…</think> and the like): all, what follows the thought, or the thought",
    )
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    model: str = Field(
        "packaged:smollm2-135m-instruct",
        description="causal model for perplexity and tokens; give the one that is to be trained",
    )
    tokenizer: str | None = Field(None, description="tokenizer of the token counts [that of --model]")
    embedder: str = Field("packaged:minilm-l6", description="sentence embedder; or hidden-states: those of --model")
    sample: int = Field(1000, ge=50, description="rows of each side in comparisons; counts are of all rows")
    model_sample: int = Field(200, ge=20, description="rows of each side that --model reads")
    alpha: float = Field(
        0.05, gt=0, lt=1, description="chance that clean data gets any warning at all (Holm over all statistics)"
    )
    thresholds: tuple[str, ...] = Field(
        (),
        description="STATISTIC=NUMBER: no finding unless the excess is above NUMBER, such as format.opening_concentration=0.05",
    )
    flag_at: float = Field(
        0.5, gt=0, le=1, description="rows that show a finding at least so strongly (0 to 1) are flagged"
    )
    flagged: Path | None = Field(
        None,
        description="write the rows that show a finding here, as they are in the data, in the format that the name says (jsonl, json, csv, tsv, parquet, arrow); flagged_by names the findings",
    )
    clean: Path | None = Field(None, description="write all other rows here, in the same way")
    permutations: int = Field(
        1999,
        ge=99,
        description="draws of the permutation null; more where --alpha and the number of statistics need them",
    )
    seed: int = Field(0, ge=0, description="seed of the sample and of every draw")
    gate: tuple[str, ...] = Field(
        (),
        description="'FLAW[.STATISTIC] OP NUMBER' on the excess, or 'severity < fail|warn': sets the exit code; repeatable",
    )
    undecided: Literal["pass", "fail"] | None = Field(None, description="what an undecided gate counts as [exit 3]")
    precision: ReadingPrecision = Field(
        "auto",
        description="auto: bf16 where the hardware has it. int8: on a CPU, rounded linear layers, quicker than fp32",
    )
    device_map: DeviceMap = Field(
        "one", description="auto: spread the causal model over all GPUs of the machine, its memory and its disk"
    )
    workers: int | None = Field(
        None, ge=1, description="processes that read a large file [one for each core, at most 8]"
    )
    engine: str = ENGINE
    shard: str | None = Field(
        None,
        description="I/N: read the I-th of N parts of the data, beside jobs with the same store that read the others; "
        "slurm: the part of this job in its array. Whichever job finishes last does the rest",
    )
    out: Path | None = Field(None, description="run folder: findings, row-level tables, figures")
    max_time: float | None = Field(None, gt=0, description="stop after so many minutes; the same command goes on")
    store: Path | None = Field(
        None, description="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"
    )
    quiet: bool = Field(False, description="no progress display")


class AuditConfig(AuditOptions, CallConfig):
    """A data set, or several shards of one, to audit."""

    data: tuple[str, ...] = Field(min_length=1, description="the data set: file, folder or hf://…; several are shards")
