"""Rows to audit, as many as wanted: real or made-up chats, resampled and edited (`audit.py`). Nothing of them is kept here.

    python benchmarks/audit_rows.py ROWS FILE [--seed N] [--data FOLDER] [--workers N]

The same ROWS and seed give the same file, whatever the workers: every `CHUNK` rows have a seed of their own.
"""

import argparse
import functools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import audit
import data

CHUNK = 10_000


@functools.cache
def edits(folder: str | None) -> audit.Edits:
    """What rows are made from, once in every process."""
    return audit.Edits(audit.real_rows(data.data_folder(folder))[0])


def chunk_of(job: tuple[str | None, int, int, int]) -> bytes:
    """The lines of one chunk: (folder of data, seed, number of the chunk, rows)."""
    folder, seed, number, rows = job
    return b"".join(edits(folder).lines(rows, seed=[seed, number]))


def chunks(rows: int, *, seed: int = 0, folder: str | None = None, workers: int = 1) -> Iterator[bytes]:
    """The file's content, chunk by chunk."""
    jobs = [(folder, seed, at // CHUNK, min(CHUNK, rows - at)) for at in range(0, rows, CHUNK)]
    if workers == 1:
        yield from map(chunk_of, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(chunk_of, jobs)


def write(path: Path, rows: int, *, seed: int = 0, folder: str | None = None, workers: int = 1) -> Path:
    """A file of so many rows, JSON lines."""
    with path.open("wb") as sink:
        sink.writelines(chunks(rows, seed=seed, folder=folder, workers=workers))
    return path


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    write(given.file, given.rows, seed=given.seed, folder=given.data, workers=given.workers)


if __name__ == "__main__":
    main()
