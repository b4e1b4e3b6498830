"""How fast is Pyrite on this machine? One table of ratios: int8, llama.cpp, plain transformers, lm-eval, `generate`.

    python benchmarks/table.py [--full]        (make bench)

Runs the other benchmarks one after the other, each in a process of its own, with `--quick --json` unless `--full`, and
prints every `ratio_…` with its goal. What is not installed here, or not possible on this processor, is named.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOALS = {"ratio_int8": 1.5, "ratio_llama_cpp": 1.5}
PEERS = Path(".venv-bench/bin/python")
"""Peers live in an environment of their own (make bench-env)."""
BENCHMARKS = {"int8.py": False, "llama_cpp.py": True, "score.py": False, "generate.py": False}
"""Which run, and whether in the environment of the peers."""


def outcome(name: str, with_peers: bool, full: bool) -> dict[str, Any]:
    """What one benchmark found; `skipped` says why it found nothing."""
    python = str(PEERS) if with_peers else sys.executable
    if with_peers and not PEERS.exists():
        return {"skipped": "there is no .venv-bench here: make bench-env"}
    command = [python, str(HERE / name), "--json", *([] if full else ["--quick"])]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        return {"skipped": f"it ended with code {finished.returncode}, see above"}
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole benchmarks, about an hour, instead of --quick")
    given = parser.parse_args()
    results = {name: outcome(name, with_peers, given.full) for name, with_peers in BENCHMARKS.items()}
    machines = [found["machine"] for found in results.values() if "machine" in found]
    if machines:
        load = "/".join(f"{value:.1f}" for value in machines[0]["load_before"] or ())
        print(f"{machines[0]['cpu']}, {machines[0]['threads']} threads, load before {load}")
    print(f"{'ratio':<40} {'ours / theirs':>13}   goal")
    for name, found in results.items():
        if "skipped" in found:
            print(f"{name:<40} skipped: {found['skipped']}")
        for key, value in found.items():
            if key.startswith("ratio_"):
                print(f"{key:<40} {value:>13.2f}   {GOALS.get(key, '')}")


if __name__ == "__main__":
    main()
