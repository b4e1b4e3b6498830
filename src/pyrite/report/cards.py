"""Cards in the hub's format: a header that it reads, and the report's sections as plain Markdown.

    FOLDER/data-NAME/README.md       of an audit
    FOLDER/model-NAME/README.md      of each model that a probe asked
    FOLDER/repaired-NAME/README.md   of a repair: the card of the repaired model's own folder
    FOLDER/study-NAME/README.md      of a study

Everything in a run is text of any origin, so all of it is escaped (`pyrite.markdown`). A card is made to be published:
folders of the machine it was made on are left out of it (`pyrite.redact`).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.io import atomic_write
from pyrite.markdown import bullets, clean, escaped, fenced, markdown_table
from pyrite.redact import redact_path, stem_of
from pyrite.repair.card import card as repair_card
from pyrite.repair.card import eval_results
from pyrite.report.config import ReportConfig
from pyrite.report.names import display_names
from pyrite.report.page import Block, Cell, Facts, Figure, Finding, Lines, Rows, Section, Side, Table, Verdict
from pyrite.runs import Run
from pyrite.runs.audit import AuditRecord
from pyrite.runs.probe import ProbeRecord

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""The hub's words for a number of rows below a bound."""
LARGEST = "n>10M"
HEADER = 65536
"""Bytes in which a card's header ends."""
EXAMPLES = 5
"""Rows of data that stand under a finding."""
NO_TEXTS = "Texts of the data and of answers were left out of this card."


def write_cards(runs: Sequence[Run[Any]], folder: Path, *, no_rows: bool = False) -> list[Path]:
    """Write a card for every run, and for each part of a loop; returns the files. `no_rows`: without texts of the data.

    Raises:
        UserError: a run folder that is not whole, or a file in a card's place that is no card of ours: nothing is written.
    """
    cards = planned_cards(runs, folder, no_rows=no_rows)
    for path, text in cards.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(cards)


def planned_cards(runs: Sequence[Run[Any]], folder: Path, *, no_rows: bool = False) -> dict[Path, str]:
    """Every card's file and text; writes nothing.

    Raises:
        UserError: as `write_cards`.
    """
    cards: dict[Path, str] = {}
    for name, text in (card for run in runs for card in cards_of(run, no_rows)):
        path, number = folder / name / "README.md", 1
        while path in cards:
            number += 1
            path = folder / f"{name}-{number}" / "README.md"
        check_card(path)
        cards[path] = text
    return cards


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


def cards_of(run: Run[Any], no_rows: bool) -> Iterator[tuple[str, str]]:
    """(folder's name, card) of a run."""
    record = run.record
    if run.verb == "loop":
        for part in run.parts.values():
            yield from cards_of(part, no_rows)
    elif run.verb == "repair":
        yield f"repaired-{stem_of(redact_path(record.model))}", repair_card(record)
    elif run.verb == "audit":
        name = redact_path(record.data[0])
        yield f"data-{stem_of(name)}", join(data_header(record, name), body(run, f"Audit of {name}", no_rows))
    elif run.verb == "probe":
        names = display_names(record.subjects())
        for model in record.models:
            header = model_header(record, model, names[model])
            yield f"model-{stem_of(names[model])}", join(header, body(run, f"Probe of {names[model]}", no_rows))
    else:
        text = join(study_header(run), body(run, f"Study {run.name}", no_rows))
        yield f"study-{stem_of(run.name)}", text


def join(header: Any, text: str) -> str:
    """A card of its header and its text."""
    return f"---\n{header.to_yaml()}\n---\n\n{text}\n"


def data_header(record: AuditRecord, name: str) -> Any:
    """What the hub reads of a data card."""
    from huggingface_hub import DatasetCardData

    rows = record.rows.kept if record.records is None else record.records
    size = next((word for bound, word in SIZES.items() if rows < bound), LARGEST)
    tags = ["pyrite", "synthetic", "data-audit"]
    standing_out = [finding for finding in record.findings if finding.severity != "ok"]
    tags += sorted({f"pyrite:{finding.severity}:{finding.flaw}" for finding in standing_out})
    return DatasetCardData(pretty_name=clean(name), size_categories=[size], tags=[clean(tag) for tag in tags])


def model_header(record: ProbeRecord, model: str, name: str) -> Any:
    """What the hub reads of a model card: the scorecards as evaluation results. `name`: what the model is called."""
    from huggingface_hub import ModelCardData

    results = eval_results([card for card in record.scorecards if card.about == model])
    fields: dict[str, Any] = {"model_name": clean(name), "eval_results": results} if results else {}
    metrics = list(dict.fromkeys(result.metric_type for result in results))
    return ModelCardData(tags=["pyrite", "evaluation", "robustness"], metrics=metrics or None, **fields)


def study_header(run: Run[Any]) -> Any:
    """What the hub reads of a study's card."""
    from huggingface_hub import ModelCardData

    return ModelCardData(tags=["pyrite", "study", "robustness", "synthetic-data"], pretty_name=clean(run.name))


def body(run: Run[Any], title: str, no_rows: bool) -> str:
    """The report's sections on one run as Markdown, without figures and long tables of rows."""
    from pyrite.report.parts import part_of

    config = ReportConfig(runs=(str(run.folder),), rows=EXAMPLES, no_rows=no_rows)
    part = part_of(run, config, run.verb)
    software = [("software", ", ".join(f"{name} {value}" for name, value in part.software if name != "platform"))]
    pieces = [
        f"# {escaped(title)}",
        *([bullets(map(verdict_line, part.verdicts))] if part.verdicts else []),
        *([NO_TEXTS] if no_rows else []),
        *(text for section in part.sections for text in section_texts(section, 2)),
        "## How it was measured",
        *block_texts([*part.ran, Facts(software)]),
        "## How to reproduce",
        *block_texts(part.again),
        "## What cannot be concluded",
        bullets(map(escaped, part.unsaid)),
    ]
    return "\n\n".join(piece for piece in pieces if piece)


def section_texts(section: Section, depth: int) -> list[str]:
    """A heading, its blocks, and the sections below; nothing where only figures would stand there."""
    texts = block_texts(section.blocks)
    texts += [text for below in section.sections for text in section_texts(below, min(6, depth + 1))]
    return [f"{'#' * depth} {escaped(section.title)}", *texts] if texts else []


def block_texts(blocks: Sequence[Block]) -> list[str]:
    """Blocks as pieces of Markdown."""
    return [text for block in blocks for text in texts_of_block(block)]


def texts_of_block(block: Block) -> list[str]:
    """One block; a figure stands in the report only."""
    if isinstance(block, Table):
        caption = [f"**{escaped(block.caption)}**"] if block.caption else []
        note = [escaped(block.note)] if block.note else []
        return [*caption, markdown_table(block.columns, [list(map(cell_text, row)) for row in block.rows]), *note]
    if isinstance(block, Facts):
        caption = [f"**{escaped(block.caption)}**"] if block.caption else []
        return [*caption, bullets(f"{escaped(name)}: {escaped(value)}" for name, value in block.items)]
    if isinstance(block, Lines):
        return line_texts(block)
    if isinstance(block, Finding):
        title = escaped(f"{block.verdict.label}: {block.title}")
        return [f"### {title}", escaped(block.verdict.sentence), *block_texts(block.blocks)]
    if isinstance(block, Rows):
        return [escaped(f"{block.total:,} rows stand in the run folder and in the report.")]
    if isinstance(block, Side):
        both = zip(block.names, block.columns, strict=True)
        return [text for name, column in both for text in (f"**{escaped(name)}**", *block_texts(column))]
    assert isinstance(block, Figure)
    return []


def line_texts(block: Lines) -> list[str]:
    """Paragraphs, a list, text out of the data, or code."""
    if block.kind == "code":
        return [fenced("\n".join(block.lines))]
    if block.kind == "list":
        return [bullets(map(escaped, block.lines), "*")] if block.lines else []
    if block.kind == "quote":
        return ["\n".join(f"> {escaped(line)}  " for line in block.lines).rstrip()]
    return [escaped(line) for line in block.lines]


def cell_text(cell: Cell | str) -> str:
    """A cell's text."""
    return cell.text if isinstance(cell, Cell) else cell


def verdict_line(verdict: Verdict) -> str:
    """A verdict as a line of a list."""
    return f"**{escaped(verdict.label)}**: {escaped(verdict.sentence)}"
