"""What the benchmarks read: public NLI pairs and IFEval prompts where they are at hand, else pairs of our own grammar."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.io import open_records
from pyrite.tasks.grammar import generate_general, generate_pairs
from pyrite.tasks.nli import LABELS
from pyrite.tasks.prompts import NLI_FIELDS, classify, few_shot

HANS = Path("hans/heuristics_sample.jsonl")
MNLI = Path("nli/mnli_dev_matched_part.jsonl")
IFEVAL = Path("ifeval/input_data.jsonl")
MODEL = "packaged:smollm2-135m-instruct"
ENCODER = "packaged:minilm-l6"

TOPICS = ("a market town", "the night train", "a lost letter", "growing tomatoes", "a school play", "an old lighthouse")
FORMS = (
    "a short story",
    "a letter to a friend",
    "five pieces of advice",
    "a speech of 100 words",
    "a list of questions",
)


@dataclass(frozen=True)
class Pairs:
    """Premise and hypothesis of each item, in file order, and where they come from."""

    rows: list[dict[str, str]]
    source: str

    def prompts(self) -> list[str]:
        """Each pair in the prompt that a language model reads."""
        return [classify(row, LABELS) for row in self.rows]


def data_folder(given: str | None) -> Path | None:
    """The folder of public data: `--data`, else `$PYRITE_DATA`; None where there is none."""
    named = given or os.environ.get("PYRITE_DATA")
    folder = Path(named) if named else None
    return folder if folder is not None and folder.is_dir() else None


def spread(rows: Sequence[Any], count: int) -> list[Any]:
    """`count` rows spread evenly over a file, in its order, so that every subcase of a sorted file is there."""
    at = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[i] for i in at]


def fields_of(record: Any) -> dict[str, str]:
    """A pair as the fields of a prompt."""
    return {"premise": record.premise, "hypothesis": record.hypothesis}


def nli_pairs(folder: Path | None, each: int) -> Pairs:
    """`each` HANS pairs and then `each` MultiNLI pairs; without the files, pairs of our grammars in their place."""
    if folder is not None and (folder / HANS).is_file() and (folder / MNLI).is_file():
        read = [spread(list(open_records(folder / file)), each) for file in (HANS, MNLI)]
        return Pairs(
            [fields_of(row) for rows in read for row in rows], f"{len(read[0])} HANS + {len(read[1])} MultiNLI"
        )
    made = generate_pairs(2 * each, seed=0)
    return Pairs([fields_of(row) for row in made], f"NO PUBLIC DATA: {2 * each} HANS-like pairs of our own grammar")


def chat_ids(tokenizer: Any, content: str, begun: str = "") -> list[int]:
    """A user's message in the chat template, with the answer opened; `begun` are the answer's first words."""
    messages = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + begun
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def ifeval_prompts(folder: Path | None, count: int) -> tuple[list[str], str]:
    """`count` IFEval prompts spread over the file, as text; without it, prompts of our own."""
    if folder is not None and (folder / IFEVAL).is_file():
        import orjson

        rows = [orjson.loads(line) for line in (folder / IFEVAL).read_bytes().splitlines() if line.strip()]
        return [row["prompt"] for row in spread(rows, count)], f"{min(count, len(rows))} IFEval prompts"
    made = [f"Write {form} about {topic}. Variant {n}." for n in range(count) for form in FORMS for topic in TOPICS]
    return made[:count], f"NO PUBLIC DATA: {count} prompts of our own"


def sample_jobs(folder: Path | None, tokenizer: Any, total: int, *, shots: int, batch: int) -> tuple[list[Any], str]:
    """The prompts under which NLI examples are sampled: [(prompt's token ids, how many)] in batches of `batch`.

    As in a few-shot recipe: each batch shows the model `shots` labelled rows of one label in a chat prompt and opens
    its answer with the first field's name.
    """
    if folder is not None and (folder / MNLI).is_file():
        rows, source = list(open_records(folder / MNLI)), "MultiNLI rows shown"
    else:
        rows, source = list(generate_general(300, seed=0)), "NO PUBLIC DATA: rows of our own grammar shown"
    by_label = {label: [fields_of(row) for row in rows if row.label == label] for label in LABELS}
    rng = np.random.default_rng(0)
    jobs: list[tuple[list[int], int]] = []
    for number, label in enumerate(LABELS):
        left = total // len(LABELS) + (number < total % len(LABELS))
        while left > 0:
            shown = [by_label[label][at] for at in rng.choice(len(by_label[label]), shots, replace=False)]
            ids = chat_ids(tokenizer, few_shot(label, shown), f"{NLI_FIELDS[0].capitalize()}:")
            jobs.append((ids, min(batch, left)))
            left -= batch
    return jobs, f"{total} texts under {len(jobs)} few-shot prompts, {source}"
