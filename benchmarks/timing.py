"""How fast is one way of doing a thing beside another, on a machine that others use too? Arms in turn, medians of ratios.

Every round runs every arm once on the same input (A B C, A B C, ...), so that a slow minute of the machine hits all arms
alike; the ratio is taken within a round, and the median over the rounds is reported with the smallest and largest.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "lm_eval", "tokenizers")


@dataclass
class Timed:
    """What one arm did: the seconds of each round, and what it returned in each."""

    seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    @property
    def last(self) -> Any:
        """What the arm returned in the last round."""
        return self.results[-1]


def parser(about: str | None, *, quick: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes; `quick` says what is smaller with --quick."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")
    return options


def say(*words: object) -> None:
    """A line of progress, on stderr."""
    print(*words, file=sys.stderr, flush=True)


def seconds_of(arm: Callable[[], Any]) -> tuple[float, Any]:
    """How long does one call take, and what does it return? What it prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        start = time.perf_counter()
        result = arm()
        return time.perf_counter() - start, result


def alternate(
    arms: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: Mapping[str, Callable[[], Any]]
) -> dict[str, Timed]:
    """Run every arm in turn, `rounds` times, after one untimed call of each arm's `warm_up`."""
    for name in arms:
        seconds_of(warm_up[name])
    timed = {name: Timed() for name in arms}
    for number in range(rounds):
        for name, arm in arms.items():
            seconds, result = seconds_of(arm)
            timed[name].seconds.append(seconds)
            timed[name].results.append(result)
            say(f"  round {number + 1}/{rounds}  {name:<24} {seconds:8.2f} s")
    return timed


def fastest(what: str, choices: Mapping[str, Callable[[], Any]]) -> tuple[str, dict[str, float]]:
    """Which setting of a peer is its best? Its name, and the seconds of every one; the better of two calls counts.

    The first call of a setting warms it up, so that no setting loses by coming first. A setting that fails (out of
    memory) is named and passed over.
    """
    seconds: dict[str, float] = {}
    for name, call in choices.items():
        try:
            seconds[name] = min(seconds_of(call)[0] for _ in range(2))
            say(f"  trying {what} {name:<20} {seconds[name]:8.2f} s")
        except RuntimeError as error:
            say(f"  trying {what} {name}: failed: {error}")
    if not seconds:
        raise RuntimeError(f"no setting of {what} works")
    return min(seconds, key=seconds.__getitem__), seconds


def ratio(peer: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """How many times as fast are we? Rates of ours / rates of the peer, or seconds of the peer / seconds of ours."""
    each = [theirs / mine for theirs, mine in zip(peer, ours, strict=True)]
    return {"median": statistics.median(each), "min": min(each), "max": max(each), "rounds": len(each)}


def shown(found: Mapping[str, float]) -> str:
    """A ratio in words."""
    return f"{found['median']:.2f} ({found['min']:.2f} .. {found['max']:.2f}, {found['rounds']:.0f} rounds)"


def cpu_name() -> str:
    """What the processor calls itself."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Where and with what was this measured?"""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{package: installed(package) for package in PACKAGES},
    }


def write_out(found: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    """The result on stdout: one JSON object, or the lines for a reader (which go to stderr beside JSON)."""
    for line in lines:
        print(line, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(found, indent=2))
