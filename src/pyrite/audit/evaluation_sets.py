"""The texts of evaluation sets: those that Pyrite knows by name, and files in any layout that it reads."""

from collections.abc import Iterator
from pathlib import Path

from pyrite.audit.rows import audit_row
from pyrite.errors import UserError
from pyrite.records import Pair


def evaluation_texts(name: str, path: Path) -> list[str]:
    """The texts of an evaluation set, each once, in the file's order.

    `ifeval`: the prompts. `followbench`: one text for each example, its requests of all levels (each level repeats the
    one before). `mt_bench`: one text for each question, both turns and the judge's references. Any other name is a file
    in a layout that Pyrite reads: what stands in a row is a text; of pairs (`nli`, `hans`) premise and hypothesis are
    a text each, as several pairs share a premise.

    Raises:
        UserError: the file is not what the name says, or a row is bad.
    """
    readers = {"ifeval": _ifeval, "followbench": _followbench, "mt_bench": _mt_bench}
    texts = list(dict.fromkeys(text for text in readers.get(name, _any)(Path(path)) if text.strip()))
    if not texts:
        raise UserError("There are no evaluation texts.", str(path), "check the file")
    return texts


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

    for record in open_records(path):
        if isinstance(record, Pair):
            yield from (record.premise, record.hypothesis)
        else:
            yield audit_row(record, 0).text
