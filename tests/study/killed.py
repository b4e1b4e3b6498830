"""Run a study in child processes that are killed (signal 9) again and again, until one gets through; prints the kills.

    python killed.py never|boundaries|random SEED STUDY-ARGUMENTS…

Heavy imports happen once, before forking; the parent never computes, so forking is safe.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers  # noqa: F401

from pyrite.cli import run
from pyrite.models import load
from pyrite.steps import Step, store
from pyrite.study import run as study_run  # noqa: F401
from pyrite.train import classifier, fit  # noqa: F401


def child(arguments: list[str], hits: Path | None, environment: dict[str, str]) -> None:
    """Run the command; with `hits`, die at the first boundary that this file does not list yet."""
    os.environ |= environment
    torch.set_num_threads(1)
    load.quiet_libraries()

    def boundary(where: str, step: Step) -> None:
        name = f"{where}:{step.kind.name}\n"
        if hits is not None and name not in hits.read_text():
            with hits.open("a") as file:
                file.write(name)
            os.kill(os.getpid(), signal.SIGKILL)

    store.boundary = boundary
    os._exit(run(arguments))


def attempt(
    arguments: list[str], environment: dict[str, str], seconds: float | None = None, hits: Path | None = None
) -> int:
    """One child: returns its exit code, or minus the signal that ended it."""
    process = os.fork()
    if process == 0:
        child(arguments, hits, environment)
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    mode, seed, *arguments = sys.argv[1:]
    rng = random.Random(int(seed))
    kills = code = 0
    if mode == "boundaries":
        with tempfile.TemporaryDirectory() as folder:
            hits = Path(folder) / "hits"
            hits.touch()
            while (code := attempt(arguments, {}, hits=hits)) == -signal.SIGKILL:
                kills += 1
    elif mode == "random":
        while (
            kills < 8
            and attempt(arguments, {"PYRITE_CHECKPOINT_SECONDS": "0"}, rng.uniform(0.3, 4.0)) == -signal.SIGKILL
        ):
            kills += 1
    if mode != "boundaries":
        code = attempt(arguments, {})
    print(f"kills={kills}")
    sys.exit(code)


if __name__ == "__main__":
    main()
