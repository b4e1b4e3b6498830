"""Hidden states of a model's frozen lower layers: computed once for a row, stored, and put back in the place of the layers.

Where the embeddings and the first N layers are frozen, what they make of a row is the same in every epoch and for every
model of a grid. `states_of` computes it, `Injected` puts it back in the place of those layers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from pyrite.models.freeze import Reached, layer_list, probe_ids
from pyrite.models.work import BATCH_TOKENS, LEAKY, length_batches

STATES, INDEX = "states.npy", "index.json"
TOLERANCE = {"fp32": 1e-3, "bf16-mixed": 5e-2}
"""How far states and logits may move when stored states take the place of the lower layers, relative to the largest of them."""


@dataclass(frozen=True)
class Batch:
    """Padded rows: `numbers` of the rows, `inputs` for the model, and how long each row is."""

    numbers: list[int]
    inputs: dict[str, torch.Tensor]
    lengths: list[int]


def padded_batches(
    ids: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None, pad_id: int, device: Any
) -> Iterator[Batch]:
    """Rows of about one length together, padded on the right."""
    for numbers in length_batches([len(row) for row in ids], BATCH_TOKENS[torch.device(device).type]):
        lengths = [len(ids[at]) for at in numbers]
        width = max(lengths)
        mask = torch.arange(width) < torch.tensor(lengths)[:, None]
        tokens = torch.full(mask.shape, pad_id)
        tokens[mask] = torch.tensor([token for at in numbers for token in ids[at]])
        inputs = {"input_ids": tokens, "attention_mask": mask.long()}
        if segments is not None:
            kinds = torch.zeros_like(tokens)
            kinds[mask] = torch.tensor([kind for at in numbers for kind in segments[at]])
            inputs["token_type_ids"] = kinds
        yield Batch(numbers, {name: tensor.to(device) for name, tensor in inputs.items()}, lengths)


def token_row_key(ids: Sequence[int], segments: Sequence[int] | None) -> str:
    """Which row is this, as the model reads it?"""
    text = orjson.dumps([list(ids), None if segments is None else list(segments)])
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def states_of(
    model: Any,
    layers: int,
    ids: Sequence[Sequence[int]],
    segments: Sequence[Sequence[int]] | None,
    *,
    pad_id: int,
    report_progress: Any = None,
) -> list[np.ndarray[Any, Any]]:
    """What reaches layer number `layers` of every row [tokens, width], fp32, without dropout."""
    captured: list[torch.Tensor] = []

    def stop(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(args[0] if args else kwargs["hidden_states"])
        raise Reached

    hook = layer_list(model)[layers].register_forward_pre_hook(stop, with_kwargs=True)
    states: list[Any] = [None] * len(ids)
    n_done = 0
    model.eval()
    try:
        with torch.inference_mode():
            for batch in padded_batches(ids, segments, pad_id, model.device):
                with suppress(Reached):
                    model(**batch.inputs)
                hidden = captured.pop().float().cpu().numpy()
                for row, (at, length) in enumerate(zip(batch.numbers, batch.lengths, strict=True)):
                    states[at] = hidden[row, :length].copy()
                n_done += len(batch.numbers)
                if report_progress is not None:
                    report_progress(n_done, len(ids), "rows")
    finally:
        hook.remove()
    return states


def write_states(keys: Sequence[str], states: Sequence[np.ndarray[Any, Any]], layers: int, folder: Path) -> None:
    """States of rows before layer number `layers`, one after the other, in a file that is read by memory mapping, and where each row begins."""
    lengths = [len(row_states) for row_states in states]
    ends = np.cumsum([0, *lengths]).tolist()
    np.save(folder / STATES, np.concatenate(states) if states else np.zeros((0, 0), np.float32))
    index = {key: [begin, end] for key, (begin, end) in zip(keys, pairwise(ends), strict=True)}
    (folder / INDEX).write_bytes(orjson.dumps({"layers": layers, "rows": index}))


class Stored:
    """Hidden states of rows that earlier steps stored, by row; all from before the same layer (`layers`)."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.states = [np.load(folder / STATES, mmap_mode="r") for folder in folders]
        indices = [orjson.loads((folder / INDEX).read_bytes()) for folder in folders]
        (self.layers,) = {index["layers"] for index in indices}
        self.rows = [index["rows"] for index in indices]

    def get(self, key: str) -> np.ndarray[Any, Any] | None:
        """One row's states [tokens, width]."""
        for states, rows in zip(self.states, self.rows, strict=True):
            if key in rows:
                begin, end = rows[key]
                row_states: np.ndarray[Any, Any] = states[begin:end]
                return row_states
        return None

    def of(
        self,
        model: Any,
        ids: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None,
        *,
        pad_id: int,
    ) -> list[np.ndarray[Any, Any]]:
        """The states of these rows; of those that no step wrote, by the model now."""
        kinds: Sequence[Sequence[int] | None] = [None] * len(ids) if segments is None else segments
        states = [self.get(token_row_key(row, kind)) for row, kind in zip(ids, kinds, strict=True)]
        lacking = [at for at, row_states in enumerate(states) if row_states is None]
        lacking_segments = None if segments is None else [segments[at] for at in lacking]
        fresh = (
            states_of(model, self.layers, [ids[at] for at in lacking], lacking_segments, pad_id=pad_id)
            if lacking
            else []
        )
        for at, row_states in zip(lacking, fresh, strict=True):
            states[at] = row_states
        return [row_states for row_states in states if row_states is not None]


class StandInLayer(torch.nn.Module):
    """A stand-in for a lower layer: passes its input on, or, the last of them, the stored states.

    `size`: the layer gives a tuple of so many, the states first; 0: the states alone. Whatever else the model asks the
    layer for (its sort of attention, say) is the layer's own.
    """

    states: torch.Tensor | None = None

    def __init__(self, layer: torch.nn.Module, size: int) -> None:
        super().__init__()
        self.size = size
        object.__setattr__(self, "layer", layer)  # no child: its weights are not this model's while it is away

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "layer"), name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **named: Any) -> Any:
        """The states, in the form in which the layers give theirs."""
        out = hidden_states if self.states is None else self.states.to(hidden_states.dtype)
        return (out, *[None] * (self.size - 1)) if self.size else out


class Injected:
    """A model whose lower layers are replaced by stored states while it is `active`."""

    def __init__(self, model: Any, layers: int) -> None:
        self.model, self.layers = model, layers
        self.stack = layer_list(model)
        self.lower_layers = list(self.stack[:layers])
        size = tuple_size(model, self.lower_layers[0])
        self.stand_ins = [StandInLayer(layer, size) for layer in self.lower_layers]

    def put(self, states: torch.Tensor) -> None:
        """The states of the next batch [rows, longest, width]."""
        self.stand_ins[-1].states = states.to(self.model.device)

    def put_rows(self, states: Sequence[np.ndarray[Any, Any]]) -> None:
        """Puts the states of the next batch, from the states of each row."""
        self.put(padded_states(states))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Replaces the lower layers for the time of a block."""
        for at, stand_in in enumerate(self.stand_ins):
            self.stack[at] = stand_in
        try:
            yield
        finally:
            for at, layer in enumerate(self.lower_layers):
                self.stack[at] = layer
            self.stand_ins[-1].states = None

    def agrees(
        self,
        ids: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None,
        states: Sequence[np.ndarray[Any, Any]],
        *,
        pad_id: int,
        precision: str,
    ) -> bool:
        """Do stored states give these rows what the whole model gives them, at the input of its last layer and as logits?

        A fresh head's logits are near 0 whatever it is given, so the states themselves are compared, relative to their size.
        """
        was = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for batch in padded_batches(ids, segments, pad_id, self.model.device):
                    full = self.outputs(batch)
                    with self.active():
                        self.put_rows([states[at] for at in batch.numbers])
                        short = self.outputs(batch)
                    for full_tensor, short_tensor in zip(full, short, strict=True):
                        if not bool(
                            ((full_tensor - short_tensor).abs() <= TOLERANCE[precision] * full_tensor.abs().max()).all()
                        ):
                            return False
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False  # an architecture whose layers cannot be stood in for
        finally:
            self.model.train(was)
        return True

    def outputs(self, batch: Batch) -> list[torch.Tensor]:
        """The states before the last layer, of every row's own tokens, and the logits."""
        inner: list[torch.Tensor] = []

        def look(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inner.append(args[0] if args else kwargs["hidden_states"])

        hook = self.stack[-1].register_forward_pre_hook(look, with_kwargs=True)
        try:
            logits = self.model(**batch.inputs).logits.float()
        finally:
            hook.remove()
        return [inner[0].float()[batch.inputs["attention_mask"].bool()], logits]


CHECKED = 8
"""Rows on which stored states must give what the whole model gives."""


def fitting_states(
    model: Any,
    stored: Stored,
    ids: Sequence[Sequence[int]],
    segments: Sequence[Sequence[int]] | None,
    *,
    pad_id: int,
    precision: str,
) -> tuple[Injected, list[np.ndarray[Any, Any]]] | None:
    """The stored states of rows, and the model that takes them in the place of its lower layers; None where they do not
    give what the whole model gives (`Injected.agrees`), on a few rows, or would hang on a row's neighbours (`work.LEAKY`)."""
    if model.config.model_type in LEAKY:
        return None
    injected, states = Injected(model, stored.layers), stored.of(model, ids, segments, pad_id=pad_id)
    checked_segments = None if segments is None else segments[:CHECKED]
    agrees = injected.agrees(ids[:CHECKED], checked_segments, states[:CHECKED], pad_id=pad_id, precision=precision)
    return (injected, states) if agrees else None


def padded_states(states: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
    """States of several rows, padded on the right to the longest [rows, longest, width]."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(np.array(row_states)) for row_states in states], batch_first=True
    )


def tuple_size(model: Any, layer: Any) -> int:
    """The length of the tuple that a layer of this model returns; 0: it returns its states alone."""
    sizes: list[int] = []

    def look(layer: Any, args: Any, out: Any) -> None:
        sizes.append(len(out) if isinstance(out, tuple) else 0)

    hook = layer.register_forward_hook(look)
    try:
        with torch.inference_mode():
            model(input_ids=probe_ids(model))
    finally:
        hook.remove()
    return sizes[0]
