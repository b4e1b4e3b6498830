"""The options of `pyrite probe`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pyrite.config_base import ENGINE, CallConfig, ConfigBase
from pyrite.errors import UserError
from pyrite.models.hardware import DeviceMap, ReadingPrecision


class ProbeOptions(ConfigBase):
    """What to ask, and how."""

    task: tuple[str, ...] = Field(
        min_length=1,
        description="what to ask; repeatable. NAME=FILE with NAME hans, nli, ifeval, followbench, mt_bench, "
        "gsm8k or perplexity; heuristics[=ROWS] (fresh HANS-like pairs); harness:TASK (lm-evaluation-harness); "
        "or a task's YAML",
    )
    predictions: Path | None = Field(
        None,
        description="score answers given elsewhere instead of a model: of labels text or csv (pairID,gold_label), or parquet; "
        "of texts what an OpenAI batch of this task's --export wrote (vllm run-batch -o FILE)",
    )
    columns: tuple[str, ...] = Field(
        (), description="OURS=THEIRS: a column of the file under another name, such as label=gold; repeatable"
    )
    label_map: tuple[str, ...] = Field(
        (), description="THEIRS=OURS: what a label of the file stands for, such as 0=entailment; repeatable"
    )
    split: str | None = Field(None, description="split of a task's file, where a folder or a hub data set has several")
    encoding: str | None = Field(
        None, description="encoding of the files' text, such as cp1252 [UTF-8, or what the first bytes show]"
    )
    roles: tuple[str, ...] = Field(
        (), description="THEIRS=OURS: who speaks in chats, ours system, user, assistant or tool; repeatable"
    )
    tool_calls: Literal["text", "leave-out"] = Field(
        "text", description="calls of tools are kept as part of the answers, or left out with what tools answered"
    )
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    labels: tuple[str, ...] = Field(
        (), description="label words to ask a language model for; by default the task's; repeatable"
    )
    items: int | None = Field(
        None, ge=1, description="at most so many items of each task; those of labels balanced over their slices"
    )
    skip: int = Field(
        0,
        ge=0,
        description="leave out the items that --items of this number would take, and ask others: --items N and --skip N "
        "share none (written answers and perplexity)",
    )
    seed: int = Field(0, ge=0, description="seed of the choice of items, of sampling and of intervals")
    precision: ReadingPrecision = Field(
        "auto",
        description="auto: bf16 where the hardware has it. int8: on a CPU, rounded linear layers, quicker than fp32",
    )
    device_map: DeviceMap = Field(
        "one",
        description="auto: spread a language model over all GPUs of the machine, its memory and its disk (perplexity, written answers, harness tasks)",
    )
    max_tokens: int = Field(512, ge=8, description="longer rows are cut here (perplexity: read in pieces of this size)")
    max_new_tokens: int | None = Field(None, ge=1, description="answers are cut here; by default the task's standard")
    temperature: float | None = Field(None, ge=0, description="sampling temperature of answers [the task's, mostly 0]")
    part: Literal["answers", "all"] | None = Field(
        None, description="perplexity of the answers only, or of everything [answers of chats, all of plain text]"
    )
    chat_template_kwargs: tuple[str, ...] = Field(
        (), description="NAME=VALUE: a variable of the model's chat template, such as enable_thinking=false; repeatable"
    )
    backend: Literal["local", "openai"] = Field(
        "local", description="openai: MODEL is a name at an OpenAI-compatible endpoint, see --base-url"
    )
    base_url: str | None = Field(None, description="the endpoint's address, such as http://localhost:8000/v1")
    tokenizer: str | None = Field(
        None,
        description="--backend openai: a model whose tokenizer and chat template are the endpoint's, so that token ids are sent "
        "where log-probabilities are asked for (perplexity, labels) [texts are sent; needed for chats]",
    )
    judge_url: str | None = Field(None, description="address of the endpoint of the judge (followbench, mt_bench)")
    judge_model: str | None = Field(
        None, description="the judge's name there, needed with --judge-url; pin a dated version"
    )
    judge_votes: int = Field(1, ge=1, description="how often each answer is judged; 2 or more show the judge's noise")
    judge_temperature: float = Field(0.0, ge=0, description="the judge's sampling temperature")
    key_variable: str = Field("OPENAI_API_KEY", description="the environment variable that holds the endpoint's key")
    judge_key_variable: str = Field("OPENAI_API_KEY", description="the same for the judge's endpoint")
    judge_price_in: float | None = Field(None, ge=0, description="price of a million tokens that the judge reads")
    judge_price_out: float | None = Field(None, ge=0, description="price of a million tokens that the judge writes")
    concurrency: int = Field(8, ge=1, description="requests to an endpoint under way at once")
    requests_per_minute: int | None = Field(None, ge=1, description="at most so many requests to an endpoint a minute")
    timeout_s: float = Field(120, gt=0, description="seconds after which a request counts as failed")
    retries: int = Field(6, ge=0, description="further requests for a prompt when the endpoint fails or is busy")
    leave_out: tuple[str, ...] = Field(
        (),
        description="a parameter that requests to the endpoint do not name: max_tokens, temperature, top_p, seed or stop; "
        "repeatable (one that the server refuses by name is left out by itself)",
    )
    rename: tuple[str, ...] = Field(
        (), description="OURS=THEIRS: a parameter under another name, such as seed=random_seed; repeatable"
    )
    judge_leave_out: tuple[str, ...] = Field((), description="--leave-out for the judge's endpoint")
    judge_rename: tuple[str, ...] = Field((), description="--rename for the judge's endpoint")
    on_failure: Literal["stop", "missing"] = Field(
        "stop",
        description="a prompt that fails through all retries (status 500, no answer in time) while others are answered: "
        "stop, or count it as missing",
    )
    price_in: float | None = Field(None, ge=0, description="price of a million prompt tokens; give both or none")
    price_out: float | None = Field(None, ge=0, description="price of a million answer tokens")
    harness_data: Path | None = Field(
        None, description="folder with the data sets of harness tasks, instead of the hub"
    )
    harness_tasks: Path | None = Field(None, description="folder with task YAMLs of your own for harness tasks")
    harness_chat: bool = Field(False, description="put harness prompts into the model's chat template")
    harness_run_code: bool = Field(False, description="allow harness tasks that run code (humaneval)")
    num_fewshot: int | None = Field(None, ge=0, description="examples shown in harness prompts [the task's]")
    margin: float = Field(
        0.02,
        gt=0,
        description="two models: a change within this margin counts as none (shares: of 1; mt_bench: see docs)",
    )
    out: Path | None = Field(None, description="run folder: the scorecards, and every item with its texts")
    export: Path | None = Field(
        None,
        description="write the tasks into this folder, and ask no model: those of labels for lm-evaluation-harness, those of "
        "texts as OpenAI batch files (vllm run-batch -i FILE)",
    )
    gate: tuple[str, ...] = Field(
        (), description="'TASK[.METRIC][[COLUMN=VALUE]] >= NUMBER': sets the exit code; repeatable"
    )
    undecided: Literal["pass", "fail"] | None = Field(None, description="what an undecided gate counts as [exit 3]")
    engine: str = ENGINE
    max_time: float | None = Field(None, gt=0, description="stop after so many minutes; the same command goes on")
    store: Path | None = Field(
        None, description="folder or URL of finished steps [$PYRITE_STORE, else the user's cache]"
    )
    quiet: bool = Field(False, description="no progress display")

    @field_validator("labels")
    @classmethod
    def _choice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) == 1:
            raise ValueError("a model that chooses among one label is never wrong: name two at least")
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def _variables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from pyrite.models.template import parse_template_kwargs

        try:
            parse_template_kwargs(value)
        except UserError as error:
            raise ValueError(f"{error.what} {error.found}; {error.fix}") from None
        return value


class ProbeConfig(ProbeOptions, CallConfig):
    """A model, two models to compare, or predictions to score."""

    model: str | None = Field(None, description="packaged:NAME, a model folder, or org/name[@revision] on the hub")
    other: str | None = Field(None, description="a second model: both are asked, and compared item by item")

    @model_validator(mode="after")
    def _address(self) -> "ProbeConfig":
        if (self.backend == "openai") != (self.base_url is not None):
            raise ValueError("--backend openai and --base-url go together")
        if self.chat_template_kwargs and any(task.startswith("harness:") for task in self.task):
            raise ValueError(
                "--chat-template-kwargs does not reach harness tasks: leave it out, or ask them by themselves"
            )
        if self.tokenizer is not None and self.backend != "openai":
            raise ValueError("--tokenizer is of an endpoint's model: a model on this machine brings its own")
        if self.backend == "openai" and self.precision == "int8":
            raise ValueError("--precision int8 is for models on this machine, not for an endpoint's: leave it out")
        return self
