"""A study in parts: jobs that share a store, the last of which writes the results."""

import json
from pathlib import Path

import pytest
from tests.conftest import study_line

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.steps.shard import SLURM_ARRAY, Shard, shard_of


def test_three_jobs_are_one_study(tiny_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The parts share no answer, the last one writes what the study alone would, and nothing is left to run."""
    left = []
    for number in (1, 3):
        assert run(study_line(tiny_study, "--shard", f"{number}/3", "--json")) == 0
        part = json.loads(capfd.readouterr().out)
        assert (part["study"], part["shard"]) == ("tiny", f"{number}/3")
        left.append(part["steps_left"])
    assert left[0] > left[1] > 0
    assert not (tmp_path / "runs" / "tiny" / "run.json").exists()
    assert run(study_line(tiny_study, "--shard", "2/3", "--json")) == 0
    merged = json.loads(capfd.readouterr().out)
    assert (tmp_path / "runs" / "tiny" / "run.json").is_file()
    assert run(study_line(tiny_study, "--json")) == 0
    whole = json.loads(capfd.readouterr().out)
    assert whole["run"]["timing"]["steps_run"] == 0
    assert whole["primary"] == merged["primary"]
    assert whole["summary"] == merged["summary"]


def test_parts_hold_each_target_once() -> None:
    targets = list(range(10))
    parts = [Shard(number, 4).of(targets) for number in range(1, 5)]  # type: ignore[arg-type]
    assert sorted(target for part in parts for target in part) == targets  # type: ignore[type-var]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_part_that_is_not_there(text: str) -> None:
    with pytest.raises(UserError):
        shard_of(text, {})


def array(number: int, first: int, last: int, step: int, count: int) -> dict[str, str]:
    """What Slurm sets for a job of an array."""
    return dict(zip(SLURM_ARRAY, map(str, (number, first, last, step, count)), strict=True))


def test_the_place_in_an_array() -> None:
    """The values are those that Slurm 22.05 sets for --array=0-3, 1-7:2 and 1,3,7."""
    assert shard_of("slurm", array(3, 0, 3, 1, 4)) == Shard(4, 4)
    assert [shard_of("slurm", array(at, 1, 7, 2, 4)) for at in (1, 3, 5, 7)] == [Shard(at, 4) for at in (1, 2, 3, 4)]
    for number in (1, 3, 7):
        with pytest.raises(UserError, match="not evenly numbered"):
            shard_of("slurm", array(number, 1, 7, 1, 3))
    with pytest.raises(UserError, match="no job of a Slurm array"):
        shard_of("slurm", {})
    with pytest.raises(UserError, match="no such part"):
        shard_of("slurm", array(8, 0, 3, 1, 4))
    assert shard_of(None, array(3, 0, 3, 1, 4)) is None


@pytest.mark.parametrize("flag", [["--plan"], ["--power"], ["--pilot"], ["--refresh", "data.pools"]])
def test_a_part_does_not_take_what_is_of_the_whole(
    flag: list[str], tiny_study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(study_line(tiny_study, "--shard", "1/2", *flag)) == 2
    assert f"--shard and {flag[0]}" in capfd.readouterr().err
