"""What lm-evaluation-harness's own readers make of our scorecards."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from card_kit import HOSTILE, card, line, probe_folder, repair_folder, sliced, told_probe, write_items, write_run
from tests.gate.gate_kit import study_told

from pyrite.report.lm_eval import write_results
from pyrite.runs import read_run

STAMP = "2023-11-14T22-13-20"


@pytest.fixture(scope="module")
def theirs() -> Any:
    """lm-evaluation-harness's utilities; it prints on import."""
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
        import lm_eval.utils
    return lm_eval.utils


def read(files: list[Path], start: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in files if file.name.startswith(start)]


def test_their_readers_find_and_show_what_was_measured(theirs: Any, tmp_path: Path) -> None:
    files = write_results([read_run(probe_folder(tmp_path / "run"))], tmp_path / "out")
    names = [str(file) for file in files]
    (results,) = theirs.get_results_filenames(names)
    (samples,) = theirs.get_sample_results_filenames(names)
    assert theirs.get_file_task_name(Path(samples).name) == "pyrite_heuristics"
    assert theirs.get_file_datetime(Path(samples).name) == STAMP
    assert theirs.get_latest_filename(names) in names
    told = json.loads(Path(results).read_text())
    assert Path(results).parent.name == theirs.sanitize_model_name(told["model_name"]) == "mine"
    table = theirs.make_table(told)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert ["heuristics", "0.1.0", "none", "0", "acc", "↑", "0.750", "±", "0.1276"] in rows
    assert ["- gold, non-entailment", "0.1.0", "none", "", "acc", "↑", "0.125", "±", "0.1276"] in rows
    assert ["", "", "none", "0", "accuracy_2way", "↑", "1.000", "±", "N/A"] in rows
    assert not any("lexical_overlap" in row[0] for row in rows)  # asked, and answered by nobody


def test_an_interval_becomes_a_standard_error_and_none_becomes_none(tmp_path: Path) -> None:
    (told,) = read(write_results([read_run(probe_folder(tmp_path / "run"))], tmp_path / "out"), "results_")
    whole = told["results"]["pyrite_heuristics"]
    assert whole["acc_stderr,none"] == pytest.approx(0.25 / 1.959964)  # the longer arm, 0.5 to 0.75
    assert whole["accuracy_2way_stderr,none"] == "N/A"
    unanswered = told["results"]["pyrite_heuristics_heuristic_lexical_overlap_entailment"]
    assert [key for key in unanswered if "," in key] == []
    exact = told["pyrite"]["intervals"]
    assert exact["pyrite_heuristics"]["acc,none"] == {
        "value": 0.75, "low": 0.5, "high": 0.875, "n": 40, "n_missing": 0, "method": "Wilson"
    }  # fmt: skip
    assert exact["pyrite_heuristics_heuristic_lexical_overlap_entailment"]["acc,none"]["value"] is None
    assert told["n-samples"]["pyrite_heuristics"] == {"original": 40, "effective": 40}
    assert told["higher_is_better"]["pyrite_heuristics"] == {"acc": True, "accuracy_2way": True}
    assert told["group_subtasks"]["pyrite_heuristics"] == [
        "pyrite_heuristics_gold_non_entailment", "pyrite_heuristics_heuristic_lexical_overlap_entailment"
    ]  # fmt: skip
    assert "/home/me" not in json.dumps(told)


def test_samples_have_their_shape_and_their_hashes(theirs: Any, tmp_path: Path) -> None:
    from lm_eval.result_schema import SampleResult

    files = write_results([read_run(probe_folder(tmp_path / "run"))], tmp_path / "out")
    (file,) = [file for file in files if file.name.startswith("samples_")]
    lines = [json.loads(one) for one in file.read_text().split("\n")[:-1]]
    assert all(set(SampleResult.__annotations__) <= set(one) for one in lines)
    assert [one["doc_id"] for one in lines] == [0, 1, 2]
    assert [(one.get("acc"), one["metrics"]) for one in lines] == [(1.0, ["acc"]), (0.0, ["acc"]), (None, [])]
    assert lines[1]["arguments"] == {"gen_args_0": {"arg_0": HOSTILE}}
    assert (lines[1]["target"], lines[1]["filtered_resps"]) == ("entailment", ["non-entailment"])
    assert lines[1]["prompt_hash"] == theirs.hash_string(HOSTILE)
    (told,) = read(files, "results_")
    joined = "".join(one["doc_hash"] + one["prompt_hash"] + one["target_hash"] for one in lines)
    assert told["task_hashes"] == {"pyrite_heuristics": theirs.hash_string(joined)}


def test_the_harness_keeps_its_own_names(theirs: Any, tmp_path: Path) -> None:
    theirs_card = card("org/name", "harness:gsm8k", metric="exact_match,strict-match", overall=line(0.5, 0.25, 0.75))
    flexible = {"by": "overall", "name": "overall", "gold": None, **line(0.625, 0.5, 0.75)}
    theirs_card["slices"] = [{"metric": "exact_match,flexible-extract", **flexible}]
    lower = card("org/name", "perplexity", metric="nats_per_token", overall=line(5.5, 5.0, 6.0, direction="lower"))
    folder = write_run(tmp_path / "run", told_probe("org/name", cards=[theirs_card, lower]))
    files = write_results([read_run(folder)], tmp_path / "out")
    assert [file.name for file in files] == [f"results_{STAMP}.json"]  # no items were kept: no samples
    assert files[0].parent.name == "org__name"
    (told,) = read(files, "results_")
    assert told["results"]["gsm8k"]["exact_match,strict-match"] == 0.5
    assert told["results"]["gsm8k"]["exact_match,flexible-extract"] == 0.625
    assert told["higher_is_better"]["pyrite_perplexity"] == {"nats_per_token": False}
    assert told["n-shot"] == {"pyrite_perplexity": 0}  # how many the harness showed is not known here
    assert "strict-match" in theirs.make_table(told)


def test_repairs_and_loops_and_two_runs_of_one_model(tmp_path: Path) -> None:
    loop = write_run(tmp_path / "loop", {"verb": "loop", "loop": "l", "parts": {"probe": "probe", "repair": "repair"}})
    probe_folder(loop / "probe")
    repair_folder(loop / "repair")
    again = probe_folder(tmp_path / "again")
    files = write_results([read_run(loop), read_run(again)], tmp_path / "out")
    places = [str(file.relative_to(tmp_path / "out")) for file in files if file.name.startswith("results_")]
    assert places == [
        f"mine/results_{STAMP}.json",
        *(f"org__name@main-{name}/results_{STAMP}.json" for name in ("before", "repaired", "nf4")),
        f"mine/results_{STAMP}.000001.json",
    ]
    assert len(set(files)) == len(files) == 10
    repaired = next(file for file in files if "repaired/results" in str(file))
    assert json.loads(repaired.read_text())["results"]["pyrite_heuristics"]["acc,none"] == 0.875


def test_the_same_run_gives_the_same_bytes_and_rows_can_stay_private(tmp_path: Path) -> None:
    run = read_run(probe_folder(tmp_path / "run"))
    first = {file.name: file.read_bytes() for file in write_results([run], tmp_path / "one")}
    second = {file.name: file.read_bytes() for file in write_results([run], tmp_path / "two")}
    assert first == second
    files = write_results([run], tmp_path / "private", no_rows=True)
    assert [file.name for file in files] == [f"results_{STAMP}.json"]
    assert "script" not in files[0].read_text()


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    for name in ("../../evil", "..", "a/../../b\x00", "/"):
        folder = write_run(tmp_path / "run", told_probe(name, cards=[card(name, f"../{name}/x")]))
        for file in write_results([read_run(folder)], tmp_path / "out" / "deep"):
            assert (tmp_path / "out" / "deep").resolve() in file.resolve().parents
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


def test_runs_without_scorecards_write_nothing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", study_told())
    assert write_results([read_run(folder)], tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_names_that_become_the_same_word_are_numbered(tmp_path: Path) -> None:
    """Else the second task would stand in the place of the first, and so would its samples."""
    cards = [card("m", "my-task", overall=line(0.25, 0.0, 0.5)), card("m", "my_task", overall=line(0.75, 0.5, 1.0))]
    cards[0]["slices"] = [sliced("gold", "a-b", None, 0.25), sliced("gold", "a_b", None, 0.5)]
    folder = write_run(tmp_path / "run", told_probe("m", cards=cards))
    write_items(folder, {"m": [1.0]}, "my-task", ["first"])
    first = pl.read_parquet(folder / "results" / "items.parquet")
    second = first.with_columns(pl.lit("my_task").alias("task"))
    pl.concat([first, second]).write_parquet(folder / "results" / "items.parquet")
    files = write_results([read_run(folder)], tmp_path / "out")
    (told,) = read(files, "results_")
    values = {name: one["acc,none"] for name, one in told["results"].items()}
    assert values == {
        "pyrite_my_task": 0.25, "pyrite_my_task_2": 0.75, "pyrite_my_task_gold_a_b": 0.25, "pyrite_my_task_gold_a_b_2": 0.5
    }  # fmt: skip
    assert told["results"]["pyrite_my_task_2"]["alias"] == "my_task"
    assert set(told["configs"]) == set(told["task_hashes"]) == {"pyrite_my_task", "pyrite_my_task_2"}
    assert [file.name.partition("_20")[0] for file in files[1:]] == [
        "samples_pyrite_my_task",
        "samples_pyrite_my_task_2",
    ]


def test_models_of_one_name_have_a_folder_each(tmp_path: Path) -> None:
    """In one run, and in two of which each calls its own model the same."""
    both = read_run(probe_folder(tmp_path / "both", "/one/a", "/two/a"))
    files = write_results([both], tmp_path / "out")
    assert {file.parent.name for file in files} == {"a (1)", "a (2)"}
    assert len(set(files)) == len(files) == 4
    assert [len(file.read_text().splitlines()) for file in files if file.name.startswith("samples_")] == [3, 3]
    before = read_run(probe_folder(tmp_path / "x", "a", settings={"model": "/one/a"}))
    after = read_run(probe_folder(tmp_path / "y", "a", settings={"model": "/two/a"}))
    again = read_run(probe_folder(tmp_path / "z", "a", settings={"model": "/one/a"}))
    files = write_results([before, after, again], tmp_path / "three")
    places = [str(file.relative_to(tmp_path / "three")) for file in files if file.name.startswith("results_")]
    assert places == [
        f"a (1)/results_{STAMP}.json",
        f"a (2)/results_{STAMP}.json",
        f"a (1)/results_{STAMP}.000001.json",
    ]
