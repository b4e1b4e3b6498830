"""The straightforward way of a repair, and how `benchmarks/repair.py` watches it and Pyrite: rows, clock, memory.

What most people write: `copy.deepcopy` for the frozen model, one padded forward pass each over forget rows, replay rows
and (frozen) replay rows, log_softmax of all logits in fp32, the loss masked over answers, AdamW. Weights are in the
dtype that `from_pretrained` gives them; bf16 is autocast.
"""

import copy
import ctypes
import gc
import itertools
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import kl_div

import data

CHATS = Path("instruct/alpaca_eval_gpt4_1106_preview.json")
"""In a folder of public data: the chats that are read."""

# ===== the plain way ==================================================================================================


@dataclass(frozen=True)
class Batch:
    """Padded rows [rows, longest]: token ids, 1 where a token is no padding, and 1 where it is learned."""

    ids: torch.Tensor
    there: torch.Tensor
    learned: torch.Tensor


def padded(rows: Sequence[Any], pad_id: int, device: str) -> Batch:
    """Rows with `ids` and `learned`, padded on the right to the longest of them."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad_id)
    there, learned = torch.zeros_like(ids), torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(list(row.ids))
        there[at, : len(row.ids)] = 1
        learned[at, 1 : len(row.ids)] = torch.tensor(list(row.learned)[1:])
    return Batch(ids.to(device), there.to(device), learned.to(device))


def log_probabilities(model: Any, batch: Batch) -> torch.Tensor:
    """Log-probabilities of every next token [rows, longest - 1, vocabulary], fp32."""
    logits = model(input_ids=batch.ids, attention_mask=batch.there, use_cache=False).logits
    return logits.float().log_softmax(-1)[:, :-1]


def of_targets(logp: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Those of the tokens that came next [rows, longest - 1]."""
    return logp.gather(-1, batch.ids[:, 1:, None])[..., 0]


def mean(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean over learned tokens."""
    mask = batch.learned[:, 1:]
    return (values * mask).sum() / mask.sum()


def losses(model: Any, reference: Any, forget: Batch, replay: Batch) -> dict[str, torch.Tensor]:
    """Lower-bounded forgetting -log(1 - p), replay cross-entropy, KL(reference || model); nats a token."""
    logp_forget = of_targets(log_probabilities(model, forget), forget)
    unlearned = -torch.log((-torch.expm1(logp_forget)).clamp(min=1e-7))
    logp = log_probabilities(model, replay)
    with torch.no_grad():
        given = log_probabilities(reference, replay)
    kl = kl_div(logp, given, log_target=True, reduction="none").sum(-1)
    return {
        "forget": mean(unlearned, forget),
        "replay": mean(-of_targets(logp, replay), replay),
        "kl": mean(kl, replay),
    }


def train(
    folder: Path,
    steps: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    *,
    lora: dict[str, Any] | None,
    weights: dict[str, float],
    learning_rate: float,
    max_grad_norm: float,
    bf16: bool,
    device: str,
    pad_id: int,
    seed: int,
    loaded: Callable[[Any], None],
    stepped: Callable[[], None],
) -> list[dict[str, float]]:
    """Load a model and take the steps (forget rows, replay rows); each step's losses, before it.

    `loaded(model)` is called when one model is there, `stepped()` after every step.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device)
    loaded(model)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", bias="none", **lora))
    model.train()
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    told = []
    for forget, replay in steps:
        batches = padded(forget, pad_id, device), padded(replay, pad_id, device)
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            parts = losses(model, reference, *batches)
            loss = sum((weights[name] * value for name, value in parts.items()), torch.zeros((), device=device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        told.append({"loss": float(loss.detach())} | {name: float(value.detach()) for name, value in parts.items()})
        stepped()
    return told


# ===== what both sides share ==========================================================================================


@dataclass
class Peak:
    """The most memory since `start`, beyond what was there then: a thread looks every 5 ms; on a GPU its own counter."""

    device: str
    base: int = 0
    highest: int = 0
    mapped: int = 0
    """Of the highest: pages of files."""
    weights: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self, model: Any) -> None:
        """One model was loaded: take this as the base. Its weights are all looked at first, since files are mapped in
        page by page, and what was freed goes back to the system, so that nobody can use it unseen."""
        self.weights = str(next(model.parameters()).dtype).removeprefix("torch.")
        for one in model.parameters():
            float(one.detach().sum())
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated()
            return
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's own mark of the highest begins anew
        self.base, _ = resident()
        threading.Thread(target=self.look, daemon=True).start()

    def look(self) -> None:
        """Until `stop`."""
        while not self.ended.wait(0.005):
            now, files = resident()
            if now > self.highest:
                self.highest, self.mapped = now, files

    def stop(self) -> dict[str, Any]:
        """The figures, in bytes. `kernel_bytes` is the highest by `ru_maxrss`: a check on the thread (above it where
        the kernel's mark could not be reset and loading took more)."""
        self.ended.set()
        unit = 1 if sys.platform == "darwin" else 1024
        kernel = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        if self.device == "cuda":
            self.highest = kernel = torch.cuda.max_memory_allocated()
        return {
            "bytes": self.highest - self.base,
            "base_bytes": self.base,
            "highest_bytes": self.highest,
            "kernel_bytes": kernel,
            "of_files_bytes": self.mapped,
            "weights": self.weights,
        }


def resident() -> tuple[int, int]:
    """This process's resident bytes, and those of them that are pages of files."""
    pages = Path("/proc/self/statm").read_text().split()
    size = os.sysconf("SC_PAGE_SIZE")
    return int(pages[1]) * size, int(pages[2]) * size


class Clock:
    """When was each step done?"""

    def __init__(self, device: str) -> None:
        self.device, self.times = device, list[float]()

    def __call__(self, *_: Any) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of every step but the first."""
        return [after - before for before, after in itertools.pairwise(self.times)]


def chats(given: str | None) -> tuple[list[Any], str]:
    """Chat rows of a file (or of its name in a folder of public data), and where they come from; else rows of our own."""
    from pyrite.io import ReadOptions, open_records
    from pyrite.records import Chat

    named = Path(given) if given and not Path(given).is_dir() else None
    folder = data.data_folder(given)
    file = named or (folder / CHATS if folder is not None else None)
    if file is not None and file.is_file():
        records = [one for one in open_records(str(file), ReadOptions(on_bad_row="skip")) if isinstance(one, Chat)]
        return [[asdict(turn) for turn in one.messages] for one in records], f"{len(records)} chats of {file.name}"
    if named is not None:
        raise SystemExit(f"there is no {named}")
    prompts, _ = data.ifeval_prompts(None, 400)
    texts = [" ".join([f"An answer to: {prompt}"] * (3 + 7 * at % 31)) for at, prompt in enumerate(prompts)]
    made = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    return made, f"NO PUBLIC DATA: {len(made)} chats of our own"


def write_rows(rows: Sequence[Any], folder: Path, count: int, seed: int) -> Path:
    """So many forget rows and as many other replay rows, drawn by the seed."""
    if len(rows) < 2 * count:
        raise SystemExit(f"{2 * count} chats are needed, {len(rows)} were found: take fewer --steps, or another file")
    order = np.random.default_rng(seed).permutation(len(rows))[: 2 * count].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    for role, some in (("forget", order[:count]), ("replay", order[count:])):
        lines = [json.dumps({"id": str(at), "messages": rows[at]}) + "\n" for at in some]
        (folder / f"{role}.jsonl").write_text("".join(lines))
    return folder


def settings_of(job: dict[str, Any]) -> Any:
    """A repair with the product's defaults, but for a constant rate and no guard (the plain way has none)."""
    from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining

    return RepairSettings(
        steps=1 + job["steps"],
        forget_rows=job["rows"],
        replay_rows=job["rows"],
        max_tokens=job["max_tokens"],
        training=RepairTraining(method=job["how"], schedule="constant", warmup=0.0),
        guard=GuardSettings(every_tokens=0),
    )


def read(job: dict[str, Any], clock: Clock) -> tuple[Any, list[list[Any]]]:
    """A repair as its step would be given it, and the rows of each step, through the product."""
    from pyrite.repair.row_order import plan_steps
    from pyrite.repair.train import repair_task_of
    from pyrite.steps import Context

    settings = settings_of(job)
    home, rows, base = Path(job["home"]), Path(job["rows_folder"]), Path(job["model"])
    files = {role: f"{role}.jsonl" for role in ("forget", "replay")}
    context = Context(
        config={
            "files": files,
            "settings": settings.model_dump(mode="json"),
            "seed": job["seed"],
            "compute": {"device": job["device"], "precision": job["precision"]},
        },
        inputs={"base": base, "forget": rows, "replay": rows},
        out=home,
        checkpoint=home,
        report_progress=clock,
        expired=lambda: False,
    )
    asked = repair_task_of(context)
    return asked, plan_steps(asked.rows, settings, ("forget", "replay"), job["seed"])
