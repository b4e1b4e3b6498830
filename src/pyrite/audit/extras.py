"""What flaws are given beside the rows: the tokenizer, evaluation sets, and what models have read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.audit.flaw import Extras
from pyrite.audit.rows import audit_row
from pyrite.errors import UserError
from pyrite.io import ReadOptions
from pyrite.records import Pair


def tokenizer_of(folder: Path) -> Any:
    """Texts to token ids by the folder's `tokenizer.json`, no special tokens added.

    Raises:
        UserError: the folder has no such file.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("The tokenizer cannot be read.", f"no tokenizer.json in {folder}", "name another --tokenizer")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    tokenize.decode = tokenizer.decode  # type: ignore[attr-defined]
    return tokenize


def extras_of(config: Mapping[str, Any], inputs: Mapping[str, Path], **read: Any) -> Extras:
    """What the flaws of a step are given: the tokenizer and the evaluation sets among the step's inputs, and what
    models have `read`."""
    tokenize = tokenizer_of(inputs["tokenizer"]) if "tokenizer" in inputs else None
    sets = {name: evaluation_texts(name, inputs[f"against {name}"]) for name in config.get("against", ())}
    draws = int(config.get("permutations", Extras.permutations))
    return Extras(tokenize=tokenize, against=sets, seed=int(config.get("seed", 0)), permutations=draws, **read)


def evaluation_texts(name: str, path: Path) -> list[str]:
    """The texts of an evaluation set, each once, in the file's order.

    `ifeval`: the prompts. `followbench`: one text for each example, its requests of all levels (each level repeats the
    one before). `mt_bench`: one text for each question, both turns and the judge's references. Any other name is a file
    in a layout that Pyrite reads: what stands in a row is a text; of pairs (`nli`, `hans`) premise and hypothesis are
    a text each, as several pairs share a premise.

    Raises:
        UserError: the file is not what the name says, or a row is bad.
    """
    texts = list(dict.fromkeys(text for text in READERS.get(name, _any)(Path(path)) if text.strip()))
    if not texts:
        raise UserError("There are no evaluation texts.", str(path), "check the file")
    return texts


def evaluation_words(name: str, path: str) -> str:
    """How an evaluation set was read, in words; empty where its name says it."""
    from pyrite.io import how_read, open_records

    return "" if name in READERS else how_read(open_records(path, PLAIN))


def _ifeval(path: Path) -> Iterator[str]:
    from pyrite.io.files import find_file
    from pyrite.io.formats import raw_rows
    from pyrite.io.raw_row import BadRow

    file = find_file(path)
    for number, raw in raw_rows(file):
        prompt = None if isinstance(raw, BadRow) else raw.get("prompt")
        if not isinstance(prompt, str):
            raise UserError(
                "bad row: no prompt", file.location(number), "take IFEval's input_data.jsonl as it was published"
            )
        yield prompt


def _followbench(path: Path) -> Iterator[str]:
    from pyrite.tasks import followbench

    examples = {item.meta["example"]: item.meta["requests"] for item in followbench.read(path)}
    for requests in examples.values():
        yield "\n".join(dict.fromkeys(request for request in requests if request))


def _mt_bench(path: Path) -> Iterator[str]:
    from pyrite.tasks import mt_bench

    for item in mt_bench.read(path):
        yield "\n".join(text for text in (*item.meta["turns"], *item.meta["reference"]) if text)


def _any(path: Path) -> Iterator[str]:
    from pyrite.io import open_records

    for record in open_records(path, PLAIN):
        if isinstance(record, Pair):
            yield from (record.premise, record.hypothesis)
        else:
            yield audit_row(record, 0).text


PLAIN = ReadOptions(flags=None)
"""How evaluation sets of no known name are read: no flag says more about them."""
READERS = {"ifeval": _ifeval, "followbench": _followbench, "mt_bench": _mt_bench}
"""The evaluation sets whose name says how they are read."""
