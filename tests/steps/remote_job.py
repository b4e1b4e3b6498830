"""A few steps on a store, as a program of its own: `python -m tests.steps.remote_job STORE FOLDER SECONDS [BOUNDARY]`.

FOLDER/log has a line for each beginning of a step. With BOUNDARY the process kills itself the first time that it comes there.
"""

import os
import signal
import sys
import time
from pathlib import Path

from pyrite.errors import UserError
from pyrite.steps import Context, Progress, RunOptions, Step, StepType, open_store, run_steps
from pyrite.steps import store as store_module


def write_line(folder: str, line: str) -> None:
    with (Path(folder) / "log").open("a") as log:
        log.write(line + "\n")


def work(context: Context) -> None:
    """A number, and weights beside it."""
    write_line(os.environ["JOB_FOLDER"], f"begin {context.config['number']}")
    time.sleep(float(os.environ["JOB_SECONDS"]))
    before = sum(int((folder / "number.txt").read_text()) for folder in context.inputs.values())
    (context.out / "number.txt").write_text(str(context.config["number"] + before))
    (context.out / "parts").mkdir()
    (context.out / "parts" / "part.txt").write_text("part")
    (context.out / "model.safetensors").write_bytes(b"weights" * 1000)


WORK = StepType("work", 1, work)


def graph(count: int = 4) -> Step:
    """A sum of independent numbers."""
    numbers = {f"n{at}": Step(WORK, {"number": at}, label=f"n{at}", weights=("*.safetensors",)) for at in range(count)}
    return Step(WORK, {"number": 100}, numbers, label="sum", weights=("*.safetensors",))


def main() -> int:
    place, folder, seconds, *where = sys.argv[1:]
    os.environ |= {"JOB_FOLDER": folder, "JOB_SECONDS": seconds}
    if where:

        def boundary(point: str, step: Step) -> None:
            if point == where[0]:
                write_line(folder, f"killed {point}")
                os.kill(os.getpid(), signal.SIGKILL)

        store_module.boundary = boundary
    try:
        step = graph()
        store = open_store(place)
        run_steps([step], store, RunOptions(engine=os.environ.get("JOB_ENGINE", "local")), Progress(quiet=True))
        print((store.path(step.key) / "number.txt").read_text())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    from tests.steps.remote_job import main as run_main  # so that the steps have their module's name

    sys.exit(run_main())
