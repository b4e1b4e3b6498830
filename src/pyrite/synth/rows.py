"""Steps: files become cleaned rows; a generator's raw texts become rows. Rows read = kept + dropped by reason."""

from collections import Counter

import orjson

from pyrite.errors import UserError
from pyrite.io import ReadOptions, open_records, stored_options
from pyrite.records import Labelled
from pyrite.steps import Context, StepType
from pyrite.synth.select import drop_exact, drop_near
from pyrite.synth.settings import SynthSettings
from pyrite.tasks import nli
from pyrite.tasks.prompts import parse_example
from pyrite.tasks.rows import as_labelled, write_counts, write_rows


def read_step(context: Context) -> None:
    """Step: files → `rows.jsonl` of labelled fields and `counts.json`."""
    config = context.config
    rows: list[Labelled] = []
    dropped: Counter[str] = Counter()
    read = 0
    read_as: dict[str, str] = {}
    for name in sorted(context.inputs):
        hub, _, revision = config["names"][name].partition("#")
        options = ReadOptions(
            layout=config["layout"],
            columns=config["columns"],
            label_map=config["label_map"],
            labels=[*config["labels"], nli.NO_LABEL],
            text_fields=config["fields"] if config["layout"] == "labelled" else None,
            on_bad_row=config["on_bad_row"],
            revision=revision or None,
            **stored_options(config),
        )
        reader = open_records(hub or context.inputs[name], options)
        for record in reader:
            row = as_labelled(record, config["fields"])
            rows.append(Labelled(row.fields, row.label, f"{name}/{row.id}", row.meta))
        read += reader.counts.read
        read_as[name] = reader.read_as.in_words() if reader.read_as else ""
        dropped.update(reader.counts.dropped)
    clean_rows = nli.clean_labelled(rows, dropped, duplicates=config["duplicates"])
    if config["first"] is not None and len(clean_rows) > config["first"]:
        dropped["not among the first asked for"] += len(clean_rows) - config["first"]
        clean_rows = clean_rows[: config["first"]]
    assert read == len(clean_rows) + dropped.total(), (read, len(clean_rows), dropped)
    write_rows(clean_rows, context.out / "rows.jsonl")
    write_counts(context.out, read, clean_rows, dropped, config["labels"])
    (context.out / "read_as.json").write_bytes(orjson.dumps(read_as))


def parse_step(context: Context) -> None:
    """Step: raw texts → `rows.jsonl` and `counts.json` (read = kept + dropped by reason)."""
    config = SynthSettings.model_validate(context.config["synth"])
    fields: list[str] = context.config["fields"]
    dropped: Counter[str] = Counter()
    rows, read = [], 0
    for line in (context.inputs["raw"] / "raw.jsonl").read_bytes().splitlines():
        raw = orjson.loads(line)
        read += 1
        if not raw["ended"] and config.select.unended == "drop":
            dropped["cut at the token limit"] += 1
            continue
        parsed = parse_example(raw["text"], fields)
        if isinstance(parsed, str):
            dropped[parsed] += 1
            continue
        if "row" in raw and "\n".join(parsed.values()) == raw["prompt"]:
            dropped["nothing written"] += 1
            continue
        provenance = ("model", "prompt", "seed", "mean_logprob", "row")  # no time: the same seed, the same bytes
        meta = {key: raw[key] for key in provenance if key in raw}
        rows.append(Labelled(parsed, raw["label"], raw["id"], meta))
    if config.select.exact_duplicates == "drop":
        rows = drop_exact(rows, dropped)
    if config.select.near_duplicates is not None:
        rows = drop_near(rows, config.select.near_duplicates, dropped)
    assert read == len(rows) + dropped.total(), (read, len(rows), dropped)
    if not rows:
        fix = "train the generator longer, sample more texts, or select less strictly"
        raise UserError("No synthetic row is left.", f"{read} texts, dropped: {dict(dropped)}", fix)
    write_rows(rows, context.out / "rows.jsonl")
    write_counts(context.out, read, rows, dropped, context.config["labels"])


READ = StepType("data.read", 2, read_step)
PARSE = StepType("synth.rows", 3, parse_step)
