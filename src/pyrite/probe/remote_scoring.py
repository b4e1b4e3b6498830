"""Rows that an endpoint scores: as token ids where its tokenizer is at hand, else as texts; part by part, faults counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.remote_endpoint import Usage
from pyrite.models.remote_fault import Fault
from pyrite.models.remote_scorer import PLAIN, Scorer
from pyrite.models.remote_scores import Prompt, PromptScores
from pyrite.models.work import ReportProgress
from pyrite.probe.config import ProbeConfig
from pyrite.probe.endpoint_input import endpoint_source, read_endpoint
from pyrite.probe.probe_task import ModelUnderTest
from pyrite.steps import Context, Source, Step, answer_file, in_parts

AT_A_TIME = 32_768
"""About how many tokens are scored between two looks at the time, and lost where a run is killed."""
CHARACTERS = 4
"""Of a token, where only the text is known: for the size of parts."""

Reduce = Callable[[int, list[PromptScores]], Any]
"""From the number of a row and the scores of its prompts to what is kept of it: a plain JSON value."""


@dataclass(frozen=True)
class ScoredRows:
    """What was kept of each row (None where it is missing), how many are missing by reason, the first of them in the endpoint's
    words, and what is known of the scoring."""

    values: list[Any]
    dropped: Counter[str]
    first: str
    scored_by: dict[str, Any]


def scoring_inputs(config: ProbeConfig, subject: ModelUnderTest) -> dict[str, Step | Source]:
    """The inputs of a step in which an endpoint scores."""
    assert config.base_url is not None
    inputs: dict[str, Step | Source] = {"endpoint": endpoint_source(config, config.base_url, subject.name)}
    if config.tokenizer is not None:
        ref = load.resolve(config.tokenizer, tokenizer_only=True)
        inputs["tokenizer"] = Source(str(ref.folder), ref.identity)
    return inputs


def tokenizer_of(context: Context) -> Any:
    """The endpoint's tokenizer; None where it is not at hand."""
    folder = context.inputs.get("tokenizer")
    return None if folder is None else load.load_tokenizer(folder)


def score_rows(context: Context, rows: Sequence[Sequence[Prompt]], reduce: Reduce) -> ScoredRows:
    """Score all prompts of each row.

    Raises:
        UserError: the endpoint tells no log-probabilities, or of no row at all; or what `Scorer.scores` raises.
        OutOfTime: the run's time is up; looked at after each part, whose scores are kept.
    """
    endpoint = read_endpoint(context.inputs["endpoint"])
    scorer = Scorer(endpoint)
    by_ids = next((not isinstance(prompt, str) for row in rows for prompt in row), False)
    tokenizer = tokenizer_of(context) if by_ids else None
    plain: Prompt = PLAIN if tokenizer is None else list(tokenizer(PLAIN)["input_ids"])

    def work(part: list[int], report_progress: ReportProgress) -> tuple[list[Any], dict[str, Any]]:
        prompts = [prompt for at in part for prompt in rows[at]]
        scorer.usage = Usage()
        ability = scorer.find_ability(plain)
        done = 0

        def answered() -> None:
            nonlocal done
            done += 1
            report_progress(len(part) * done / max(1, len(prompts)), len(part), "rows")

        outcomes = iter(scorer.scores(prompts, answered))
        results = []
        for at in part:
            of_row = [next(outcomes) for _ in rows[at]]
            fault = next((outcome for outcome in of_row if isinstance(outcome, Fault)), None)
            scores = [outcome for outcome in of_row if isinstance(outcome, PromptScores)]
            if fault is None:
                results.append({"value": reduce(at, scores)})
            else:
                results.append({"missing": fault.missing, "detail": fault.reason})
        return results, {**asdict(ability), "usage": asdict(scorer.usage)}

    sizes = [sum(map(size_of, row)) for row in rows]
    question = [[prompt if isinstance(prompt, str) else list(prompt) for prompt in row] for row in rows]
    results, records = in_parts(context, "scores", question, sizes, work, tokens=AT_A_TIME)
    missing = [result for result in results if "missing" in result]
    if missing and len(missing) == len(results):
        answer_file(context, "scores", question).unlink()  # so that they are asked anew where the server is mended
        detail = f"{len(results)} rows, the first: {missing[0]['detail']}"
        fix = "mend what it names (such as the longest prompt that the server takes), then run the same command again"
        raise UserError("The endpoint scores no row.", detail, fix)
    usage = total_usage(record.get("usage", {}) for record in records)
    scored_by = {**records[0], "prompts": "token ids" if by_ids else "texts", "usage": usage}
    return ScoredRows(
        [result.get("value") for result in results],
        Counter(result["missing"] for result in missing),
        missing[0]["detail"] if missing else "",
        scored_by,
    )


def total_usage(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all parts took, those of earlier attempts too."""
    totals = asdict(Usage())
    for part in parts:
        for name, value in part.items():
            if value is not None:
                totals[name] = value + (totals[name] or 0)
    return totals


def size_of(prompt: Prompt) -> int:
    """About how many tokens a prompt has."""
    return -(-len(prompt) // CHARACTERS) if isinstance(prompt, str) else len(prompt)


def scoring_notes(record: Mapping[str, Any]) -> list[str]:
    """How an endpoint scored, for a reader; nothing where none did."""
    scored_by = record.get("scored_by")
    if not scored_by:
        return []
    same = {True: ", equal to those that it writes by", None: ""}[scored_by["same_as_written"]]
    notes = [f"log-probabilities of {scored_by['prompts']} by the endpoint ({scored_by['way']}{same})"]
    if record.get("dropped_first"):
        notes.append(f"the first row without a score: {record['dropped_first']}")
    return notes
