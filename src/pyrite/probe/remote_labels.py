"""Which label does a language model behind an endpoint choose? The likeliest label word after the task's prompt."""

from collections.abc import Sequence
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import write_parquet
from pyrite.models.remote_scores import Prompt, PromptScores, alike_tokens, common_beginning, is_unclear
from pyrite.models.score import refuse_beginnings
from pyrite.models.tokenise import encode_choices
from pyrite.probe.predict import prediction_rows
from pyrite.probe.remote_scoring import score_rows, tokenizer_of
from pyrite.steps import Context, StepType
from pyrite.tasks.prompts import classify
from pyrite.tasks.rows import read_rows


def remote_labels_step(context: Context) -> None:
    """Step: an endpoint's answers → `predictions.parquet` and `reading.json`, as a model on this machine leaves them.

    Only differences between the labels of a row count, so that each is scored over the tokens in which the labels' texts
    differ: where a token lies across the border between prompt and label, it is the label's.
    """
    items = read_rows(context.inputs["items"] / "items.jsonl")
    labels: list[str] = context.config["labels"]
    contexts, words = [classify(item.fields, labels) for item in items], [" " + label for label in labels]
    tokenizer = tokenizer_of(context)
    rows: list[list[Prompt]]
    starts: list[int] = []
    if tokenizer is None:
        rows = [[before + word for word in words] for before in contexts]
    else:
        encoded = encode_choices(tokenizer, contexts, words, add_special_tokens=True)
        refuse_beginnings({tuple(map(tuple, choices)) for _, choices in encoded})
        rows = [[[*before, *choice] for choice in choices] for before, choices in encoded]
        starts = [len(before) for before, _ in encoded]

    def logprobs(at: int, scores: list[PromptScores]) -> list[float]:
        start = starts[at] if starts else first_difference(scores, labels)
        return [score.total(start) for score in scores]

    scored = score_rows(context, rows, logprobs)
    write_parquet(prediction_rows(items, labels, scored.values), context.out / "predictions.parquet")
    record: dict[str, Any] = {"rows_cut": 0, "max_tokens": None, "scored_by": scored.scored_by}
    if scored.dropped:
        record |= {"rows": len(items), "rows_refused": scored.dropped.total(), "dropped": dict(scored.dropped)}
        record |= {"dropped_first": scored.first}
    (context.out / "reading.json").write_bytes(orjson.dumps(record))


def first_difference(scores: Sequence[PromptScores], labels: Sequence[str]) -> int:
    """The first token in which the prompts of a row differ.

    Raises:
        UserError: one label begins another, or the server read a prompt's beginning otherwise.
    """
    start = common_beginning(scores)
    within = [(short, long) for short in labels for long in labels if short != long and long.startswith(short)]
    if within and any(is_unclear(token) for score in scores for token in score.identities()[alike_tokens(scores) :]):
        detail = f"{within[0][0]!r} and {within[0][1]!r}, in tokens that do not spell them"
        fix = "give --tokenizer MODEL, so that tokens are sent and not texts; or choose other words, with --labels"
        raise UserError("A label word may be the beginning of another.", detail, fix)
    if any(start == len(score.tokens) for score in scores):
        whole = next(label for label, score in zip(labels, scores, strict=True) if start == len(score.tokens))
        raise UserError(
            "A label word is the beginning of another.", f"the tokens of {whole!r}", "choose other words, with --labels"
        )
    if start < 1:
        tokens = ", ".join(repr(score.tokens[0]) for score in scores)
        fix = "give --tokenizer MODEL, so that tokens are sent and not texts"
        raise UserError("The endpoint reads the same beginning as different tokens.", tokens, fix)
    return start


REMOTE_LABELS = StepType("probe.labels_at_endpoint", 1, remote_labels_step)
