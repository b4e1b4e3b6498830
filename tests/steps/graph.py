"""Sixty short steps that say what becomes of them, and a program that runs them: `python -m tests.steps.graph FOLDER ENGINE WORKERS`.

Every step works in parts, each saved in its checkpoint. FOLDER/log has a line for each beginning and each part; a file of
FOLDER/running holds the process of each step at work.
"""

import os
import sys
import time
from pathlib import Path

from pyrite.errors import UserError
from pyrite.steps import Context, Progress, RunOptions, Step, StepType, Store, run_steps

PARTS, LAYERS = 4, (24, 18, 12, 5, 1)


def write_line(folder: Path, line: str) -> None:
    with (folder / "log").open("a") as log:
        log.write(line + "\n")


def work(context: Context) -> None:
    """A number from the inputs' numbers, in parts."""
    folder, key = context.out.parents[3], context.out.parent.name
    published = (context.out.parents[2] / "done" / key[:2] / key).exists()
    running = folder / "running" / key
    running.write_text(str(os.getpid()))
    write_line(folder, f"begin {key} {'published' if published else 'new'} {node_id()}")
    saved = context.checkpoint / "parts"
    numbers = saved.read_text().split() if saved.exists() else []
    for part in range(len(numbers), PARTS):
        time.sleep(context.config["seconds"] / PARTS)
        numbers.append(str(context.config["number"] * 7 + part))
        (context.checkpoint / "new").write_text(" ".join(numbers))
        (context.checkpoint / "new").replace(saved)
        write_line(folder, f"part {key} {part}")
        context.report_progress(part + 1, PARTS, "parts")
    before = sum(int((path / "number.txt").read_text()) for path in context.inputs.values())
    (context.out / "number.txt").write_text(str(sum(map(int, numbers)) + before))
    running.unlink(missing_ok=True)


def node_id() -> str:
    """Which machine of a cluster is this? The local engine's answer is `here`."""
    if "ray" not in sys.modules:
        return "here"
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "here"


def tell_gpu(context: Context) -> None:
    """Says in which process, and with which GPU."""
    write_line(context.out.parents[3], f"gpu {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    (context.out / "number.txt").write_text("0")


WORK, GPU = StepType("work", 1, work), StepType("gpu", 1, tell_gpu)


def graph(seconds: float = 0.3) -> Step:
    """Layers of steps, each of which reads three of the layer below (the last one all)."""
    below: list[Step] = []
    for layer, count in enumerate(LAYERS):
        steps = []
        for at in range(count):
            read = below if count == 1 else [below[(at + more) % len(below)] for more in (0, 5, 7)] if below else []
            config = {"number": 100 * layer + at, "seconds": seconds}
            steps.append(Step(WORK, config, {f"n{n}": step for n, step in enumerate(read)}, label=f"{layer}.{at}"))
        below = steps
    return below[0]


def gpu_steps() -> list[Step]:
    """Four steps that compute on a GPU, as far as their recipes say."""
    configs = ({"at": at, "compute": {"device": "cuda"}} for at in range(4))
    return [Step(GPU, config, label=f"gpu {config['at']}") for config in configs]


def main() -> int:
    folder, engine, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    steps = gpu_steps() if sys.argv[4:] == ["gpu"] else [graph()]
    (folder / "running").mkdir(exist_ok=True)
    try:
        run_steps(steps, Store(folder / "store"), RunOptions(workers=workers, engine=engine), Progress(quiet=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    from tests.steps.graph import main as run_main  # so that workers find the steps under their module's name

    sys.exit(run_main())
