"""The task `perplexity`: how surprising is each row of a text or chat file to a language model?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import (
    file_hash,
    how_read,
    name_in_place,
    read_settings,
    write_parquet,
)
from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.template import for_step, parse_template_kwargs
from pyrite.probe.config import ProbeConfig
from pyrite.probe.int8_check import CHECKED_ROWS, changed_note
from pyrite.probe.perplexity_rows import record_reader, records_of
from pyrite.probe.probe_task import ModelUnderTest, Result, model_folder, model_input, source
from pyrite.probe.remote_perplexity import REMOTE_PERPLEXITY
from pyrite.probe.remote_scoring import scoring_inputs, scoring_notes
from pyrite.probe.texts import Texts, prompt_text
from pyrite.steps import PART_TOKENS, Context, Source, Step, StepType, Store, in_parts
from pyrite.tasks.scoring import ItemScore, Metric

if TYPE_CHECKING:
    from pyrite.models.perplexity import TextNll
    from pyrite.models.work import ReportProgress

METRICS = (
    Metric("nats_per_token", "real", "lower", "negative log-likelihood, mean over the counted tokens"),
    Metric("bits_per_byte", "real", "lower", "negative log-likelihood in bits, per byte of counted text (UTF-8)"),
)


def perplexity_step(context: Context) -> None:
    """Step: a model and a file → `rows.parquet` (id, nats, tokens, bytes of each row) and `counts.json`."""
    from pyrite.models.perplexity import TextNll, encode_record, text_nlls
    from pyrite.models.refusals import encode_each

    load.quiet_libraries()
    config = context.config
    records, part, counts = records_of(config, context.inputs["file"])
    base = model_folder(context, "perplexity")
    tokenizer = load.load_tokenizer(base)
    asked, template_kwargs = len(records), config.get("chat_template_kwargs")
    records, rows, refused = encode_each(
        records,
        lambda record: encode_record(tokenizer, record, part, template_kwargs=template_kwargs),
        skip=config["on_bad_row"] == "skip",
    )
    if not records:
        raise UserError("No row is left to read.", f"{asked} rows, dropped: {dict(refused)}", "check the file's rows")
    compute = Compute(**config["compute"])
    model = load.load_causal(base, compute)
    size = tokens_read(config["max_tokens"], model.config, tokenizer)
    sure = []
    if compute.precision == "int8":
        sure = text_nlls(model, rows[:CHECKED_ROWS], max_tokens=size, report_progress=context.report_progress)
    model, compute = load.for_generation(model, compute)
    with compute.autocast():

        def nlls_of_part(part: list[int], report_progress: "ReportProgress") -> tuple[list[Any], dict[str, Any]]:
            nlls = text_nlls(model, [rows[at] for at in part], max_tokens=size, report_progress=report_progress)
            return [asdict(nll) for nll in nlls], {}

        token_ids = [row.ids for row in rows]
        sizes = [len(ids) for ids in token_ids]
        longest_first = sorted(range(len(rows)), key=lambda at: (-sizes[at], at))
        tokens = PART_TOKENS[compute.device]
        read, _ = in_parts(context, "surprises", token_ids, sizes, nlls_of_part, tokens=tokens, order=longest_first)
    nlls = [TextNll(**nll) for nll in read]
    write_parquet(
        [
            {"id": record.id, "nats": nll.nats, "tokens": nll.tokens, "bytes": nll.bytes, "windows": nll.windows}
            for record, nll in zip(records, nlls, strict=True)
        ],
        context.out / "rows.parquet",
    )
    record = {
        "read": counts.read,
        "kept": counts.kept,
        "asked": asked,
        "dropped": dict(counts.dropped),
        "part": part,
        "not_counted_tokens": sum(nll.skipped for nll in nlls),
        "piece_tokens": size,
        "rows_in_pieces": sum(nll.windows > 1 for nll in nlls),
        "chat template": dict(sorted(Counter(remark for row in rows for remark in set(row.remarks)).items())),
        "read_as": how_read(record_reader(config, context.inputs["file"])),
    }
    if refused:
        record["refused"] = dict(refused)
    if sure:
        means = {"fp32": mean_nats(sure), "int8": mean_nats(nlls[: len(sure)])}
        record["int8_check"] = {"checked": len(sure), "nats_per_token": means}
    (context.out / "counts.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))


def mean_nats(nlls: "Sequence[TextNll]") -> float:
    """Nats per token of rows together; nan where no token counts."""
    tokens = sum(nll.tokens for nll in nlls)
    return sum(nll.nats for nll in nlls) / tokens if tokens else float("nan")


def measured_rows(rows: Iterable[Mapping[str, Any]]) -> list[ItemScore]:
    """Each row's mean (of its `nats`) over its `tokens`, and in bits over its `bytes`, which weigh it in the whole."""
    from pyrite.models.perplexity import LN2

    measured = []
    for row in rows:
        for metric, size, unit in ((METRICS[0], row["tokens"], 1.0), (METRICS[1], row["bytes"], LN2)):
            value = row["nats"] / size / unit if size else None
            measured.append(ItemScore(row["id"], metric.name, value, row["id"], {}, float(size or 1)))
    return measured


PERPLEXITY = StepType("probe.perplexity", 2, perplexity_step)


@dataclass(frozen=True)
class Perplexity:
    """`--task perplexity=FILE`."""

    source: str
    config: ProbeConfig
    name: str = "perplexity"
    metrics: tuple[Metric, ...] = METRICS

    @property
    def margins(self) -> Mapping[str, float]:
        """`--margin` is in nats and bits here."""
        return {}

    def step(self, subject: ModelUnderTest) -> Step:
        """The step that reads the file with the model."""
        chosen: dict[str, Any] = {
            "part": self.config.part,
            "items": self.config.items,
            "seed": self.config.seed if self.config.items or self.config.skip else None,
            "name": name_in_place(self.source),  # its suffix says how it is read, and row ids begin with it
            "hub": f"{self.source}#{file_hash(self.source)}" if self.source.startswith("hf://") else None,
            "columns": mapping("--columns", self.config.columns),
            "on_bad_row": self.config.on_bad_row,
            **read_settings(self.config, mapping("--roles", self.config.roles)),
            "max_tokens": self.config.max_tokens,
        }
        if self.config.skip:
            chosen["skip"] = self.config.skip
        chosen |= for_step(parse_template_kwargs(self.config.chat_template_kwargs))
        label, inputs = f"{subject.name}: perplexity of {self.source}", {"file": source(self.source)}
        if subject.remote:
            return Step(REMOTE_PERPLEXITY, chosen, {**scoring_inputs(self.config, subject), **inputs}, label=label)
        chosen["compute"] = hardware.choose(self.config.precision, self.config.device_map).as_config()
        return Step(PERPLEXITY, chosen, {"base": model_input(subject, "perplexity"), **inputs}, label=label)

    def read(self, store: Store, step: Step) -> Result:
        """Each row's mean, weighted by its tokens (or bytes) in the whole."""
        import polars as pl

        folder = store.path(step.key)
        counts = orjson.loads((folder / "counts.json").read_bytes())
        measured = measured_rows(pl.read_parquet(folder / "rows.parquet").iter_rows(named=True))
        notes = [counts["read_as"]] if counts.get("read_as") else []
        notes += [f"{counts['part']} of each row counts; a row's first token has nothing before it and does not"]
        if counts["dropped"]:
            notes.append(f"{counts['read']} rows read, {counts['kept']} kept, dropped: {counts['dropped']}")
        if counts["asked"] < counts["kept"]:
            notes.append(f"{counts['asked']} of {counts['kept']} rows were drawn with the seed {self.config.seed}")
        if self.config.skip:
            notes.append(f"asked without the rows that --items {self.config.skip} takes")
        if refused := counts.get("refused"):
            notes.append(f"{sum(refused.values())} of the {counts['asked']} rows asked were left out: {refused}")
        notes += scoring_notes(counts)
        notes += changed_note(counts)
        notes += [f"{remark} ({number} rows)" for remark, number in counts["chat template"].items()]
        if counts["rows_in_pieces"]:
            notes.append(f"{counts['rows_in_pieces']} rows were read in pieces of {counts['piece_tokens']} tokens")
        return Result(measured, METRICS, {}, "rows", tuple(notes), counts)

    def texts(self, store: Store, step: Step) -> Texts:
        """The rows that were read, as they are in the file; nothing is answered."""
        import polars as pl

        ids = set(pl.read_parquet(store.path(step.key) / "rows.parquet", columns=["id"])["id"])
        file = step.inputs["file"]
        assert isinstance(file, Source)
        records = record_reader(step.config, Path(file.path))
        return Texts({record.id: prompt_text(record) for record in records if record.id in ids})
