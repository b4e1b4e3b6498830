"""The pages of both sorts of studies: every number is the run's, seeds are visible, doubt is said."""

import json
import shutil
from pathlib import Path

import polars
import pytest
from tests.report.run_kit import PLANTED, blocks, cells, language_run, page, strings, study_made

from pyrite.errors import UserError
from pyrite.report import tables
from pyrite.report.html import render
from pyrite.report.page import Figure, Rows
from pyrite.runs import Run, read_run
from pyrite.study.load import parse_spec
from pyrite.study.looks import remarks
from pyrite.study.run_folder import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_made(tmp_path_factory.mktemp("studies") / "tiny")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return language_run(tmp_path_factory.mktemp("words") / "words")


def run_of(study: Study) -> Run:
    return read_run(study.folder)


def test_the_verdict_comes_first_with_its_interval(study: Study) -> None:
    made, one = page(run_of(study)), study.run["primary"][0]
    (verdict,) = made.verdicts
    assert verdict.label == one["verdict"] == "worse"
    assert verdict.tone == "bad"
    low, high = (100 * one["difference"][end] for end in ("low", "high"))
    told = f"{100 * one['difference']['value']:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}; 3 training seeds"
    assert told in verdict.sentence
    assert "synthetic, against those trained on human, on voices (guest)" in verdict.sentence
    assert one["sentence"] in strings(blocks(made, "study-primary"))


def test_the_table_sets_arms_against_start_and_human_arm_seed_by_seed(study: Study) -> None:
    general, voices = blocks(page(run_of(study)), "study-table")
    assert "voices (guest)" in voices.caption
    row = next(
        one
        for one in study.summary
        if (one["probe"], one["arm"], one["name"], one["gold"]) == ("voices", "synthetic", "guest", None)
    )
    line = next(one for one in cells(voices) if one[1] == "synthetic")
    assert line[2] == "16"
    assert line[3] == f"{100 * row['mean']:.1f} % [{100 * row['low']:.1f} to {100 * row['high']:.1f}]"
    assert (
        line[5]
        == f"{100 * row['minus_human']:+.1f} [{100 * row['minus_human_low']:+.1f} to {100 * row['minus_human_high']:+.1f}]"
    )
    assert line[6] == " ".join(f"{100 * float(one):.0f}" for one in row["per_seed"].split())
    assert cells(general)[0][4:6] == ["–", "–"]  # the start is compared with nothing
    (slices,) = blocks(page(run_of(study)), "study-slices")
    assert isinstance(slices, Rows)
    assert len(slices.rows) == len(study.summary)


def test_the_panels_are_drawn_from_the_stored_numbers(study: Study) -> None:
    (drawn,) = blocks(page(run_of(study)), "study-panels")
    assert isinstance(drawn, Figure)
    assert "var(--c2)" in drawn.svg
    assert drawn.alt.strip() == (study.folder / "figure.txt").read_text().strip()
    assert "mean over 3 seeds" in drawn.caption
    chart = tables.figure(run_of(study)).to_dict()
    seeds = [row for row in chart["datasets"]["seeds"] if row["panel"] == "general" and row["arm"] == "human"]
    assert {row["seed"] for row in seeds} == {0, 1, 2}
    assert chart == study.figure().to_dict()


def test_data_counts_quality_overlap_and_looks_are_told(study: Study) -> None:
    made = page(run_of(study))
    counts, quality, shared = blocks(made, "study-data")
    assert cells(counts) == [["made", "54", "52", "2 cut at the token limit", "52 positive"]]
    assert cells(quality)[0][:3] == ["made", "62.5% of 52", "87.5% of 30"]
    assert cells(shared) == [["start trained", "probe voices", "20", "40", "3"]]
    looks = blocks(made, "study-ran")[1]
    assert cells(looks) == [["2026-01-02 03:04:05", "3", "nothing", "cdcdcdcdcdcd"]]
    assert "A note." in blocks(made, "study-unsaid")[0].lines


@pytest.mark.parametrize("about", ["labels", "language"])
def test_what_was_changed_after_results_were_seen_is_on_the_page(about: str, tmp_path: Path) -> None:
    folder = study_made(tmp_path / "run").folder if about == "labels" else language_run(tmp_path / "run").folder
    told = json.loads((folder / "run.json").read_text())
    told["looks"] += [
        {
            "seeds": [0, 1],
            "asked": "ab" * 20,
            "question": "ef" * 20,
            "at": "2026-01-03 00:00:00",
            "changed": ["margin: 0.03 → 0.05"],
        }
    ]
    told["notes"] = remarks(told["looks"])
    (folder / "run.json").write_text(json.dumps(told))
    made = page(read_run(folder))
    table = blocks(made, "study-ran")[1]
    assert cells(table)[1] == ["2026-01-03 00:00:00", "0, 1", "margin: 0.03 → 0.05", "efefefefefef"]
    assert "The question was changed after results were seen." in table.note
    (note,) = (line for line in blocks(made, "study-unsaid")[0].lines if "margin: 0.03" in line)
    assert note.startswith(
        "The question was changed after results were seen: margin: 0.03 → 0.05 (on 2026-01-03, after 1 look)"
    )


def test_the_study_file_on_the_page_makes_the_same_study(study: Study, words: Run) -> None:
    text = blocks(page(run_of(study)), "study-again")[-1].lines[0]
    assert parse_spec(text, "again.yaml") == study.spec
    text = blocks(page(words), "study-again")[-1].lines[0]
    assert parse_spec(text, "again.yaml").model_dump(mode="json") == words.record.as_json()["spec"]


def test_one_seed_gives_no_interval_and_the_page_says_why(tmp_path: Path) -> None:
    one = study_made(tmp_path / "tiny", seeds=(0,))
    made = page(run_of(one))
    assert "no interval" in made.verdicts[0].sentence
    assert made.verdicts[0].tone == "unsure"
    assert "(no interval: one seed)" in cells(blocks(made, "study-table")[0])[1][3]
    assert one.table()["low"].null_count() == one.table().height


def test_absent_panels_leave_a_line_and_the_rest_of_the_page(study: Study, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(study.folder, tmp_path / "old")
    (folder / "results" / "panels.parquet").unlink()
    made = page(read_run(folder))
    assert "panels.parquet" in blocks(made, "study-panels")[0].lines[0]
    assert tables.figures(read_run(folder)) == {}
    assert render(made)


def test_no_rows_changes_nothing_that_is_a_number(study: Study, words: Run) -> None:
    for run in (run_of(study), words):
        assert page(run, no_rows=True).sections == page(run).sections
        assert not [text for text in strings(page(run)) if PLANTED in text]


def test_a_study_is_a_table(study: Study) -> None:
    table = study.table()
    assert isinstance(table, polars.DataFrame)
    assert table.equals(tables.table(run_of(study)))
    row = table.filter((polars.col("probe") == "voices") & (polars.col("arm") == "synthetic")).row(0, named=True)
    assert row["against_human_arm"] == pytest.approx(study.run["primary"][0]["difference"]["value"])
    assert len(row["per_seed"]) == 3
    assert study.table(slices=True).height == len(study.summary)


def test_a_language_study_tells_cells_contrasts_and_costs(words: Run) -> None:
    made, one = page(words), words.record.as_json()["primary"][0]
    assert "damaged against start on ifeval.prompt_strict" in made.verdicts[0].sentence
    contrast = cells(blocks(made, "study-primary")[0])[0]
    items = one["over_items"]
    assert contrast[3] == f"{100 * items['value']:+.1f} [{100 * items['low']:+.1f} to {100 * items['high']:+.1f}]"
    assert contrast[4].count("seed ") == 2
    ifeval, gain = blocks(made, "study-cells")
    assert ifeval.caption == "ifeval.prompt_strict (higher is better)"
    assert [row[0] for row in cells(ifeval)] == ["start", "damaged"]
    assert cells(ifeval)[1][4] == "45.0 55.0"
    assert gain.caption == "gain.nats_per_token (lower is better)"
    cost = cells(blocks(made, "study-costs")[0])[0]
    assert cost[:7] == ["damage", "damaged", "0", "train chat", "3", "1,234", "–"]
    assert cost[7] == "not counted"
    assert "ifeval: answers cut at 220 tokens (start, seed 0 and 1 more)" in strings(blocks(made, "study-data"))
    assert render(made)


@pytest.mark.parametrize("broken", ["step,cell\ndamage,damaged\n", None, "many"])
def test_a_broken_table_of_costs_is_named(words: Run, tmp_path: Path, broken: str | None) -> None:
    made = shutil.copytree(words.folder, tmp_path / "words")
    file = made / "results" / "costs.csv"
    text = file.read_text(encoding="utf-8")
    file.write_text(broken if broken and "," in broken else text.replace("1234", broken or "\xff"), encoding="latin-1")
    with pytest.raises(UserError, match=r"cannot be read[\s\S]*costs\.csv, line 2"):
        page(read_run(made))


def test_a_language_study_has_a_figure_of_every_cell(words: Run) -> None:
    (drawn,) = blocks(page(words), "study-panels")
    assert "damaged 0.500 [0.000, 1.000]" in drawn.alt
    spec = tables.figure(words).to_dict()
    assert len(spec["vconcat"]) == 2
    text = str(spec)
    assert text.count("'seed': 1") == 4  # two cells on two metrics
    table = tables.table(words)
    assert table.filter(polars.col("cell") == "damaged")["against_start"].to_list()[0] == pytest.approx(-0.275)


def test_the_language_figure_is_written_and_says_what_it_shows(words: Run, tmp_path: Path) -> None:
    from pyrite.report.tables import stored
    from pyrite.study.cells_figure import explain, write_figure

    results, summary, spec = (
        stored(words, "results.parquet"),
        stored(words, "summary.parquet"),
        words.record.as_json()["spec"],
    )
    write_figure(results, summary, spec, tmp_path)
    assert {"figure.svg", "figure.png", "figure.txt"} <= {file.name for file in tmp_path.iterdir()}
    one = [{**row, "n_seeds": 1, "low": None, "high": None} for row in summary]
    assert "no interval" in explain(one, spec)
    write_figure([], [], spec, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_panels_of_a_record_whose_probes_name_no_metrics() -> None:
    """Records of other versions are drawn, too."""
    from pyrite.study.cells_figure import headline_metrics

    spec = {"contrasts": [], "probes": {"p": {}}}
    assert headline_metrics(spec, [{"probe": "p", "metric": "m"}]) == [("p", "m")]
