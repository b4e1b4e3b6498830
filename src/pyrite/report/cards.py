"""Cards in the hub's format: a header that it reads, and the report's sections as plain Markdown.

    FOLDER/data-NAME/README.md       of an audit
    FOLDER/model-NAME/README.md      of each model that a probe asked
    FOLDER/repaired-NAME/README.md   of a repair: the card of the repaired model's own folder
    FOLDER/study-NAME/README.md      of a study

Everything in a run is text of any origin, so all of it is escaped (`pyrite.markdown`). A card is made to be published:
folders of the machine it was made on are left out of it (`pyrite.names`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.markdown import bullets, clean, escaped, fenced, table
from pyrite.names import redact_path, stem_of
from pyrite.repair.card import card as repair_card
from pyrite.repair.card import eval_results
from pyrite.report.config import ReportConfig
from pyrite.report.names import subjects
from pyrite.report.page import Block, Cell, Facts, Figure, Finding, Lines, Rows, Section, Side, Table, Verdict
from pyrite.runs import Run

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""The hub's words for a number of rows below a bound."""
LARGEST = "n>10M"
HEADER = 65536
"""Bytes in which a card's header ends."""
EXAMPLES = 5
"""Rows of data that stand under a finding."""
NO_TEXTS = "Texts of the data and of answers were left out of this card."


def write_cards(runs: Sequence[Run], folder: Path, *, no_rows: bool = False) -> list[Path]:
    """Write a card for every run, and for each part of a loop; returns the files. `no_rows`: without texts of the data.

    Raises:
        UserError: a run folder that is not whole, or a file in a card's place that is no card of ours: nothing is written.
    """
    cards = planned(runs, folder, no_rows=no_rows)
    for path, text in cards.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(cards)


def planned(runs: Sequence[Run], folder: Path, *, no_rows: bool = False) -> dict[Path, str]:
    """Every card's file and text; writes nothing.

    Raises:
        UserError: as `write_cards`.
    """
    made: dict[Path, str] = {}
    for name, text in (card for run in runs for card in cards_of(run, no_rows)):
        path, number = folder / name / "README.md", 1
        while path in made:
            number += 1
            path = folder / f"{name}-{number}" / "README.md"
        check_card(path)
        made[path] = text
    return made


def check_card(path: Path) -> None:
    """Refuse to write over something that is no card of ours: one whose header has the tag pyrite.

    Raises:
        UserError: another file, or a folder, stands there.
    """
    if not path.exists():
        return
    header = b""
    if path.is_file():
        with path.open("rb") as handle:
            header = handle.read(HEADER).partition(b"\n---")[0]
    if not (header.startswith(b"---\n") and re.search(rb"^- pyrite$", header, re.MULTILINE)):
        raise UserError(
            "A card would be written over a file that is no card of ours.", str(path), "name another --cards"
        )


def cards_of(run: Run, no_rows: bool) -> Iterator[tuple[str, str]]:
    """(folder's name, card) of a run."""
    told = run.told
    if run.verb == "loop":
        for part in run.parts.values():
            yield from cards_of(part, no_rows)
    elif run.verb == "repair":
        yield f"repaired-{stem_of(redact_path(told['model']))}", repair_card(told)
    elif run.verb == "audit":
        name = redact_path(told["data"][0])
        yield f"data-{stem_of(name)}", join(data_header(told, name), body(run, f"Audit of {name}", no_rows))
    elif run.verb == "probe":
        called = subjects(told)
        for model in map(str, told["models"]):
            name = called[model]
            header = model_header(told, model, name)
            yield f"model-{stem_of(name)}", join(header, body(run, f"Probe of {name}", no_rows))
    else:
        text = join(study_header(run), body(run, f"Study {run.name}", no_rows))
        yield f"study-{stem_of(run.name)}", text


def join(header: Any, text: str) -> str:
    """A card of its header and its text."""
    return f"---\n{header.to_yaml()}\n---\n\n{text}\n"


def data_header(told: Mapping[str, Any], name: str) -> Any:
    """What the hub reads of a data card."""
    from huggingface_hub import DatasetCardData

    size = next((word for bound, word in SIZES.items() if told["records"] < bound), LARGEST)
    tags = ["pyrite", "synthetic", "data-audit"]
    tags += sorted({f"pyrite:{one['severity']}:{one['flaw']}" for one in told["findings"] if one["severity"] != "ok"})
    return DatasetCardData(pretty_name=clean(name), size_categories=[size], tags=[clean(tag) for tag in tags])


def model_header(told: Mapping[str, Any], model: str, name: str) -> Any:
    """What the hub reads of a model card: the scorecards as evaluation results. `name`: what the model is called."""
    from huggingface_hub import ModelCardData

    measured = eval_results([card for card in told["scorecards"] if card["about"] == model])
    fields: dict[str, Any] = {"model_name": clean(name), "eval_results": measured} if measured else {}
    metrics = list(dict.fromkeys(one.metric_type for one in measured))
    return ModelCardData(tags=["pyrite", "evaluation", "robustness"], metrics=metrics or None, **fields)


def study_header(run: Run) -> Any:
    """What the hub reads of a study's card."""
    from huggingface_hub import ModelCardData

    return ModelCardData(tags=["pyrite", "study", "robustness", "synthetic-data"], pretty_name=clean(run.name))


def body(run: Run, title: str, no_rows: bool) -> str:
    """The report's sections on one run as Markdown, without figures and long tables of rows."""
    from pyrite.report.parts.verbs import part_of

    config = ReportConfig(runs=(str(run.folder),), rows=EXAMPLES, no_rows=no_rows)
    part = part_of(run, config, run.verb)
    software = [("software", ", ".join(f"{name} {value}" for name, value in part.software if name != "platform"))]
    pieces = [
        f"# {escaped(title)}",
        *([bullets(map(verdict, part.verdicts))] if part.verdicts else []),
        *([NO_TEXTS] if no_rows else []),
        *(text for one in part.sections for text in section(one, 2)),
        "## How it was measured",
        *blocks([*part.ran, Facts(software)]),
        "## How to reproduce",
        *blocks(part.again),
        "## What cannot be concluded",
        bullets(map(escaped, part.unsaid)),
    ]
    return "\n\n".join(piece for piece in pieces if piece)


def section(one: Section, depth: int) -> list[str]:
    """A heading, its blocks, and the sections below; nothing where only figures would stand there."""
    inside = [*blocks(one.blocks), *(text for below in one.sections for text in section(below, min(6, depth + 1)))]
    return [f"{'#' * depth} {escaped(one.title)}", *inside] if inside else []


def blocks(some: Sequence[Block]) -> list[str]:
    """Blocks as pieces of Markdown."""
    return [text for one in some for text in block(one)]


def block(one: Block) -> list[str]:
    """One block; a figure stands in the report only."""
    if isinstance(one, Table):
        above = [f"**{escaped(one.caption)}**"] if one.caption else []
        return [
            *above,
            table(one.columns, [list(map(text_of, row)) for row in one.rows]),
            *map(escaped, noted(one.note)),
        ]
    if isinstance(one, Facts):
        above = [f"**{escaped(one.caption)}**"] if one.caption else []
        return [*above, bullets(f"{escaped(name)}: {escaped(value)}" for name, value in one.items)]
    if isinstance(one, Lines):
        return lines(one)
    if isinstance(one, Finding):
        return [
            f"### {escaped(f'{one.verdict.label}: {one.title}')}",
            escaped(one.verdict.sentence),
            *blocks(one.blocks),
        ]
    if isinstance(one, Rows):
        return [escaped(f"{one.total:,} rows stand in the run folder and in the report.")]
    if isinstance(one, Side):
        both = zip(one.names, one.columns, strict=True)
        return [text for name, column in both for text in (f"**{escaped(name)}**", *blocks(column))]
    assert isinstance(one, Figure)
    return []


def noted(note: str) -> list[str]:
    """A note, if there is one."""
    return [note] if note else []


def lines(one: Lines) -> list[str]:
    """Paragraphs, a list, text out of the data, or code."""
    if one.kind == "code":
        return [fenced("\n".join(one.lines))]
    if one.kind == "list":
        return [bullets(map(escaped, one.lines), "*")] if one.lines else []
    if one.kind == "quote":
        return ["\n".join(f"> {escaped(line)}  " for line in one.lines).rstrip()]
    return [escaped(line) for line in one.lines]


def text_of(cell: Cell | str) -> str:
    """A cell's text."""
    return cell.text if isinstance(cell, Cell) else cell


def verdict(one: Verdict) -> str:
    """A verdict as a line of a list."""
    return f"**{escaped(one.label)}**: {escaped(one.sentence)}"
