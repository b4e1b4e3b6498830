"""What watches a training: it reports progress, asks for checkpoints, stops when the time is up, and knows which checkpoint is whole."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pyrite.steps import Context

COMPLETE = "complete"


def checkpoint_seconds() -> float:
    """How often is a checkpoint written? Every five minutes; `$PYRITE_CHECKPOINT_SECONDS` changes it (0: each step)."""
    return float(os.environ.get("PYRITE_CHECKPOINT_SECONDS", "300"))


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports progress, asks for a checkpoint every few minutes, and stops cleanly when the time is up."""

    def __init__(self, context: Context, tokens: int, total_tokens: float) -> None:
        self.context, self.tokens, self.total = context, tokens, total_tokens
        self.saved = time.monotonic()
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimiser step."""
        self.context.report_progress(self.total * state.global_step / max(state.max_steps, 1), self.total, "tokens")
        ended = state.global_step >= state.max_steps or control.should_training_stop
        if self.context.expired() and not ended:
            self.stopped = control.should_save = control.should_training_stop = True
        elif time.monotonic() - self.saved >= checkpoint_seconds() and not ended:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint has been written to its end: mark it and drop the one before."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / COMPLETE).touch()
        self.saved = time.monotonic()
        for old_folder in Path(args.output_dir).glob("checkpoint-*"):
            if old_folder != folder:
                shutil.rmtree(old_folder)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; removes the others."""
    complete = [path for path in folder.glob("checkpoint-*") if (path / COMPLETE).is_file()]
    newest = max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    for path in folder.glob("checkpoint-*"):
        if path != newest:
            shutil.rmtree(path)
    return newest
