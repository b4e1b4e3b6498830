"""Run folders of schema version 1, made by the verbs on tiny models: they are read, reported and gated as long as that
version is read. (Folders of the machine that made them stand as /data in the files.)"""

import json
import shutil
from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.gate.config import GateConfig
from pyrite.gate.run import gate
from pyrite.report.config import ReportConfig
from pyrite.report.parts.study import quality_table
from pyrite.report.run import report
from pyrite.runs import FILES, read_run
from pyrite.runs.study import SourceQuality
from pyrite.runs.write import write_record
from pyrite.study.run_folder import read_pilot

RECORDS = Path(__file__).parent / "records"
RUNS = {
    "loop": ("loop", (), ["failed", "passed"]),
    "loop/audit": ("audit", (), ["failed"]),
    "loop/probe": ("probe", ("perplexity.nats_per_token <= 1",), ["failed"]),
    "loop/repair": ("repair", (), ["passed"]),
    "probe": ("probe", (), ["passed"]),
    "study": ("study", ("verdict != worse", "synthetic - human on voices >= -2%"), ["undecided", "undecided"]),
    "language": ("study", ("verdict != worse", "primary >= -0.9"), ["undecided", "failed"]),
    "merge": ("repair", ("change replay.nats_per_token <= 5",), ["passed"]),
}
"""For each folder: its verb, conditions (none: those that it was made with), and how they come out."""


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_read_reported_and_gated(name: str, tmp_path: Path) -> None:
    verb, conditions, outcomes = RUNS[name]
    folder = RECORDS / name
    run = read_run(folder)
    assert run.verb == verb
    made = report(ReportConfig(runs=(str(folder),), out=tmp_path / "page.html", cards=tmp_path, lm_eval=tmp_path))
    page = made.out.read_text(encoding="utf-8")
    assert made.verdicts
    assert all(verdict.label in page for verdict in made.verdicts)
    assert f"from {run.folder.name}" in page
    assert list(tmp_path.glob("*/README.md"))
    gated = gate(GateConfig(run=folder, require=conditions))
    assert [outcome.outcome for outcome in gated.outcomes] == outcomes


@pytest.mark.parametrize("name", RUNS)
def test_a_record_that_is_read_and_written_is_the_same_file(name: str, tmp_path: Path) -> None:
    folder = RECORDS / name
    file = next(folder / name for name in FILES if (folder / name).is_file())
    write_record(tmp_path / file.name, read_run(folder).record)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["loop/probe", "loop/repair", "probe", "merge"])
def test_clusters_are_read_under_their_older_name(name: str, tmp_path: Path) -> None:
    record = read_run(RECORDS / name).record
    older = record.as_json()["alike"]
    assert record.clusters == older != {}
    newer = {("clusters" if key == "alike" else key): value for key, value in record.as_json().items()}
    again = type(record).from_json(newer)
    assert again.clusters == older
    assert again.as_json() == newer


def test_a_stored_pilot_is_read(tmp_path: Path) -> None:
    pilot, older = read_pilot(RECORDS / "pilot"), read_pilot(RECORDS / "language")
    assert pilot is not None
    assert older is not None
    assert (pilot.chosen, pilot.training_seed, len(pilot.items)) == ("hard", 100_000, 12)
    assert (older.seed, older.training_seed) == (None, 0)  # it took the study's first
    write_record(tmp_path / "pilot.json", pilot)
    assert (tmp_path / "pilot.json").read_bytes() == (RECORDS / "pilot" / "pilot.json").read_bytes()
    (tmp_path / "pilot.json").write_text('{"tried": 1}')
    with pytest.raises(UserError, match=r"pilot\.json: tried: Input should be a valid list"):
        read_pilot(tmp_path)


def test_what_readers_look_at_are_fields() -> None:
    audit, probe = read_run(RECORDS / "loop/audit").record, read_run(RECORDS / "probe").record
    finding = audit.findings[0]
    assert (finding.severity, finding.excess.low is not None and finding.excess.low > 0) == ("fail", True)
    assert (audit.rows.read, audit.rows.kept) == (240, 240)
    (comparison,) = probe.compared
    assert [line.metric for line in comparison.contrasts if line.primary]
    assert [comparison.first, comparison.second] == probe.models
    study, language = read_run(RECORDS / "study"), read_run(RECORDS / "language")
    assert (study.kind, study.record.primary[0].seeds) == ("study", 2)
    assert (language.kind, language.record.primary[0].seeds) == ("cells", [1, 2])
    merge = read_run(RECORDS / "merge").record
    assert merge.frontier.points[0].recovered.value == merge.as_json()["frontier"]["points"][0]["recovered"]["value"]
    loop = read_run(RECORDS / "loop")
    assert [part.verb for part in loop.parts.values()] == ["audit", "probe", "repair"]
    assert loop.record.gates[0].part == "audit"


def test_a_label_that_no_synthetic_row_has_is_no_mistake() -> None:
    labels = {"positive": {"n": 4, "agreement": 0.75}, "negative": {"n": 0, "agreement": None}}
    values = {"agreement": 0.75, "n": 4, "judge_accuracy_on_human": 0.9, "n_human": 10, "by_label": labels}
    (table,) = quality_table({"made": SourceQuality.from_json(values)})
    assert table.rows[0][-1] == "positive 75% of 4, negative no row"


def test_evidence_that_cannot_be_drawn_is_no_traceback(tmp_path: Path) -> None:
    run = shutil.copytree(RECORDS / "loop" / "audit", tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    shaped = [finding for finding in record["findings"] if finding["flaw"] == "format"]
    for finding in shaped:
        for values in finding["evidence"]["values"].values():
            for entry in values if isinstance(values, list) else []:
                if isinstance(entry, dict):
                    entry.pop("share", None)
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="evidence that cannot be drawn: KeyError: 'share'"):
        report(ReportConfig(runs=(str(run),), out=tmp_path / "page.html"))
