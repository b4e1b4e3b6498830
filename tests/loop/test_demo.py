"""The demo: what it is made of, another draw of it, and that its parts come in the order in which they can be read."""

import json
from pathlib import Path

import pytest
import yaml

from pyrite.cli import run
from pyrite.loop.demo import demo_file
from pyrite.loop.spec import LoopSpec, bundled, load_loop
from pyrite.study.load import load_spec


def test_what_needs_nothing_of_the_study_comes_first() -> None:
    spec = load_loop("demo")
    assert spec.parts == ("audits", "study", "audit", "probe", "repair")
    assert list(spec.audits_at_once) == ["planted", "unplanted"]
    nli = load_loop("nli_demo")
    assert nli.parts == ("study", "audit", "probe", "repair")
    assert not nli.audits_at_once


def test_another_seed_draws_everything_anew(tmp_path: Path) -> None:
    assert demo_file(0, tmp_path) == bundled()["demo"]
    assert not list(tmp_path.iterdir())
    first, reseeded = load_loop("demo"), load_loop(str(demo_file(7, tmp_path)))
    assert reseeded.loop == "demo-7"
    assert reseeded.model_dump(exclude={"loop", "study", "grammars", "repair"}) == first.model_dump(
        exclude={"loop", "study", "grammars", "repair"}
    )
    assert {
        name: grammar.seed - first.grammars[name].seed for name, grammar in reseeded.grammars.items()
    } == dict.fromkeys(first.grammars, 7000)
    mine, theirs = load_spec("demo")[0], load_spec(str(reseeded.study))[0]
    assert theirs.seeds == tuple(seed + 7000 for seed in mine.seeds)
    for name, source in theirs.data.items():
        redrawn, was = (source_of.grammar or source_of.synth for source_of in (source, mine.data[name]))
        assert redrawn is not None
        assert was is not None
        assert redrawn.seed == was.seed + 7000
    varying = {"seeds", "data"}
    assert theirs.model_dump(exclude=varying) == mine.model_dump(exclude=varying)


def test_the_demo_is_planned_without_a_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["demo", "--seed", "3", "--plan", "--json", "--out", str(tmp_path), "--store", str(tmp_path / "store")]
    assert run(line) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["parts"] == ["audits", "study", "audit", "probe", "repair"]
    assert record["study"]["trainings"] == 16
    assert run(["demo", "--full", "--json"]) == 2


AUDITS = """
loop: quick
synthetic: [made.jsonl]
human: [people.jsonl]
audit: {only: [tokens]}
grammars:
  program: {name: reviews, rows: 80, seed: 1, style: program, negated: 0}
  people: {name: reviews, rows: 80, seed: 2}
audits:
  planted: {data: ["grammar:program"], reference: ["grammar:people"], only: [tokens]}
"""


def test_rows_of_a_grammar_are_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("made", 3), ("people", 4)):
        from pyrite.io import write_jsonl
        from pyrite.tasks.grammar import generate_reviews

        write_jsonl(generate_reviews(80, seed=seed), tmp_path / f"{name}.jsonl")
    (tmp_path / "quick.yaml").write_text(AUDITS)
    assert run(["run", "quick.yaml", "--json", "--store", "store"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert list(record["parts"]) == ["audit", "audit-planted"]
    rows = [json.loads(line) for line in (tmp_path / "runs/quick/rows/grammar-program.jsonl").read_text().splitlines()]
    assert len(rows) == 80
    assert all(row["fields"]["text"].startswith("Certainly!") for row in rows)
    audit = json.loads((tmp_path / "runs/quick/audit-planted/run.json").read_text())
    worst = audit["findings"][0]
    assert (worst["measure"], worst["severity"]) == ("boilerplate", "fail")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"audits": {"x": {"data": ["grammar:none"], "reference": ["b.jsonl"]}}}, "grammars names program"),
        ({"forget": "none", "model": "m", "repair": {"method": "lbf"}}, "goes with repair.method: interpolate"),
    ],
)
def test_what_does_not_go_together(change: dict[str, object], says: str) -> None:
    base = {**yaml.safe_load(AUDITS), **change}
    with pytest.raises(ValueError, match=says):
        LoopSpec.model_validate(base)
