"""Run a study in several processes at once on one store, as on several machines: `python beside.py COUNT FOLDER STUDY-ARGUMENTS…`.

FOLDER/published has a line for each step that was published, FOLDER/N.json what the N-th process printed. Each process has a
cache and a run folder of its own. Heavy imports happen once, before forking.
"""

import os
import sys
from pathlib import Path

import torch
import transformers  # noqa: F401

from pyrite.cli import run
from pyrite.models import load
from pyrite.steps import Step, store
from pyrite.study import run as study_run  # noqa: F401
from pyrite.train import classifier, fit  # noqa: F401


def child(number: int, folder: Path, arguments: list[str]) -> None:
    """One of the processes."""
    os.environ["PYRITE_STORE_CACHE"] = str(folder / f"cache-{number}")
    torch.set_num_threads(1)
    load.quiet_libraries()

    def boundary(where: str, step: Step) -> None:
        if where == "after-publish":
            with (folder / "published").open("a") as log:
                log.write(f"{step.key} {step.label}\n")

    store.boundary = boundary
    out = os.open(folder / f"{number}.json", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    code = run([*arguments, "--out", str(folder / f"runs-{number}"), "--json", "--quiet", "--workers", "1"])
    sys.stdout.flush()
    os._exit(code)


def main() -> int:
    count, folder, arguments = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    children = []
    for number in range(count):
        process = os.fork()
        if process == 0:
            child(number, folder, arguments)
        children.append(process)
    return max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in children)


if __name__ == "__main__":
    sys.exit(main())
