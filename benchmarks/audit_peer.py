"""The peer's arm of `benchmarks/audit.py`: DataTrove counts tokens, takes statistics and finds near-duplicates.

    PEER_PYTHON benchmarks/audit_peer.py JOB        JOB: a JSON object, see `main`

Runs under a Python that has DataTrove and need not have Pyrite. One pass reads each row once: tokens and statistics of
the answer, MinHash signatures of the whole row, which is what our families look at; then buckets, then clusters.
DataTrove's own defaults, but for what makes it quicker without changing what it finds: `fork` in place of `forkserver`,
files read whole in place of five lines at a time, no log lines.
"""

import itertools
import json
import struct
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOES = {
    "peer": "DataTrove: TokensCounter with the same tokenizer.json, DocStats (summary, histogram; it tells the shares "
    "of six kinds of characters as well, which ours does not), MinHash dedup: 112 hashes of word 5-grams, 14 "
    "buckets of 8, clusters; words by spaCy's blank English tokenizer, its default, which needs no download",
    "peer_lean": "the same with words split at white space and token lengths (LengthCounter) in place of DocStats: the "
    "least that can be called the same work",
}


def shards_of(path: Path, count: int) -> Path:
    """The same rows in so many files, dealt out in turn: DataTrove divides its work by files."""
    folder = path.with_suffix(".shards")
    folder.mkdir()
    with path.open("rb") as source:
        sinks = [(folder / f"{number}.jsonl").open("wb") for number in range(count)]
        for line, sink in zip(source, itertools.cycle(sinks), strict=False):
            sink.write(line)
        for sink in sinks:
            sink.close()
    return folder


def xxhash64(text: str) -> int:
    """What DataTrove's hash is: xxhash 4 no longer takes text, which DataTrove 0.10.1 gives it."""
    from xxhash import xxh64_intdigest

    return xxh64_intdigest(text.encode())


class Split:
    """Words by white space: what is left to do once DataTrove has turned punctuation into spaces."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return text.split()


def as_document(reader: Any, row: dict[str, Any], path: str, number: int) -> dict[str, Any]:
    """A chat row as the reader's document: the answer, with the whole row beside it."""
    asked, answered = (turn["content"] for turn in row["messages"])
    return {"text": answered, "id": f"{path}/{number}", "metadata": {"whole": f"{asked}\n{answered}"}}


def to_whole_rows(documents: Any, rank: int = 0, world_size: int = 1) -> Any:
    """From here on a document's text is the whole row."""
    for document in documents:
        document.text = document.metadata.pop("whole")
        yield document


def steps(job: dict[str, Any], folder: Path) -> list[tuple[list[Any], int]]:
    """The three pipelines, each with its number of tasks."""
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.stats import DocStats
    from datatrove.pipeline.tokens.counter import LengthCounter, TokensCounter

    config = MinhashConfig()
    signature = MinhashDedupSignature(str(folder / "signatures"), config)
    if int(version("xxhash").partition(".")[0]) >= 4:
        signature._hash_func = xxhash64
    statistics: Any = DocStats(str(folder / "statistics"), groups_to_compute=["summary", "histogram"])
    if job["lean"]:
        signature.word_tokenizer, statistics = Split(), LengthCounter()
    reader = JsonlReader(job["shards"], adapter=as_document)
    tokens = TokensCounter(job["tokenizer"])
    pairs, removed = str(folder / "pairs"), str(folder / "removed")
    return [
        ([reader, tokens, statistics, to_whole_rows, signature], job["workers"]),
        ([MinhashDedupBuckets(signature.output_folder, pairs, config=config, lines_to_buffer=-1)], config.num_buckets),
        ([MinhashDedupCluster(pairs, removed, config, lines_to_buffer=-1)], 1),
    ]


def total_of(found: Any) -> float:
    """The sum that a statistic holds, at hand or read from a log."""
    if isinstance(found, dict):
        return float(found["total"])
    return float(getattr(found, "total", found))


def run_here(pipeline: list[Any], tasks: int, workers: int, logs: Path) -> Any:
    """A pipeline in processes of this machine; its statistics."""
    from datatrove.executor import LocalPipelineExecutor

    executor = LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=str(logs), start_method="fork")
    return executor.run().stats


def on_ray(cpus: int) -> Any:
    """What runs a pipeline as tasks of a cluster of this machine, which is up; its statistics are read from its logs."""
    import ray
    from datatrove.executor import RayPipelineExecutor
    from datatrove.utils.stats import PipelineStats

    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def run(pipeline: list[Any], tasks: int, workers: int, logs: Path) -> Any:
        RayPipelineExecutor(
            pipeline, tasks=tasks, workers=workers, logging_dir=str(logs), mem_per_cpu_gb=0.5, cpus_per_task=1
        ).run()
        return PipelineStats.from_json(json.loads((logs / "stats.json").read_text())).stats

    return run


def main() -> None:
    """JOB: `shards` (folder of a jsonl file for each worker), `scratch` (an empty folder), `tokenizer` (its
    `tokenizer.json`), `workers`, `lean` (words by white space and token lengths only, the least that can be called the
    same work), `executor` (`local`, or `ray`: a cluster of this machine with `workers` CPUs, up before the clock starts).
    Prints what was found, as one JSON object."""
    from datatrove.executor import base as executors
    from datatrove.utils.logging import logger

    logger.remove()
    executors.add_task_logger, executors.close_task_logger = lambda *_, **__: None, lambda *_: None
    job = json.loads(sys.argv[1])
    folder = Path(job["scratch"])
    totals: dict[str, Any] = {}
    run = on_ray(job["workers"]) if job.get("executor") == "ray" else run_here
    started = time.perf_counter()
    for number, (pipeline, tasks) in enumerate(steps(job, folder)):
        for one in run(pipeline, tasks, min(tasks, job["workers"]), folder / f"logs-{number}"):
            totals |= {name: total_of(found) for name, found in one.stats.items() if isinstance(name, str)}
    removed = sum(path.stat().st_size // struct.calcsize("<I") for path in (folder / "removed").glob("*.remove"))
    told = {
        "rows": totals["total"],
        "tokens": totals["tokens"],
        "near_copies": removed,
        "seconds": time.perf_counter() - started,
    }
    versions = {name: version(name) for name in ("datatrove", "tokenizers", "spacy", "numpy", "xxhash")}
    print(json.dumps(told | {"packages": versions}))


if __name__ == "__main__":
    main()
