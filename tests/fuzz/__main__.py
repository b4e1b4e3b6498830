"""Inputs of every kind at random, whole and broken: `python -m tests.fuzz --count N --seed S [--kinds files specs] [--log FILE]`.

Each is read, or refused by a `UserError`; anything else is a fault, and is told with the seed that makes it again.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

CHECKS = ("files", "specs", "chats", "reports")
OFTEN = {"files": 0.95, "specs": 0.02, "chats": 0.025, "reports": 0.005}
"""How often each kind comes, where all do: the last three take longer."""
MEMORY = Path("/dev/shm")
EVERY = 60.0
"""Seconds between two lines of the log."""


def checks_of(kinds: tuple[str, ...]) -> dict[str, Callable[[random.Random, Path], str]]:
    """What checks one input of each kind."""
    from importlib import import_module

    return {kind: import_module(f"tests.fuzz.{kind}").check for kind in kinds}


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is such a place; files are not made safe against a loss of power."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name, mock.patch("os.fsync"):
        yield Path(name)


def run(
    count: int, seed: int, kinds: tuple[str, ...] = CHECKS, *, log: Path | None = None, go_on: bool = False
) -> Counter[str]:
    """So many inputs; what became of them. A fault is raised with the number of its input, or counted by its place."""
    checks, outcomes, faults = checks_of(kinds), Counter[str](), Counter[str]()
    weights = [OFTEN[kind] for kind in kinds]
    began = logged = time.monotonic()
    number = 0
    with quick_folder() as folder:
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            kind = rng.choices(kinds, weights)[0]
            try:
                outcomes[checks[kind](rng, folder)] += 1
            except Exception as error:
                where = f"input {number} of seed {seed} ({', '.join(kinds)}): {type(error).__name__}: {error}"
                if not go_on:
                    raise AssertionError(where) from error
                place = traceback.extract_tb(error.__traceback__)[-1]
                faults[f"{place.filename}:{place.lineno} {type(error).__name__}"] += 1
                write_log(log, {"fault": where[:500], "trace": traceback.format_exc()[-3000:]})
                outcomes["fault"] += 1
            if log is not None and time.monotonic() - logged > EVERY:
                logged = time.monotonic()
                write_log(log, summary(number + 1, seed, logged - began, outcomes, faults))
    if log is not None:
        write_log(log, {**summary(count, seed, time.monotonic() - began, outcomes, faults), "ended": True})
    return outcomes


def summary(inputs: int, seed: int, seconds: float, outcomes: Counter[str], faults: Counter[str]) -> dict[str, object]:
    """How far a run is."""
    rates = {"inputs": inputs, "seed": seed, "seconds": round(seconds), "processor": round(time.process_time())}
    return {**rates, "outcomes": dict(sorted(outcomes.items())), "faults": dict(faults)}


def write_log(log: Path | None, entry: dict[str, object]) -> None:
    """One line of the log, on the screen where there is none."""
    line = json.dumps(entry)
    if log is None:
        print(line, file=sys.stderr)
        return
    with log.open("a", encoding="utf-8") as sink:
        sink.write(line + "\n")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, nargs="+", default=[2])
    parser.add_argument("--kinds", nargs="+", choices=CHECKS, default=CHECKS)
    parser.add_argument("--log", type=Path, help="append how far it is, and every fault, here; faults do not end it")
    arguments = parser.parse_args()
    for seed in arguments.seed:
        began = time.process_time()
        outcomes = run(
            arguments.count, seed, tuple(arguments.kinds), log=arguments.log, go_on=arguments.log is not None
        )
        seconds = time.process_time() - began
        print(f"seed {seed}: {dict(outcomes)}, {arguments.count / seconds:.0f} inputs a second of one core", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
