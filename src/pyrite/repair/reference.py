"""The frozen reference model, without a second copy in memory.

Under adapters it is the model with the repair's adapter switched off: one more forward pass, over the rows that need
it. Where all weights move, its hidden states are computed once, before the first step, and kept on disk with its output
matrix, memory-mapped: hidden states, since logits would take the vocabulary's size for every token.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from pyrite.models.hardware import Compute
from pyrite.train import peers
from pyrite.train.packed import Normalisers, Objective, Trained, flatten, hidden_states, packs_of
from pyrite.train.rows import TrainingRow

ADAPTER = "repair"
"""The name of the adapter that a repair trains."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of a model at every target of some rows.

    `states` [targets, width], which the reader's head turns into scores of all answers; `targets` [targets], the answers
    that are learned; `owner` [targets], the row that each belongs to.
    """

    rows: Sequence[TrainingRow]
    states: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor


Forward = Callable[[Any, Sequence[TrainingRow], int | None], Outputs]
"""forward(reader, rows, layer): the outputs of rows; `layer` None: after the last one."""


See = Callable[[Sequence[TrainingRow], Callable[[Any], Any]], Any]
"""see(rows, look): what look(reader) sees while the model's weights are whole, for the time of a pass over `rows`."""


def see_alone(reader: Any) -> See:
    """How a process alone looks at its model."""
    return lambda rows, look: look(reader)


def forward_tokens(reader: Any, rows: Sequence[TrainingRow], layer: int | None = None) -> Outputs:
    """A language model's hidden states that predict the learned tokens."""
    flat = flatten(rows, reader.device)
    return Outputs(rows, hidden_states(reader, flat, layer)[flat.at], flat.targets, flat.owner)


class Reference(Protocol):
    """The frozen model: hidden states of the learned positions of rows, and its output matrix. `live`: each time it is
    asked it reads the rows again."""

    live: bool

    def hidden(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """The states that predict the rows' learned tokens, in their order [targets, width]."""
        ...

    @property
    def weight(self) -> torch.Tensor:
        """The output matrix [vocabulary, width]."""
        ...

    @property
    def bias(self) -> torch.Tensor | None:
        """Its bias [vocabulary], where it has one."""
        ...


@contextlib.contextmanager
def switched_off(model: Any, name: str = ADAPTER) -> Iterator[None]:
    """Context manager: one adapter disabled; others that are active below it stay so. No weight is touched."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [
        (module, list(module._active_adapter)) for module in model.modules() if isinstance(module, BaseTunerLayer)
    ]
    try:
        for layer, active in layers:
            layer._active_adapter = [adapter for adapter in active if adapter != name]
        yield
    finally:
        for layer, active in layers:
            layer._active_adapter = active


class AdapterDisabledReference:
    """Reference with the adapter disabled: the model itself, its repair adapter switched off for the time of a pass."""

    live = True

    def __init__(self, model: Any, reader: Any, layer: int | None = None, *, forward: Forward = forward_tokens) -> None:
        self.model, self.reader, self.layer, self.forward = model, reader, layer, forward
        self.passes = 0

    def hidden(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """One pass over these rows."""
        self.passes += 1
        was = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), switched_off(self.model):
                return self.forward(self.reader, rows, self.layer).states
        finally:
            self.model.train(was)

    @property
    def weight(self) -> torch.Tensor:
        """The output matrix, which no adapter moves."""
        weight: torch.Tensor = self.reader.head.weight.detach()
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        """Its bias."""
        return None if self.reader.head.bias is None else self.reader.head.bias.detach()


class EqualPasses:
    """An objective that makes the same number of reference passes (`passes`) for every pack, whether its rows need them
    or not: processes that share the weights gather them together, or wait for each other for ever."""

    def __init__(self, objective: Objective, live: AdapterDisabledReference, passes: int) -> None:
        self.objective, self.live, self.passes = objective, live, passes

    def __call__(
        self, module: Trained, rows: Sequence[TrainingRow], normalisers: Normalisers
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The objective's own loss and parts."""
        before = self.live.passes
        loss_and_parts = self.objective(module, rows, normalisers)
        for _ in range(self.passes - (self.live.passes - before)):
            self.live.hidden(rows[-1:])
        return loss_and_parts


class CachedReference:
    """Reference cached on disk: the states of each row that needs them, and the output matrix. Read through
    the operating system's page cache, so that they count as nobody's memory."""

    live = False
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, folder: Path, spans: dict[tuple[str, int], tuple[int, int]], width: int, device: Any) -> None:
        self.spans, self.device = spans, device
        self.states = memory_mapped(folder / STATES, width)
        self.weight = memory_mapped(folder / HEAD, width)
        if device.type != "cpu":
            self.weight = self.weight.to(device)
        self.bias = memory_mapped(folder / BIAS, 1)[:, 0].to(device) if (folder / BIAS).is_file() else None

    def hidden(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """Read from disk."""
        parts = [self.states[slice(*self.spans[row.role, row.number])] for row in rows]
        return torch.cat([self.states[:0], *parts]).to(self.device)


STATES, HEAD, BIAS = "states.safetensors", "head.safetensors", "bias.safetensors"


def memory_mapped(file: Path, width: int) -> torch.Tensor:
    """A tensor [any, width] of a file, memory-mapped."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor("x")
    return tensor.view(-1, width)


def write_reference(
    reader: Any, rows: Sequence[TrainingRow], folder: Path, *, pack_tokens: int, compute: Compute, layer: int | None = None,
    forward: Forward = forward_tokens, see: See | None = None,
) -> CachedReference:  # fmt: skip
    """Compute the states of these rows (those that predict learned tokens) with the model as it is now, once.

    In the number format of the matrix products, which is what the loss would see anyway. A folder that an earlier
    attempt finished is read as it is: the caller keeps one folder for one model and one list of rows. `see` is how several
    processes look at the model that they share: all compute, the first writes.
    """
    from safetensors.torch import save_file

    dtype = torch.bfloat16 if compute.precision == "bf16-mixed" else reader.head.weight.dtype
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    size = 0
    for row in rows:
        spans[row.role, row.number] = (size, size + row.targets)
        size += row.targets
    width = int(reader.head.weight.shape[1])
    see = see_alone(reader) if see is None else see

    def states_of(pack: Sequence[TrainingRow], whole: Any) -> torch.Tensor:
        return forward(whole, pack, layer).states.to(dtype).cpu()

    if not peers.agreed((folder / "complete").is_file()):
        states = torch.empty(size if peers.is_first() else 0, width, dtype=dtype)
        with torch.no_grad(), compute.autocast():
            for pack in packs_of(list(rows), pack_tokens):
                hidden = see(pack, partial(states_of, pack))
                start = 0
                for row in pack if peers.is_first() else ():
                    states[slice(*spans[row.role, row.number])] = hidden[start : start + row.targets]
                    start += row.targets
        head = see(rows[:1], lambda whole: copied(whole.head, dtype))
        if peers.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            save_file({"x": states}, folder / STATES)
            for name, tensor in head.items():
                save_file({"x": tensor}, folder / name)
            (folder / "complete").touch()
        peers.wait_for_all()
    return CachedReference(folder, spans, width, reader.device)


def copied(head: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """An output matrix and its bias, under the names of their files, as copies: in the first of several processes alone."""
    if not peers.is_first():
        return {}
    tensors = {HEAD: head.weight.detach().to("cpu", dtype, copy=True).contiguous()}
    if head.bias is not None:
        tensors[BIAS] = head.bias.detach().to("cpu", torch.float32, copy=True).contiguous()
    return tensors
