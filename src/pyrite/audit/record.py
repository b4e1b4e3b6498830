"""The record of an audit: what `--json` tells and `run.json` holds, with the notes that a reader needs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.audit.baselines import LEAST
from pyrite.audit.compare import same_labels
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.decide import Decision, Finding, few_sources, notes_on_definitions, task_of
from pyrite.audit.embedded_texts import notes_on_cut
from pyrite.audit.extras import evaluation_words
from pyrite.audit.flag_scores import Flags
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import CUT, DATA, Sampled
from pyrite.audit.input_files import source_labels
from pyrite.audit.next_source import FEWEST, source_table
from pyrite.audit.plan import Planned, needing, selected_flaws
from pyrite.audit.reading import INPUT_NAMES, REFUSED
from pyrite.audit.rows import PART_WORDS
from pyrite.audit.stream import LONGEST
from pyrite.audit.wording import NEEDS_REFERENCE, rows_left_out
from pyrite.conditions import GateOutcome
from pyrite.io import name_in_place
from pyrite.outputs import command_line
from pyrite.redact import redact_existing_path, unlike
from pyrite.steps import Step, Store

UNSAID = ("out", "store", "quiet", "workers", "engine", "shard", "max_time", "flagged", "clean")
"""Flags that change nothing in what is found."""


def rows_counted(store: Store, planned: Planned, *, data: bool) -> dict[str, Any]:
    """Rows read, kept and dropped by reason, over the files of the data or of the references."""
    total: dict[str, Any] = {"read": 0, "kept": 0, "dropped": {}}
    for (name, _), step in planned.files.items():
        if (name == DATA) == data:
            counts = store.read_json(step, "counts.json")
            total["read"] += counts["read"]
            total["kept"] += counts["kept"]
            for reason, count in counts["dropped"].items():
                total["dropped"][reason] = total["dropped"].get(reason, 0) + count
    return total


def inputs_read(store: Store, planned: Planned) -> list[dict[str, Any]]:
    """What was made of the columns of every file, in the order in which they were read, with its `role`: data, reference
    or against (an evaluation set)."""
    entries = []
    for (name, _), step in planned.files.items():
        counts = store.read_json(step, "counts.json")
        entry = {"role": "data" if name == DATA else "reference", "file": str(step.config["file"])}
        entries.append({**entry, **(counts["read_as"] or {}), "files": counts["read_files"]})
    for name, source in planned.resources.items():
        words = evaluation_words(name.removeprefix("against "), source.path) if name.startswith("against ") else ""
        if words:
            entries.append({"role": "against", "file": name_in_place(source.path), "words": words})
    return entries


def not_measured(measured: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every measure that could not be taken, and why."""
    return [
        {"measure": f"{flaw}.{entry['measure']}", "why": entry["why"]}
        for flaw in measured
        for entry in measured[flaw]["not_measured"]
    ]


def notes_on_sources(config: AuditConfig, decision: Decision) -> list[str]:
    """What a reader must know of the human sources: which are one, what the table did, whether the task is another."""
    human, findings = decision.human, decision.findings
    notes = [human.task] if human.task else []
    for names in decision.one_source:
        called = ", ".join(redact_existing_path(name) for name in names)
        notes.append(f"{called} cannot be told from each other: they count as one human source")
    if any((finding.record["between_human"] or {}).get("table") for finding in findings):
        human_table = source_table()
        notes.append(
            f"how far human sources lie apart is taken from the references ({human.sources}) and from a table of "
            f"{len(human_table['sources'])} public human sources in English (--no-prior: from the references alone)"
        )
        notes += notes_on_definitions(finding.full_name for finding in findings if finding.flaw in human.tabled)
    elif 0 < human.sources < FEWEST and any(finding.record["between_human"] for finding in findings):
        notes.append(few_sources(human.sources, tabled=bool(human.tabled)))
    if not config.no_prior and human.sources and not human.tabled:
        notes.append(
            "the table of human sources holds English text, and this is written in other letters: it is not used"
        )
    return notes


def notes_on_rows(config: AuditConfig, planned: Planned, sampled: Sampled, sources: Mapping[str, int]) -> list[str]:
    """What a reader must know of the rows behind the sources: those that are too few, clusters of one side, the
    task."""
    notes = []
    small = [f"{redact_existing_path(name)} ({rows})" for name, rows in sources.items() if rows < LEAST]
    if small:
        listed = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        notes.append(f"of fewer than {LEAST} sampled rows, and so no human source of their own: {listed}")
    if config.cluster is not None:
        sides = {
            "data": sampled.data,
            "references": [at for source_places in sampled.references.values() for at in source_places],
        }
        for side, places in sides.items():
            if places and not any(sampled.rows[at].cluster for at in places):
                notes.append(f"no row of the {side} has a column {config.cluster}: each counts by itself")
    by_task = [name for name, flaw in FLAWS.items() if flaw.tells_tasks_apart]
    if sources and not {*by_task} & {*planned.flaws} and all(row.prompt for row in sampled.rows):
        needed = " or ".join(by_task)
        notes.append(f"whether the references are of the data's task was not asked: that needs the family {needed}")
    return notes


def notes_on_thoughts(config: AuditConfig, planned: Planned, store: Store) -> list[str]:
    """How many rows have a thought that can be told from the final answer, and what was measured of them."""
    notes = []
    for side in ("data", "references"):
        steps = [step for (name, _), step in planned.files.items() if (name == DATA) == (side == "data")]
        counts = [store.read_json(step, "counts.json") for step in steps]
        thoughts, rows = (sum(count[what] for count in counts) for what in ("thoughts", "rows"))
        if thoughts:
            measured = {
                "answer": "thought and final answer were measured together (--part final or --part thought: apart)",
                "final": "what follows the thought was measured; rows without a thought count as a whole",
                "thought": "only the thoughts were measured",
            }
            notes.append(f"{thoughts:,} of {rows:,} rows of the {side} have a thought: {measured[config.part]}")
        if without := sum(count["without_part"] for count in counts):
            whole = ", ".join(name for name in planned.flaws if FLAWS[name].reads_prompts)
            but = f"of all flaws but {whole}" if whole else "of all flaws"
            what = PART_WORDS[config.part]
            notes.append(f"{without:,} of {rows:,} rows of the {side} have no {what}: they are left out {but}")
    return notes


def notes_on_reading(store: Store, compared: Mapping[str, Step]) -> list[str]:
    """What models could not read of the sample's texts, or were not given, by reason."""
    notes: list[str] = []
    for need, name in INPUT_NAMES.items():
        reads = {read.key: read for step in compared.values() if isinstance(read := step.inputs.get(name), Step)}
        notes += [note for read in reads.values() for note in notes_on_cut(need, store.read_json(read, CUT))]
    for step in compared.values():
        read = step.inputs.get(INPUT_NAMES["nll"])
        if isinstance(read, Step):
            counts = store.read_json(read, REFUSED)
            notes += [
                f"{count} of the {counts['read']} rows that the causal model was to read were left out: {reason}"
                for reason, count in counts["dropped"].items()
            ]
    return list(dict.fromkeys(notes))


def audit_record(
    config: AuditConfig,
    planned: Planned,
    store: Store,
    sampled: Sampled,
    decision: Decision,
    flagged: Flags | None,
    gate_results: Sequence[GateOutcome],
    code: int,
    notes: list[str],
    *,
    model_rows: int,
) -> dict[str, Any]:
    """Everything, as `--json` tells it; `notes` are those on the human sources, `model_rows` the rows of each side that
    the causal model read."""
    measured, sources = decision.measured, decision.sources
    counts = [store.read_json(step, "counts.json") for step in planned.files.values()]
    rows = rows_counted(store, planned, data=True)
    n = len(sampled.data)
    records = sum(entry["rows"] for (name, _), entry in zip(planned.files, counts, strict=True) if name == DATA)
    lacking = not_measured(measured)
    if config.reference and not sampled.references:
        why = f"{NEEDS_REFERENCE} whose rows have a {PART_WORDS[config.part]}; this one has none"
        lacking = [{**entry, "why": why} if entry["why"] == NEEDS_REFERENCE else entry for entry in lacking]
    files = {label for _, label in source_labels(config.reference)}
    plain = [redact_existing_path(name) if name in files else name for name in sources]  # else a column named it
    called = dict(zip(sources, unlike(plain), strict=True))
    if unread := [
        name for name in needing("evaluation_sets", selected_flaws(config.only)) if name not in planned.flaws
    ]:
        notes.append(f"{', '.join(unread)} was not looked for: name evaluation sets with --against")
    if config.against and not needing("evaluation_sets", planned.flaws):
        names = ", ".join(needing("evaluation_sets", FLAWS))
        notes.append(f"the evaluation sets of --against were not looked for: {names} is not in --only")
    silent = sum(not row.answer.strip() for row in sampled.rows)
    if silent:
        skipping = [flaw for flaw in FLAWS.values() if flaw.skips_unanswered]
        *most, last = [flaw.name for flaw in sorted(skipping, key=lambda flaw: (not flaw.needs, flaw.name))]
        names = f"{', '.join(most)} and {last}"
        notes.append(f"{silent} of the {len(sampled.rows)} sampled rows have no answer: {names} leave them out")
    long = sum(max(map(len, (row.prompt, *row.answers))) >= LONGEST for row in sampled.rows)
    if long:
        notes.append(f"{long} of the {len(sampled.rows)} sampled rows were cut to {LONGEST:,} characters a text")
    totals = store.read_json(planned.totals, "whole.json").get(DATA, {})
    for name, flaw in FLAWS.items():
        notes += flaw.notes(totals[name]) if flaw.notes and name in totals else []
    if len({row.label for row in sampled.rows}) > 1 and sources and not same_labels(sampled):
        notes += [note for name in measured if (note := FLAWS[name].where_labels_differ)]
    if out := rows_left_out(rows):
        notes.insert(0, out)
    return {
        "schema_version": 1,
        "data": [redact_existing_path(text) for text in config.data],
        "references": [{"source": called[name], "rows_sampled": size} for name, size in sources.items()],
        "rows": rows,
        "records": records,
        "read_as": inputs_read(store, planned),
        "reference_rows": rows_counted(store, planned, data=False),
        "sample": {
            "n": n,
            "of": records,
            "model_n": min(n, model_rows),
            "precision": f"a share is known to ± {100 * 1.96 * math.sqrt(0.25 / max(1, n)):.1f} points",
        },
        "another_task": task_of(measured),
        "findings": [finding_json(finding, called) for finding in decision.findings],
        "not_measured": lacking,
        "needs_reference": [entry["measure"] for entry in lacking if entry["why"].startswith(NEEDS_REFERENCE)],
        "flagged": flagged.as_json() if flagged else None,
        "gates": [result.as_json() for result in gate_results],
        "exit_code": code,
        "disk_mb_per_million_rows": sum(count["bytes"] for count in counts)
        / max(1, sum(count["rows"] for count in counts)),
        "settings": config.model_dump(
            mode="json", exclude={"store", "out", "quiet", "workers", "engine", "shard", "max_time"}
        ),
        "notes": notes,
    }


def finding_json(finding: Finding, called: Mapping[str, str]) -> dict[str, Any]:
    """A finding as plain values, its human source named without the folders of this machine."""
    values = finding.as_json()
    if between := values["between_human"]:
        distances = {called.get(name, name): value for name, value in between["distances"].items()}
        source = called.get(between["source"], between["source"])
        values["between_human"] = {**between, "source": source, "distances": distances}
    return values


def command(config: AuditConfig) -> str:
    """The command that makes this again, run where the files are."""
    words = ["pyrite", "audit", *(redact_existing_path(text) for text in config.data)]
    return command_line(words, config, AuditOptions, unsaid=UNSAID)
