"""The text of starter files: YAML with comments, filled in from what stands in the user's files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyrite.errors import UserError
from pyrite.starter.config import StarterConfig
from pyrite.starter.look import FileSummary

NLI = {"entailment", "neutral", "contradiction"}
CHAT_MODEL = "packaged:smollm2-135m-instruct"


def yaml_list(values: Sequence[str]) -> str:
    """A YAML list on one line, every value quoted where it must be."""
    return "[" + ", ".join(scalar(value) for value in values) + "]"


def scalar(value: str) -> str:
    """One YAML value: as it is where it is plainly a word or a path, else quoted."""
    plain = value.replace("/", "").replace(".", "").replace("-", "").replace("_", "").replace(":", "")
    unclear = value.lower() in ("true", "false", "yes", "no", "on", "off", "null", "none", "y", "n", "")
    safe = plain.isalnum() and plain.isascii() and not plain.isdigit() and not value[0].isdigit()
    return value if safe and not unclear and value[0] not in "-:." and value[-1] != ":" else json.dumps(value)


def columns_line(looked: FileSummary) -> str:
    """`columns:` of a source whose label stands under another name."""
    if looked.label in (None, "label", "gold_label"):
        return ""
    return f"\n    columns: {{label: {scalar(looked.label or '')}}}"


def reading_lines(data: Sequence[FileSummary], human: Sequence[FileSummary]) -> list[str]:
    """How an audit reads labelled rows of other column names than ours, on both sides."""
    first, lines = data[0], []
    if first.texts and first.layout is None:
        lines.append(f"text_fields: {yaml_list(first.texts)}   # the columns that a model reads, in order")
    for name, files in (("columns", data), ("reference_columns", human)):
        label = files[0].label if files else None
        if label not in (None, "label", "gold_label"):
            lines.append(f"{name}: {yaml_list([f'label={label}'])}")
    return lines


def audit_file(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """Options of `pyrite audit`."""
    names = " ".join(file.file for file in data)
    lines = [
        f"# Run: pyrite audit {names} --config {out_of(config)}",
        *comments(data, human),
        f"reference: {yaml_list([file.file for file in human])}   # what people wrote; each file is a source of its own, two are better than one"
        if human
        else "# reference: [PEOPLE_A.jsonl, PEOPLE_B.jsonl]   # what people wrote; without it only counts are given, no verdict",
    ]
    lines += reading_lines(data, human)
    lines += [
        "# only: [format, tokens]       # these flaws only; all of them by default, models and all",
        "flagged: flagged.jsonl         # the rows that findings are about",
        "clean: clean.jsonl             # the others",
        "gate: [severity < fail]        # exit code 1 where a finding fails: for a CI",
        "out: runs/audit                # the run folder: pyrite report runs/audit",
    ]
    return "\n".join(lines) + "\n"


def study_file(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """A study: of labelled rows a study of labels, of chats or text a study of a language model.

    Raises:
        UserError: no file of people's rows, or rows of two kinds.
    """
    if not human:
        fix = "pyrite init study SYNTHETIC --human PEOPLE"
        raise UserError("A study compares with what people wrote.", "no --human", fix)
    strange = next((file for file in (*data, *human) if file.kind == "rows"), None)
    if strange is not None:
        fix = "name the label's column with --label, or give chats or text (docs/study.md)"
        raise UserError("What a model should learn from these rows cannot be told.", strange.in_words(), fix)
    texts = {file.texts for file in (*data, *human)}
    if len(texts) > 1:
        detail = "; ".join(f"{file.file}: {', '.join(file.texts) or 'none'}" for file in (*data, *human))
        raise UserError(
            "The text columns of the two sides have other names.", detail, "rename them in one of the files"
        )
    if bool(data[0].label) != bool(human[0].label):
        detail = f"{data[0].in_words()} | {human[0].in_words()}"
        raise UserError(
            "The two sides are of different kinds.", detail, "give both with labels, or both as chats; --label COLUMN"
        )
    return labels_study(config, data, human) if data[0].label else language_study(config, data, human)


def labels_study(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """A study of a classifier."""
    first, people = data[0], human[0]
    assert first.labels is not None
    assert people.labels is not None
    labels = list(dict.fromkeys([*people.labels, *first.labels]))
    fields = list(people.texts)
    rows = sum(file.rows for file in human)
    test, start = max(20, rows // 4), max(20, rows // 3)
    share_left = 1 - (test + start) / rows if rows else 0.0
    rarest = min(
        min(
            sum((file.labels or {}).get(label, 0) for file in data),
            int(share_left * sum((file.labels or {}).get(label, 0) for file in human)),
        )
        for label in labels
    )
    size = int(0.8 * rarest) * len(labels)  # pools are drawn: not every label keeps its share
    if size < 2 * len(labels):
        detail = f"{rarest} rows of the rarest label are left for an arm"
        raise UserError("There are too few rows for a study.", detail, "give more rows of each label on both sides")
    more_rows = (
        "" if all(file.is_whole for file in (*data, *human)) else "; the files hold more rows: raise the numbers"
    )
    lines = [
        f"# Run: pyrite study {out_of(config)} --plan, then without --plan",
        *comments(data, human),
        "study: mine",
        "says: Does training on the synthetic rows make the model worse where people's rows would not?",
        f"labels: {yaml_list(labels)}",
        f"fields: {yaml_list(fields)}",
        f"task_model: {{model: {scalar(config.model or 'packaged:minilm-l6')}}}   # or a folder, or org/name on the hub",
        "",
        "data:",
        "  people:",
        f"    files: {yaml_list([file.file for file in human])}{columns_line(people)}",
        f"    pools: {{test: {test}, start: {start}, arm: {{rows: rest, balance: true}}}}   # pools share no row{more_rows}",
        "  synthetic:",
        f"    files: {yaml_list([file.file for file in data])}{columns_line(first)}",
        "",
        f"starts: {{trained: {{rows: {{people.start: {start}}}}}}}   # the model before any arm",
        "arms:",
        "  human: {mix: {people.arm: 1}}            # what more of people's rows would do",
        "  synthetic: {mix: {synthetic: 1}}         # the question",
        f"sizes: [{size}]                            # rows of an arm",
        "seeds: [0, 1, 2, 3, 4]                     # trainings of each; --power says how many are needed",
        "training:",
        "  start: {epochs: 3, learning_rate: 2.0e-4, max_tokens: 128}",
        "  arm: {epochs: 2, learning_rate: 1.0e-4, max_tokens: 128}",
        "",
        "probes:",
        "  general: {task: labelled, data: people.test}    # what the model is for",
    ]
    if set(labels) >= NLI and set(fields) == {"premise", "hypothesis"}:
        lines.append(
            "  blind_spot: {task: hans, file: grammar:heuristics, grammar_rows: 1200}   # where it may be fooled: HANS-like pairs"
        )
    else:
        lines += [
            "  # where the model may be fooled: rows of your own, such as rare words, negations, one group of users",
            f"  # blind_spot: {{task: labelled, file: blind_spot.csv, columns: {{label: {scalar(people.label or 'label')}}}}}",
        ]
    lines.append("margin: 0.03                               # differences smaller than this do not matter to you")
    return "\n".join(lines) + "\n"


def language_study(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """A study of a language model: trained on the synthetic rows, and on people's."""
    trains = "text" if data[0].kind == "plain text" else "chat"
    fewest = min(sum(file.rows for file in data), sum(file.rows for file in human))
    held_out = max(5, min(100, fewest // 5))
    train = max(5, fewest - held_out)
    settings = "{epochs: 1, learning_rate: 1.0e-4, batch_size: 8, max_tokens: 512}"
    return (
        "\n".join(
            [
                f"# Run: pyrite study {out_of(config)} --plan, then without --plan",
                *comments(data, human),
                "study: mine",
                "says: Does training on the synthetic rows change the model where training on people's rows does not?",
                "about: language",
                f"model: {scalar(config.model or CHAT_MODEL)}   # the model that is trained: a folder, or org/name on the hub",
                "",
                "data:",
                "  synthetic:",
                f"    files: {yaml_list([file.file for file in data])}",
                f"    pools: {{train: {train}, held_out: {held_out}}}",
                "  people:",
                f"    files: {yaml_list([file.file for file in human])}",
                f"    pools: {{train: {train}, held_out: {held_out}}}",
                "",
                "trainings:",
                f"  on_synthetic: {{on: synthetic.train, trains: {trains}, settings: {settings}}}",
                f"  on_people: {{on: people.train, trains: {trains}, settings: {settings}}}",
                "cells:",
                "  start: []",
                "  synthetic: [on_synthetic]",
                "  people: [on_people]",
                "seeds: [0, 1, 2]",
                "",
                "probes:",
                "  people: {task: perplexity, data: people.held_out}         # nats a token of rows that people wrote",
                "  synthetic: {task: perplexity, data: synthetic.held_out}   # and of the synthetic ones",
                "  # instructions: {task: ifeval, file: input_data.jsonl}    # does it still follow instructions?",
                "contrasts:",
                "  - {cell: synthetic, against: people, probe: people.nats_per_token}",
                "margin_real: 0.05                          # nats a token that do not matter to you",
            ]
        )
        + "\n"
    )


def repair_file(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """Options of `pyrite repair`."""
    model = config.model or "HARMED_MODEL_FOLDER"
    replay = yaml_list([file.file for file in human]) if human else "[PEOPLE.jsonl]"
    return (
        "\n".join(
            [
                f"# Run: pyrite repair {model} --config {out_of(config)}",
                *comments(data, human),
                "# Where you have the model from before the training, try this first; it needs no training:",
                f"#   pyrite repair {model} --before ORIGINAL_MODEL --method interpolate --task ifeval=input_data.jsonl",
                f"forget: {yaml_list([file.file for file in data])}   # rows whose pattern is to be unlearned; better: those that an audit flagged",
                f"replay: {replay}   # rows that the model shall stay good at{'' if human else ' (fill in)'}",
                "# before: ORIGINAL_MODEL       # then the scorecard says how much of what was lost comes back",
                "# task: [ifeval=input_data.jsonl]   # asked before and after",
                "steps: 40",
                "scorecard_rows: 64             # rows of each side that are held out and measured",
                "out: runs/repair               # the repaired model, its card and the record",
            ]
        )
        + "\n"
    )


def loop_file(config: StarterConfig, data: Sequence[FileSummary], human: Sequence[FileSummary]) -> str:
    """A loop: audit, probe, repair, probe again, report.

    Raises:
        UserError: no file of people's rows.
    """
    if not human:
        raise UserError(
            "A loop compares with what people wrote.", "no --human", "pyrite init loop SYNTHETIC --human PEOPLE"
        )
    lines = [
        f"# Run: pyrite run {out_of(config)} --plan, then without --plan",
        *comments(data, human),
        "loop: mine",
        f"synthetic: {yaml_list([file.file for file in data])}",
        f"human: {yaml_list([file.file for file in human])}   # each a source of its own",
        "audit:                         # options of pyrite audit",
        "  model_sample: 100",
        *(f"  {line}" for line in reading_lines(data, human)),
    ]
    if data[0].label:
        lines += [
            "# study: study.yaml            # pyrite init study writes one: does training on these rows do harm?",
            'gates: ["audit: severity < fail"]',
        ]
    else:
        lines += [
            f"model: {scalar(config.model or CHAT_MODEL)}   # the model that was trained on the data",
            f"probe: {{task: [perplexity={human[0].file}]}}   # asked before the repair and after it; better: ifeval=input_data.jsonl",
            "repair: {steps: 40}            # unlearns what the audit flagged; options of pyrite repair",
            'gates: ["audit: severity < fail"]',
        ]
    return "\n".join(lines) + "\n"


def comments(data: Sequence[FileSummary], human: Sequence[FileSummary]) -> list[str]:
    """What stands in the files, as comments."""
    return [f"# {file.in_words()}" for file in (*data, *human)]


def out_of(config: StarterConfig) -> Path:
    """The file that is written."""
    return config.out or Path(f"{config.what}.yaml")


WRITERS = {"audit": audit_file, "study": study_file, "repair": repair_file, "loop": loop_file}
"""What writes each file."""
COMMANDS: Mapping[str, str] = {
    "audit": "pyrite audit {data} --config {out}", "study": "pyrite study {out} --plan",
    "repair": "pyrite repair {model} --config {out}", "loop": "pyrite run {out} --plan",
}  # fmt: skip
"""What to run then."""
