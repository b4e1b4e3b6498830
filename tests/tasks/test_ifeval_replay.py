"""The harness, run whole on stored answers, and `ifeval.measure` agree on every verdict of the published prompts."""

import importlib.util
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyrite.records import Chat
from pyrite.tasks import ifeval, punkt

pytest.importorskip("lm_eval", reason="the extra eval is not installed")

STORY = (
    "the river runs past an old mill where children play and people talk about work and weather every morning because "
    "nobody there is in a hurry to leave and the bread is good"
)
PHRASES = (
    "Hello!", "My answer is yes.", "P.S. Bring a coat.", "P.P.S. And a hat.", "<<A quiet river>>", "[name] of [place]",
    "* one\n* two\n* three", "- first\n- second", "Section 1\nAll.\nSection 2\nMore.", "*this part* and **that part**",
    "***", "Er kommt morgen nicht nach Hause.", "MR. SMITH WENT HOME AT 5 P.M. TODAY.", "NASA and the U.S. AGREE", "😀😀",
    "Is there anything else I can help with?", "Visit example.com. Dr. Who did... twice?!",
)  # fmt: skip


def load_replay() -> ModuleType:
    path = Path(__file__).with_name("ifeval_replay.py")
    spec = importlib.util.spec_from_file_location("ifeval_replay", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def sentences(rng: random.Random, count: int) -> str:
    lines = []
    for _ in range(count):
        words = rng.sample(STORY.split(), rng.randint(4, 14))
        lines.append(" ".join(words).capitalize() + rng.choice(".!?") + rng.choice([" ", " ", "\n"]))
    return "".join(lines)


def fulfil(name: str, kwargs: Mapping[str, Any], text: str) -> str:
    """Change a text towards what one instruction asks for; later ones may undo it again."""
    shapes: dict[str, Callable[[], str]] = {
        "keywords:existence": lambda: text + " " + " ".join(kwargs["keywords"]),
        "keywords:frequency": lambda: text + f" {kwargs['keyword']}" * kwargs["frequency"],
        "keywords:letter_frequency": lambda: text + kwargs["letter"] * kwargs["let_frequency"],
        "length_constraints:number_words": lambda: text + " word" * kwargs["num_words"],
        "length_constraints:number_sentences": lambda: text + " It is so." * kwargs["num_sentences"],
        "length_constraints:number_paragraphs": lambda: "\n***\n".join([text] * kwargs["num_paragraphs"]),
        "length_constraints:nth_paragraph_first_word": lambda: "\n\n".join(
            [f"{kwargs['first_word']} {text}".replace("\n", " ")] * kwargs["num_paragraphs"]
        ),
        "detectable_content:number_placeholders": lambda: text + " [place]" * kwargs["num_placeholders"],
        "detectable_content:postscript": lambda: f"{text}\n{kwargs['postscript_marker']} Yours.",
        "detectable_format:number_bullet_lists": lambda: text + "\n* a point" * kwargs["num_bullets"],
        "detectable_format:constrained_response": lambda: "My answer is maybe.",
        "detectable_format:number_highlighted_sections": lambda: text + " *a part*" * kwargs["num_highlights"],
        "detectable_format:multiple_sections": lambda: "\n".join(
            f"{kwargs['section_spliter']} {number}\n{text}" for number in range(1, kwargs["num_sections"] + 1)
        ),
        "detectable_format:json_format": lambda: '```json\n{"answer": [1, "two"]}\n```',
        "detectable_format:title": lambda: f"<<A river>>\n{text}",
        "combination:two_responses": lambda: f"{text}\n******\nAnother: {text}",
        "combination:repeat_prompt": lambda: f"{kwargs['prompt_to_repeat']}\n{text}",
        "startend:end_checker": lambda: f"{text}\n{kwargs['end_phrase']}",
        "startend:quotation": lambda: f'"{text}"',
        "change_case:capital_word_frequency": lambda: text + " LOUD" * kwargs["capital_frequency"],
        "change_case:english_capital": text.upper,
        "change_case:english_lowercase": text.lower,
        "punctuation:no_comma": lambda: text.replace(",", ""),
    }
    return shapes.get(name, lambda: text)()


def invent(items: Sequence[Chat], seed: int) -> dict[str, str | None]:
    """Answers of many kinds: about two in three instructions are attended to, some answers are odd or only framed."""
    rng = random.Random(seed)
    answers: dict[str, str | None] = {}
    for item in items:
        text = sentences(rng, rng.randint(1, 9))
        text += "".join(f"\n{phrase}" for phrase in rng.sample(PHRASES, rng.randint(0, 2)))
        for name, kwargs in zip(item.meta["instruction_id_list"], item.meta["kwargs"], strict=True):
            if rng.random() < 0.65:
                text = fulfil(name, kwargs, text)
        frame = rng.random()
        if frame < 0.15:
            text = f"Sure, here it is:\n{text}\nI hope this helps, dear reader."
        elif frame < 0.2:
            text = rng.choice(["", "   \n", "😀", "1 2 3", item.messages[-1].content, "{}", '"'])
        answers[item.id] = text
    return answers


@pytest.mark.real
def test_the_harness_gives_the_same_verdicts_on_all_541_prompts(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(punkt, "cache_folder", lambda: tmp_path / "nltk")
    data = data_folder / "ifeval" / "input_data.jsonl"
    items = ifeval.read(data)
    answers = invent(items, seed=0)
    none, smile = items[3], next(item for item in items if "language:response_language" in str(item.meta))
    answers |= {none.id: None, smile.id: "😀"}
    with pytest.warns(UserWarning, match="no language could be told"):
        report = load_replay().replay(items, answers, data)
    print(report)
    assert report["different"] == []
    lost = len(none.meta["instruction_id_list"])
    assert report["missing"] == 2 + 2 * lost
    for metric, compared in report["metrics"].items():
        assert compared["compared"] == (540 if metric.startswith("prompt") else 834 - lost)
        assert 0.2 < compared["true"] / compared["compared"] < 0.8
    assert report["metrics"]["prompt_loose"]["true"] > report["metrics"]["prompt_strict"]["true"]
