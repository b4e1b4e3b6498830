"""The classifier model type of a repair: labelled rows, one target a row, read as the classifier was trained.

A classifier fits into the words of `repair.objective` as it is: its logits [rows, labels] stand for the hidden states,
with the identity in the place of the vocabulary's matrix, and a row has one target, the output of its label. So lower-
bounded forgetting is -log(1 - p(label)), replay is cross-entropy, KL is over the labels, and "a token" means "a row".

Rows are read in evaluation mode also while training: what dropout changes would count as change from the model as given.
Rows of two roles never share a batch, so that the model as given, which reads some roles only, computes the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pyrite.errors import UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.models.positions import tokens_read
from pyrite.models.rows import Pass, layout, reader_of
from pyrite.records import Labelled
from pyrite.repair.methods import Method
from pyrite.repair.model_type import ROLES, RepairRows, check_classifier, check_guard, check_left, guard_rows, labels_of
from pyrite.repair.reference import ADAPTER, Outputs
from pyrite.repair.settings import RepairSettings
from pyrite.steps import Context
from pyrite.tasks import rows as files
from pyrite.train import adapters
from pyrite.train.adapters import write_full_model, write_merged
from pyrite.train.classifier_rows import encode_classifier_rows
from pyrite.train.fit import padded
from pyrite.train.rows import TrainingRow


@dataclass(frozen=True, slots=True)
class LabelRow(TrainingRow):
    """One row as a classifier trains on it: token ids, the output that its label belongs to, and which text of a pair
    each token belongs to (empty where the model is not told)."""

    label: int = 0
    segments: Sequence[int] = ()

    @property
    def targets(self) -> int:
        """One: the label."""
        return 1


class Head(NamedTuple):
    """What turns logits into logits: the identity [labels, labels]."""

    weight: torch.Tensor
    bias: None = None


class ClassReader:
    """Reads rows with a classifier: a decoder row by row without padding, an encoder in padded batches."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id
        self.inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.by_row = reader_of(model, prepack=False) if hasattr(self.inner, "score") else None
        self.takes_segments = load.takes_segments(self.inner)
        self.head = Head(torch.eye(self.inner.config.num_labels, device=self.device))

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.inner.device

    def logits(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """The logits of rows [rows, labels] in the order of the model's outputs, fp32. Can be differentiated through."""
        batches = batches_of(rows, mixed_lengths=self.by_row is not None)
        was = self.model.training
        self.model.eval()
        try:
            read = self.padded if self.by_row is None else self.flat
            logits = torch.cat([read([rows[at] for at in batch]).float() for batch in batches])
        finally:
            self.model.train(was)
        back = np.argsort([at for batch in batches for at in batch])
        return logits[torch.from_numpy(back).to(logits.device)]

    def padded(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """A batch by the library's own forward pass, padded on the right."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id)
        for at, row in enumerate(rows):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
        mask = torch.arange(longest) < torch.tensor([len(row.ids) for row in rows])[:, None]
        inputs = {} if bool(mask.all()) else {"attention_mask": mask.long().to(self.device)}
        segments = [row.segments for row in rows if isinstance(row, LabelRow) and row.segments]
        if self.takes_segments and len(segments) == len(rows):
            inputs["token_type_ids"] = padded(segments, 0).to(self.device)
        logits: torch.Tensor = self.inner(input_ids=ids.to(self.device), **inputs).logits
        return logits

    def flat(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """Rows side by side; a decoder's head looks at the last token of each."""
        assert self.by_row is not None
        lengths = [len(row.ids) for row in rows]
        ids = torch.tensor([token for row in rows for token in row.ids], device=self.device)
        positions = torch.cat([torch.arange(length, device=self.device) for length in lengths])
        hidden = self.by_row.hidden(ids, positions, Pass(layout(lengths, 0, self.device)))
        logits: torch.Tensor = self.inner.score(hidden[torch.tensor(np.cumsum(lengths) - 1, device=self.device)])
        return logits


def batches_of(rows: Sequence[TrainingRow], *, mixed_lengths: bool) -> list[list[int]]:
    """Row numbers in batches: by role, and (but for `mixed_lengths`) long rows first, none shorter than half the
    longest, so that padding never more than doubles a batch."""
    batches: list[list[int]] = []
    for role in dict.fromkeys(row.role for row in rows):
        its = [at for at, row in enumerate(rows) if row.role == role]
        longest = 0
        for at in sorted(its, key=lambda at: -len(rows[at].ids)):
            if not longest or (not mixed_lengths and 2 * len(rows[at].ids) < longest):
                batches.append([])
                longest = len(rows[at].ids)
            batches[-1].append(at)
    return batches


def forward(reader: ClassReader, rows: Sequence[Any], layer: int | None = None) -> Outputs:
    """The classifier's outputs on rows: logits, and the outputs of their labels."""
    assert layer is None
    targets = torch.tensor([row.label for row in rows], device=reader.device)
    return Outputs(rows, reader.logits(rows), targets, torch.arange(len(rows), device=reader.device))


def reader(model: Any, tokenizer: Any) -> ClassReader:
    """What reads rows with the classifier."""
    return ClassReader(model, tokenizer.pad_token_id)


def load_full_model(folder: Path, compute: Compute, *, four_bit: bool = False) -> Any:
    """The classifier of a folder, in fp32 (4-bit where asked), its head as it is there."""
    return load.load_classifier(folder, labels_of(folder), compute, seed=0, four_bit=four_bit)[0]


def prepare(context: Context, settings: RepairSettings, compute: Compute, seed: int) -> Any:
    """The classifier, ready to train: all weights, or adapters on every linear layer, the head among them.

    Adapters are put on as for no task in particular: for classifiers the library would train a copy of the head, and
    the model as given would be gone once it has moved.
    """
    training_method, folder = settings.training.method, context.inputs["base"]
    model = load_full_model(folder, compute, four_bit=training_method == "qlora")
    if training_method == "full":
        return model
    if training_method == "lora" and compute.precision == "bf16-mixed":
        model = model.to(torch.bfloat16)
    no_task: Any = None
    return adapters.add_adapter(
        model, settings.training.lora, no_task, seed=seed, four_bit=training_method == "qlora", name=ADAPTER
    )


def read_rows(context: Context, tokenizer: Any, settings: RepairSettings, method: Method) -> RepairRows:
    """Read and encode every file of the step.

    Raises:
        UserError: rows that are not labelled, or not all with the same fields; a label that the model does not have; no
            row left to forget, or to replay where replay rows are called for; a method or an option without meaning
            for a classifier.
    """
    check_classifier(settings, method)
    folder, names = context.inputs["base"], context.config["files"]
    labels = labels_of(folder)
    records = {role: read_labelled(context.inputs[role] / names[role]) for role in ROLES if role in names}
    check_fields([row for role_records in records.values() for row in role_records])
    longest = tokens_read(settings.max_tokens, load.parsed_config(folder), tokenizer)
    reads = "prompt" if load.is_causal(folder) else "pair"
    encoded, counts = {}, {}
    for role, role_records in records.items():
        plain = role.removeprefix("guard_")
        encoded[role], counts[role] = encode_labelled(
            tokenizer, role_records, labels, reads, longest, long_rows=settings.long_rows, role=plain
        )
    check_left(encoded, counts)
    check_guard(encoded, counts, settings)
    return RepairRows(encoded["forget"], [], encoded.get("replay", []), guard_rows(encoded), [], counts)


def read_labelled(file: Path) -> list[Labelled]:
    """The labelled rows of a file that a step wrote."""
    try:
        return files.read_rows(file)
    except KeyError as error:
        fix = "give rows with text fields and a label, or a language model"
        raise UserError("A classifier is repaired with labelled rows.", f"{file.name} has no {error}", fix) from error


def check_fields(rows: Sequence[Labelled]) -> None:
    """Refuse rows that do not all have the fields of the first: a classifier reads them in one order."""
    for row in rows:
        if tuple(row.fields) != tuple(rows[0].fields):
            detail = f"row {rows[0].id} has {', '.join(rows[0].fields)}; row {row.id} has {', '.join(row.fields)}"
            raise UserError(
                "The rows do not all have the same fields.", detail, "give files of one layout, or --columns"
            )


def encode_labelled(
    tokenizer: Any, records: Sequence[Labelled], labels: Sequence[str], reads: Any, max_tokens: int, *,
    long_rows: str, role: str,
) -> tuple[list[LabelRow], dict[str, Any]]:  # fmt: skip
    """Labelled rows as rows to train on, and counts: read, used, dropped by reason, and `cut` to `max_tokens`.

    A row is read whole or from its beginning, never in pieces (a piece need not have the row's label): rows that are
    too long are cut, unless `long_rows` is "drop".

    Raises:
        UserError: a label that is not among `labels` (lower case).
    """
    index = {label: at for at, label in enumerate(labels)}
    for record in records:
        if str(record.label).lower() not in index:
            detail = f"row {record.id} ({role}): {record.label!r}"
            raise UserError("A row's label is none of the model's.", detail, f"the model's labels: {', '.join(labels)}")
    dropped, cut = {}, 0
    if records:
        encoded = encode_classifier_rows(
            tokenizer, records, labels, reads, 10**9 if long_rows == "drop" else max_tokens
        )
        segments: Sequence[Sequence[int]] = encoded.segments or [()] * len(records)
        rows = [row for row in zip(records, encoded.ids, segments, strict=True) if len(row[1]) <= max_tokens]
        if len(rows) < len(records):
            dropped = {"longer than max_tokens": len(records) - len(rows)}
        cut = encoded.cut
    else:
        rows = []
    label_rows = [
        LabelRow(record.id, ids, (), role, at, label=index[str(record.label).lower()], segments=row_segments)
        for at, (record, ids, row_segments) in enumerate(rows)
    ]
    used = len(label_rows)
    return label_rows, {"read": used + sum(dropped.values()), "used": used, "split": 0, "cut": cut, "dropped": dropped}


def save_full_model(model: Any, tokenizer: Path, context: Context, compute: Compute) -> None:
    """The trained classifier as a whole; adapters are merged into the weights as they were given."""
    import tempfile

    base = context.inputs["base"]
    if not hasattr(model, "peft_config"):
        write_full_model(model, tokenizer, base, context.out)
        return
    with tempfile.TemporaryDirectory(dir=context.out) as adapter_folder:
        adapters.save_trained(model, tokenizer, Path(adapter_folder), context.config["base_name"], only=ADAPTER)
        write_merged(base, Path(adapter_folder), context.out, load_full_model)
