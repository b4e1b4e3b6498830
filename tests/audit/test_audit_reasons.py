"""Why a statistic was not taken: the true reason, which a reference would not mend where the data itself lacks something."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pyrite.audit.baselines import DrawSettings
from pyrite.audit.compare import measure_flaw
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import Sampled
from pyrite.audit.rows import Row

REFERENCE = "needs a reference"
N = 60


def chats(prompt: str = "what is it", answer: str = "it is a small red house by the sea {}") -> list[Row]:
    return [Row(at, f"a:{at}", prompt, (answer.format(at),) if answer else ()) for at in range(N)]


def labelled(*fields: str, labels: tuple[str | None, ...] = ("yes", "no")) -> list[Row]:
    return [
        Row(at, f"a:{at}", "", ("text",), labels[at % len(labels)], dict.fromkeys(fields, f"some words {at % 7}"))
        for at in range(N)
    ]


def reasons(name: str, data: list[Row], references: list[Row] = [], **extras: Any) -> dict[str, str]:  # noqa: B006
    """What was not taken of a flaw, and why."""
    theirs = [replace(row, source="h") for row in references]
    places = range(len(data), len(data) + len(theirs))
    sampled = Sampled([*data, *theirs], list(range(len(data))), {"h": list(places)} if theirs else {})
    settings = DrawSettings(permutations=9, seed=0)
    population = Population(data, {})
    _, missing = measure_flaw(FLAWS[name], sampled, population, Extras(permutations=9, **extras), settings)
    return {statistic.name: why for statistic, why in missing}


def vectors(count: int) -> np.ndarray[Any, Any]:
    points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("references", [False, True])
def test_artifacts_need_fields_and_labels_not_a_reference(references: bool) -> None:
    whys = set(reasons("artifacts", chats(), chats() if references else []).values())
    (why,) = whys
    assert "--text-fields" in why
    assert REFERENCE not in why
    (why,) = set(reasons("artifacts", labelled("text", labels=(None,))).values())
    assert "no row has a label" in why
    (why,) = set(reasons("artifacts", labelled("text", labels=("yes",))).values())
    assert "fewer than two labels" in why


def test_overlap_needs_two_fields() -> None:
    whys = reasons("artifacts", labelled("text"))
    assert set(whys) == {"overlap_label", "overlap_only"}
    assert all("one text field" in why for why in whys.values())
    assert reasons("artifacts", labelled("premise", "hypothesis")) == {}


@pytest.mark.parametrize("name", ["format", "tokens", "diversity"])
def test_rows_without_answers(name: str) -> None:
    assert all("have an answer" in why for why in reasons(name, chats(answer="")).values())
    assert set(reasons(name, chats()).values()) == {REFERENCE}


def test_answers_that_are_too_short() -> None:
    whys = reasons("diversity", chats(answer="yes it is {}"))
    assert whys["novelty"] == REFERENCE
    assert "5 words" in whys["cross_row_repetition"]
    whys = reasons("diversity", chats(), chats(answer="yes"))
    assert whys["novelty"] == "references: fewer than two rows have an answer of 4 words or more"


def test_difficulty_needs_prompts() -> None:
    whys = reasons("perplexity", chats(prompt=""))
    assert "have a prompt" in whys["instruction_difficulty"]
    assert whys["shift"] == REFERENCE
    assert set(reasons("perplexity", chats()).values()) == {REFERENCE}


def test_words_that_the_embedder_does_not_know() -> None:
    assert all("--embedder" in why for why in reasons("embedding", chats()).values())
    assert set(reasons("embedding", chats(), embeddings=vectors(N)).values()) == {REFERENCE}
    assert "--embedder" in reasons("duplicates", chats())["semantic"]
    assert reasons("duplicates", chats())["against_reference"] == REFERENCE
    assert set(reasons("duplicates", chats(), embeddings=vectors(N)).values()) <= {REFERENCE}


def test_a_small_reference_and_other_labels() -> None:
    few = chats()[:20]
    assert set(reasons("format", chats(), few).values()) == {"needs a reference of 50 rows; this one has 20"}
