"""Eight processes run the same study on one store, in a folder and on S3: the same results, and no step run twice."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "beside.py"
COUNT = 8


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_eight_studies_on_one_store(
    place: str, make_tiny_study: Callable[[Path], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    spec = make_tiny_study(tmp_path)
    store = str(tmp_path / "store") if place == "folder" else f"{request.getfixturevalue('s3_url')}/store"
    words = [sys.executable, str(PROGRAM), str(COUNT), str(tmp_path), "study", str(spec), "--data", str(tmp_path)]
    done = subprocess.run([*words, "--store", store], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    published = Counter((tmp_path / "published").read_text().splitlines())
    assert published
    assert set(published.values()) == {1}, "a step was run twice"
    results = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(COUNT)]
    for result in results[1:]:
        assert result["summary"] == results[0]["summary"]
        assert result["primary"] == results[0]["primary"]
    for number in range(1, COUNT):
        for name in ("results.csv", "summary.csv", "contrasts.csv"):
            first, other = (tmp_path / f"runs-{at}" / "tiny" / name for at in (0, number))
            assert first.exists() == other.exists()
            assert not first.exists() or first.read_bytes() == other.read_bytes()
    print(f"{place}: {len(published)} steps, each once, {COUNT} processes")
