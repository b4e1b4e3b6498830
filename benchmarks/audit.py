"""Is reading a whole data set quick, and small in memory and on disk? Against DataTrove, and up to 1,000,000 rows.

    python benchmarks/audit.py [--quick] [--json] [--data FOLDER] [--peer-python PATH] [--skip-peer] [--skip-1m]

Chat rows are made by resampling real ones with edits. Speed: our reading pass and merge over all rows (near-duplicates,
token counts, formats) in turn with DataTrove doing the nearest to it (`audit_peer.py`), each in a fresh process and
folder, whole processes timed. Memory: the resident memory of our process and all its children, every 50 ms, over a pass
of all families that read every row. Megabytes are of 10^6 bytes. Peers live in an environment of their own: see
`make bench-env`.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import audit_peer

HERE = Path(__file__).resolve().parent
PEER_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
WORD = re.compile(r"(\w+)")
REAL = ("instruct/*.json*", "gsm8k/*.jsonl")
SPEED_FLAWS = ("format", "tokens", "duplicates")
MEMORY_FLAWS = ("format", "tokens", "duplicates", "diversity", "contamination")
GOALS = {"ratio_peer": 5.0, "peak_mb": 1500.0}
DOES = {
    "ours": "reading pass and merge of format, tokens and duplicates. Near-duplicates: 128 hashes of word trigrams, "
    "25 bands of 5, verified pairs, clusters. More than the peer: token histogram and rows that hold each token (the "
    "peer: a count of tokens), boilerplate phrases, openings, closings and skeletons, exact duplicates, a table with "
    "three columns of every row, a seeded sample",
    **audit_peer.DOES,
}


@dataclass(frozen=True)
class Plan:
    """How much is measured: rows and rounds beside the peer, rows of the two memory runs, rows of the warm-up;
    `comparing`: is the rest of the audit (yardsticks on the sample, with its embeddings) watched as well?"""

    rows_peer: int = 50_000
    rounds: int = 3
    rows_memory: tuple[int, ...] = (100_000, 1_000_000)
    warm_up: int = 200
    comparing: bool = True


QUICK = Plan(rows_peer=2000, rounds=1, rows_memory=(4000, 4000), warm_up=20, comparing=False)


def real_rows(folder: Path | None) -> tuple[list[tuple[str, str]], str]:
    """What was asked and answered in every real row at hand, and where they come from; else rows of our own grammar."""
    import data
    from pyrite.audit.rows import as_rows
    from pyrite.io import ReadOptions, open_records
    from pyrite.tasks.grammar import generate_general

    files = [path for pattern in REAL for path in sorted(folder.glob(pattern))] if folder is not None else []
    read = [row for path in files for row in as_rows(open_records(path, ReadOptions(on_bad_row="skip")))]
    found = [(row.prompt, row.answer) for row in read if row.prompt.strip() and row.answer.strip()]
    if found:
        return found, f"{len(found)} rows of {len(files)} public files, resampled and edited"
    rng = np.random.default_rng(0)
    sentences = [pair.premise for pair in generate_general(6000, seed=0)]
    for number in range(2000):
        asked = f"Write {data.FORMS[number % len(data.FORMS)]} about {data.TOPICS[number % len(data.TOPICS)]}."
        some = rng.choice(sentences, 2 + rng.geometric(0.15))
        joint = str(rng.choice([" ", "\n\n", "\n- "]))
        found.append((asked, joint.join(some.tolist())))
    return found, f"NO PUBLIC DATA: {len(found)} rows of our own grammar, resampled and edited"


class Edits:
    """Rows resampled with edits, the same in every run.

    In nine rows of ten half of the words are replaced by other words of the source (as often as they occur there), in
    the tenth one word in fifty, so that it is a near-duplicate of others. One replacement in fifty is a new word joined
    of two halves: vocabulary grows as people's does, about one word in a hundred. Numbers of two digits or more change.
    """

    CHANGED, SELDOM, NEAR, NEW = 0.5, 0.02, 0.1, 0.02

    def __init__(self, rows: Sequence[tuple[str, str]]) -> None:
        self.rows = [(WORD.split(asked), WORD.split(answered)) for asked, answered in rows]
        self.pool = [word for row in self.rows for text in row for word in text[1::2] if word.isalpha()]

    def edited(self, pieces: list[str], share: float, rng: np.random.Generator) -> str:
        """A text (separators and words by turns) with so large a share of its words replaced."""
        places = np.flatnonzero(rng.random(len(pieces) // 2) < share)
        chosen = rng.integers(len(self.pool), size=(3, len(places)))
        new = (chosen[2] < self.NEW * len(self.pool)).tolist()
        made = pieces.copy()
        for place, first, second, joined in zip((2 * places + 1).tolist(), *chosen[:2].tolist(), new, strict=True):
            old, word = made[place], self.pool[first]
            if old.isdigit():
                made[place] = str(10 ** (len(old) - 1) + first % (9 * 10 ** (len(old) - 1))) if len(old) > 1 else old
                continue
            if joined:
                other = self.pool[second]
                word = word[: len(word) // 2 + 1] + other[len(other) // 2 :]
            made[place] = word[:1].upper() + word[1:] if old[:1].isupper() else word.lower()
        return "".join(made)

    def lines(self, count: int, seed: int | Sequence[int] = 0) -> Iterator[bytes]:
        """So many rows in OpenAI's messages, a JSON line each."""
        rng = np.random.default_rng(seed)
        for at in rng.integers(len(self.rows), size=count).tolist():
            share = self.SELDOM if rng.random() < self.NEAR else self.CHANGED
            asked, answered = (self.edited(pieces, share, rng) for pieces in self.rows[at])
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            yield json.dumps({"messages": turns}, ensure_ascii=False).encode() + b"\n"


def write_rows(edits: Edits, count: int, path: Path) -> Path:
    """A file of so many rows."""
    with path.open("wb") as sink:
        sink.writelines(edits.lines(count))
    return path


# ===== OURS: the only calls of our audit ==============================================================================


def ours() -> None:
    """A fresh process of ours: `python -c "import audit; audit.ours()" JOB`. Prints what was found as a JSON object.

    JOB: `file`, `flaws`, `against`, `workers`, `store`, `comparing`. `phases` are told by the clock that the watching
    process has as well: (name, from, to).
    """
    from pyrite.audit.config import AuditConfig
    from pyrite.audit.plan import plan, selected_flaws
    from pyrite.audit.run import audit
    from pyrite.audit.runner import StepRunner
    from pyrite.steps import Store

    job = json.loads(sys.argv[1])
    config = AuditConfig(
        data=(job["file"],),
        only=tuple(job["flaws"]),
        against=tuple(job["against"]),
        workers=job["workers"],
        store=Path(job["store"]),
        quiet=True,
    )
    phases: list[tuple[str, float, float]] = []

    def phase(name: str, call: Callable[[], Any]) -> None:
        start = time.monotonic()
        call()
        phases.append((name, start, time.monotonic()))

    store = Store(Path(job["store"]))
    planned = plan(config, selected_flaws(config.only))
    streams, runner = planned.reading_steps(), StepRunner(config, store)
    phase("reading", lambda: runner.read(streams))
    phase("merging", lambda: runner.run([planned.totals]))
    if job["comparing"]:
        phase("comparing", lambda: audit(config))
    folders, whole = [store.path(step.key) for step in streams], store.path(planned.totals.key)
    data = json.loads((whole / "whole.json").read_bytes())["data"]
    told = {
        "disk_bytes": sum(json.loads((folder / "counts.json").read_bytes())["bytes"] for folder in folders),
        "parts": sum(len(list(folder.glob("part-*"))) for folder in folders),
        "merged_bytes": sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()),
        "tokens": data.get("tokens", {}).get("tokens"),
        "near_copies": data.get("duplicates", {}).get("near", {}).get("copies"),
        "seconds": sum(end - start for name, start, end in phases if name != "comparing"),
    }
    print(json.dumps(told | {"phases": phases}))


# ===== end of OURS ====================================================================================================


class Bench:
    """Fresh processes in fresh folders under `scratch`."""

    def __init__(self, scratch: Path, workers: int, peer_python: Path) -> None:
        self.scratch, self.workers, self.peer_python = scratch, workers, peer_python

    def ours(self, path: Path, flaws: Sequence[str], watch: bool = False, **more: Any) -> dict[str, Any]:
        """Our arm, perhaps watched."""
        job = {"file": str(path), "flaws": flaws, "against": [], "workers": self.workers, "comparing": False} | more
        return self.run([sys.executable, "-c", "import audit; audit.ours()"], job, "store", watch=watch)

    def peer(self, shards: Path, tokenizer: Path, *, lean: bool) -> dict[str, Any]:
        """The peer's arm."""
        job = {"shards": str(shards), "tokenizer": str(tokenizer), "workers": self.workers, "lean": lean}
        return self.run([str(self.peer_python), str(HERE / "audit_peer.py")], job, "scratch")

    def run(self, command: list[str], job: dict[str, Any], folder: str, watch: bool = False) -> dict[str, Any]:
        """What a process prints; `watched`: [(clock, bytes)], its memory and that of all its children."""
        home = Path(tempfile.mkdtemp(dir=self.scratch))
        job = {**job, folder: str(home / "work")}
        (home / "work").mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
        environment |= {"PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        try:
            with (home / "out").open("wb") as out, (home / "errors").open("wb") as errors:
                process = subprocess.Popen([*command, json.dumps(job)], stdout=out, stderr=errors, env=environment)
                seen = list(memory_of(process)) if watch else []
                process.wait()
            if process.returncode != 0:
                tail = (home / "errors").read_text(errors="replace")[-3000:]
                raise SystemExit(f"{command[:2]} stopped with {process.returncode}:\n{tail}")
            told: dict[str, Any] = json.loads((home / "out").read_bytes().splitlines()[-1])
            return told | {"watched": seen}
        finally:
            shutil.rmtree(home)


def memory_of(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, int]]:
    """The resident memory of a process and all its children until it ends; pages that they share count in each."""
    import psutil

    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        with suppress(psutil.NoSuchProcess):
            for one in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    total += one.memory_info().rss
        yield time.monotonic(), total
        time.sleep(0.05)


def against_peer(bench: Bench, edits: Edits, plan: Plan) -> dict[str, Any]:
    """Rows per second of ours and of both settings of the peer, in turn, and their ratios."""
    import data
    import timing
    from pyrite.models.packaged import folder_of

    tokenizer = folder_of(data.MODEL) / "tokenizer.json"
    arms = []
    for name, count in (("warm-up", plan.warm_up), ("speed", plan.rows_peer)):
        path = write_rows(edits, count, bench.scratch / f"{name}.jsonl")
        shards = audit_peer.shards_of(path, bench.workers)
        arms.append(
            {
                "ours": partial(bench.ours, path, SPEED_FLAWS),
                "peer": partial(bench.peer, shards, tokenizer, lean=False),
                "peer_lean": partial(bench.peer, shards, tokenizer, lean=True),
            }
        )
    timed = timing.alternate(arms[1], rounds=plan.rounds, warm_up=arms[0])
    last = {name: arm.last for name, arm in timed.items()}
    work = {name: [one["seconds"] for one in arm.results] for name, arm in timed.items()}
    return {
        "rows": plan.rows_peer,
        "bytes": path.stat().st_size,
        "parts": last["ours"]["parts"],
        "does": DOES,
        "ratio": {name: timing.ratio(timed[name].seconds, timed["ours"].seconds) for name in ("peer", "peer_lean")},
        "ratio_of_work": {name: timing.ratio(work[name], work["ours"]) for name in ("peer", "peer_lean")},
        "seconds": {name: arm.seconds for name, arm in timed.items()},
        "seconds_of_work": work,
        "rows_per_s": {name: plan.rows_peer / float(np.median(arm.seconds)) for name, arm in timed.items()},
        "phases": [{name: end - start for name, start, end in one["phases"]} for one in timed["ours"].results],
        "found": {name: {key: one[key] for key in ("tokens", "near_copies")} for name, one in last.items()},
        "packages": last["peer"]["packages"],
    }


def memory(bench: Bench, edits: Edits, against: Sequence[str], flaws: Sequence[str], plan: Plan, rows: int) -> Any:
    """Peak memory and bytes on disk of a pass over so many rows."""
    from timing import say

    say(f"memory: {rows:,} rows of {', '.join(flaws)}")
    path = write_rows(edits, rows, bench.scratch / f"memory-{rows}.jsonl")
    told = bench.ours(path, flaws, watch=True, against=list(against), comparing=plan.comparing)
    size = path.stat().st_size
    path.unlink()
    peaks = {
        name: max((held for clock, held in told["watched"] if start <= clock <= end), default=0) / 1e6
        for name, start, end in told["phases"]
    }
    return {
        "rows": rows,
        "bytes": size,
        "flaws": list(flaws),
        "parts": told["parts"],
        "peak_mb": max(peaks["reading"], peaks["merging"]),
        "peak_mb_by_phase": peaks,
        "disk_mb": told["disk_bytes"] / 1e6,
        "merged_mb": told["merged_bytes"] / 1e6,
        "seconds": {name: end - start for name, start, end in told["phases"]},
    }


def evaluation_set(folder: Path | None, scratch: Path) -> tuple[str, str]:
    """IFEval's prompts as `--against`, and in words; without them, a file of prompts of our own."""
    import data

    if folder is not None and (folder / data.IFEVAL).is_file():
        return f"ifeval={folder / data.IFEVAL}", "IFEval prompts"
    texts, source = data.ifeval_prompts(None, 500)
    made = scratch / "prompts.jsonl"
    made.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return f"prompts={made}", source


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    import timing

    lines = [f"audit: {found['data']}; {found['machine']['cpu']}, {found['workers']} cores and workers"]
    part = found["speed"]
    if part is not None:
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in part["rows_per_s"].items())
        lines.append(f"{part['rows']:,} rows ({part['bytes'] / 1e6:.0f} MB), rows/s: {rates}")
        for name, ratio in part["ratio"].items():
            lines.append(
                f"ours / {name:<10} {timing.shown(ratio)}; without start and imports "
                f"{timing.shown(part['ratio_of_work'][name])} (goal for peer: {GOALS['ratio_peer']:.0f})"
            )
        lines += [f"{name}: {text}" for name, text in DOES.items()]
        lines += [f"{name} found {one}" for name, one in part["found"].items()]
    for one in found["memory"]:
        peaks = ", ".join(f"{name} {peak:,.0f}" for name, peak in one["peak_mb_by_phase"].items())
        seconds = sum(one["seconds"][name] for name in ("reading", "merging"))
        lines.append(
            f"{one['rows']:,} rows ({one['bytes'] / 1e6:,.0f} MB, {one['parts']} part(s), {', '.join(one['flaws'])}): "
            f"peak {one['peak_mb']:,.0f} MB ({peaks}; goal {GOALS['peak_mb']:,.0f}), store {one['disk_mb']:,.0f} MB, "
            f"merged {one['merged_mb']:,.0f} MB, {one['rows'] / seconds:,.0f} rows/s"
        )
    return lines


def only_cores(count: int) -> None:
    """Keep this process and all that it starts to so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def parsed() -> argparse.Namespace:
    """The command line."""
    import timing

    parser = timing.parser(__doc__, quick="few rows: under a minute")
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON, help="a Python that has DataTrove")
    parser.add_argument("--skip-peer", action="store_true", help="memory and disk only: ratio_peer is null")
    parser.add_argument("--skip-1m", action="store_true", help="the smaller memory run only: the keys of 1m are null")
    parser.add_argument("--rows-peer", type=int, help="rows beside the peer")
    parser.add_argument("--rows-memory", type=int, nargs=2, help="rows of the two memory runs (keys 100k and 1m)")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    parser.add_argument("--workers", type=int, default=2, help="processes, and cores, of every arm")
    parser.add_argument("--flaws", nargs="+", default=MEMORY_FLAWS, help="families of the memory runs")
    parser.add_argument("--scratch", type=Path, help="folder for rows and stores: 3 GB for 1,000,000 rows")
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print."""
    given = parsed()
    import data
    import timing

    plan = QUICK if given.quick else Plan()
    changed = {"rows_peer": given.rows_peer, "rounds": given.rounds, "rows_memory": given.rows_memory}
    plan = replace(plan, **{name: value for name, value in changed.items() if value})
    if not given.skip_peer and not given.peer_python.exists():
        raise SystemExit(f"there is no {given.peer_python}: run `make bench-env`, or give --peer-python or --skip-peer")
    folder = data.data_folder(given.data)
    only_cores(given.workers)
    machine = timing.machine()
    rows, source = real_rows(folder)
    timing.say(source)
    edits = Edits(rows)
    if given.scratch is not None:
        given.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        bench = Bench(Path(scratch), given.workers, given.peer_python)
        speed = None if given.skip_peer else against_peer(bench, edits, plan)
        against, prompts = evaluation_set(folder, bench.scratch)
        named = [against] if "contamination" in given.flaws else []
        sizes = plan.rows_memory[:1] if given.skip_1m else plan.rows_memory
        told = {size: memory(bench, edits, named, given.flaws, plan, size) for size in dict.fromkeys(sizes)}
    last = None if given.skip_1m else told[plan.rows_memory[1]]
    ratios = {name: part["median"] for name, part in speed["ratio"].items()} if speed else {}
    found = {
        "ratio_peer": ratios.get("peer"),
        "ratio_peer_lean": ratios.get("peer_lean"),
        "peak_mb_100k": told[plan.rows_memory[0]]["peak_mb"],
        "peak_mb_1m": last["peak_mb"] if last else None,
        "disk_mb_1m": last["disk_mb"] if last else None,
        "quick": given.quick,
        "plan": asdict(plan),
        "data": f"{source}; against {prompts}",
        "workers": given.workers,
        "machine": machine,
        "goals": GOALS,
        "speed": speed,
        "memory": list(told.values()),
    }
    timing.write_out(found, summary(found), as_json=given.json)


if __name__ == "__main__":
    main()
