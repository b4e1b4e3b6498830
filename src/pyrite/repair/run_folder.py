"""The folder of a repaired model: weights and tokenizer, repair.json, curves, the scorecard's items, the model card.

It appears whole or not at all, and replaces only what an earlier repair of ours wrote.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import is_hub, write_parquet
from pyrite.io.copies import is_within
from pyrite.io.sources import parse_source
from pyrite.models.whole import ADAPTER_CONFIG
from pyrite.outputs import check_writable, few
from pyrite.probe.run_folder import ITEMS, TEXTS, SubjectOutput, items_table, texts_table
from pyrite.repair.card import card
from pyrite.repair.tables import as_csv
from pyrite.runs.repair import RepairRecord
from pyrite.runs.write import write_record
from pyrite.steps.store import DROPPED, MANIFEST

TOLD = "repair.json"
CARD = "README.md"
GIVEN_CARD = "README.original.md"
"""The card of the model as given: the repaired model has one of its own."""
NOT_COPIED = (MANIFEST, DROPPED, TOLD, CARD, GIVEN_CARD, ITEMS, TEXTS)


def file_stem(model: str) -> str:
    """A model's name as a part of a file name.

    >>> file_stem("packaged:smollm2-135m-instruct"), file_stem("org/name@main")
    ('smollm2-135m-instruct', 'name')
    """
    last = Path(model.partition("@")[0].rpartition(":")[2]).expanduser().resolve().name
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in last) or "model"


def check_repair_folder(folder: Path, *, reads: Sequence[str]) -> None:
    """Refuse, before anything runs, to write over what is read, or over a folder that is not a repair of ours.

    Raises:
        UserError: the folder is (above or below) something that is read, holds other files, or cannot be written.
    """
    for text in reads:
        if is_hub(text):
            continue
        place = parse_source(text).place
        if is_within(folder, place) or is_within(place, folder):
            raise UserError("The repaired model would be written over what is read.", f"--out {folder}", "name another")
    strange = foreign_files(folder)
    if strange:
        detail = f"{folder} holds {few(strange)}"
        raise UserError("The output folder is in use.", detail, "name another with --out, or move it")
    check_writable(folder.parent)


def foreign_files(folder: Path) -> list[str]:
    """What stands in the folder that no repair of ours wrote there? Nothing where it is absent or empty."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return [f"a file: {folder.name}"]
    ours: set[str] = set()
    try:
        record = orjson.loads((folder / TOLD).read_bytes())
        ours = {TOLD, *record["written"]} if record["verb"] == "repair" else set()
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return sorted(path.name for path in folder.iterdir() if path.name not in ours)


def write_repair_folder(
    folder: Path, values: dict[str, Any], trained: Path, subjects: Sequence[SubjectOutput], outcomes: Sequence[Mapping[str, Any]] = ()
) -> None:  # fmt: skip
    """Write the folder beside its place, then put it there; `values` gains the names of what was `written`.

    `outcomes` are what became of each item under three models.
    """
    from pyrite.repair.figure import draw_curves, draw_frontier
    from pyrite.repair.tables import frontier_rows

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        partial.mkdir(parents=True)
        for file in sorted(trained.iterdir()):
            if file.is_dir():
                shutil.copytree(file, partial / file.name)
            elif file.name not in NOT_COPIED:
                shutil.copyfile(file, partial / file.name)
        if (trained / CARD).is_file() and not (trained / ADAPTER_CONFIG).is_file():  # the library writes an adapter's
            shutil.copyfile(trained / CARD, partial / GIVEN_CARD)
        tables = {} if "mixed" in values else {"curve.csv": values["curve"], "guard.csv": values["guard"]}
        tables |= {"frontier.csv": frontier_rows(values["frontier"])} if values.get("frontier") else {}
        tables |= {"outcomes.csv": outcomes} if outcomes else {}
        for name, rows in tables.items():
            (partial / name).write_text(as_csv(rows), encoding="utf-8")
        write_parquet(items_table(subjects), partial / ITEMS)
        write_parquet(texts_table(subjects), partial / TEXTS)
        draw_curves(values, partial)
        draw_frontier(values.get("frontier"), partial)
        record = RepairRecord(**values)
        (partial / CARD).write_text(card(record), encoding="utf-8")
        values["out"] = str(folder)
        values["written"] = sorted(file.name for file in partial.iterdir())
        write_record(partial / TOLD, record.replaced_by(written=values["written"]))
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        detail = f"{folder}: {error.strerror or error}"
        raise UserError("The repaired model could not be written.", detail, "free space, or --out FOLDER") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def undone(text: str) -> dict[str, Any]:
    """What did the training that is undone take? From its history.json, the folder that holds it, or a number of tokens.

    Raises:
        UserError: no such file, or one without a number of tokens.
    """
    if text.isdecimal() and int(text) > 0:
        return {"from": "--undoes", "tokens": int(text), "flops": None}
    path = Path(text).expanduser()
    file = path / "history.json" if path.is_dir() else path
    fix = "give the training's history.json, its folder, or the number of tokens that it processed"
    try:
        history = orjson.loads(file.read_bytes())
        tokens, flops = history["tokens"], history.get("flops")
        tokens = tokens if isinstance(tokens, int | float) else sum(tokens.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("That is no training whose cost is known.", f"--undoes {text}: {error}", fix) from error
    if not tokens > 0:
        raise UserError("That training processed no tokens.", f"--undoes {text}: {tokens}", fix)
    return {"from": file.name, "tokens": int(tokens), "flops": flops}
