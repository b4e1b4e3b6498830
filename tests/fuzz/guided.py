"""Bytes that a coverage-guided fuzzer thinks of, into the readers and the loaders of settings: `python -m tests.fuzz.guided -runs=N`.

Needs atheris (`pip install atheris`; Linux), whose options follow (libFuzzer's: -runs, -max_total_time, a folder of inputs). The
first byte says as what the others are read. A fault ends it, with the input in a file `crash-…`.
"""

import os
import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["pyrite", "ruamel"]):
    from tests.fuzz.__main__ import quick_folder
    from tests.fuzz.files import SUFFIXES, read_back
    from tests.fuzz.specs import LOADERS

    from pyrite.errors import UserError
    from pyrite.io import ReadOptions

KINDS = [*SUFFIXES, *LOADERS]
OPTIONS = (ReadOptions(), ReadOptions(on_bad_row="skip"), ReadOptions(columns={"prompt": "1", "answer": "2"}))


def read_one(folder: Path, data: bytes) -> None:
    """Read one input."""
    if not data:
        return
    kind, content = KINDS[data[0] % len(KINDS)], data[1:]
    path = folder / (f"a.{kind}" if kind in SUFFIXES else "file.yaml")
    path.write_bytes(content)
    if kind in SUFFIXES:
        read_back(random.Random(data[0]), path, OPTIONS[data[0] // len(KINDS) % len(OPTIONS)], folder)
        return
    try:
        LOADERS[kind](path)
    except UserError:
        return


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with quick_folder() as place:
        atheris.Setup(sys.argv, lambda data: read_one(place, data))
        atheris.Fuzz()
