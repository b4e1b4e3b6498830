"""Flaws as entries: the engine names none, every entry is whole, and one from outside runs like those of Pyrite."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_kit import write
from planted import human_rows

import pyrite
from pyrite.audit.config import AuditOptions
from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws import BUILT_IN
from pyrite.audit.flaws.registry import FLAWS, full_names, plugin_settings, register_flaw, statistic_of
from pyrite.audit.next_source import source_table
from pyrite.cli import run
from pyrite.errors import UserError

AUDIT = Path(pyrite.__file__).parent / "audit"
FOR_PEOPLE = ("config.py", "embedded_texts.py")
"""The options' help and notes on what models read, which speak of tokens and perplexity."""


def bound_and_used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a module with their lines; attributes of other libraries' objects and docstrings apart."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    docs |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from ((node.lineno, word) for word in re.findall("[a-z0-9_]+", node.value))
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
            yield from ((node.lineno, name) for name in names if "models" not in (node.module or ""))


def test_the_engine_names_no_flaw() -> None:
    engine = [path for path in sorted(AUDIT.glob("*.py")) if path.name not in FOR_PEOPLE]
    known = {"plan", "compare", "run", "gather", "stream", "human_sources", "decide", "two_looks", "record"}
    assert known <= {path.stem for path in engine}
    found = [
        f"{path.name}:{line}: {name}"
        for path in engine
        for line, name in bound_and_used(ast.parse(path.read_text("utf-8")))
        if name in FLAWS
    ]
    assert found == []


def test_the_search_for_names_would_find_one() -> None:
    source = '"""tokens"""\nfrom pyrite.audit.flaws import diversity\ndef f(x):\n    "format"\n    return f"such as {x}.format"\n'
    assert [name for _, name in bound_and_used(ast.parse(source)) if name in FLAWS] == ["diversity", "format"]
    assert "tokens" in [name for _, name in bound_and_used(ast.parse('wanted = "tokens" in flaws'))]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_entry_agrees_with_itself(name: str) -> None:
    flaw = FLAWS[name]
    own = [statistic.name for statistic in flaw.statistics]
    assert flaw.name == name
    assert len(set(own)) == len(own) > 0
    assert all(statistic.full_name == f"{name}.{statistic.name}" for statistic in flaw.statistics)
    assert {*flaw.tells_sources_apart} <= {*own}
    assert flaw.tells_tasks_apart in ("", *own)
    assert (flaw.stream is None) == (flaw.merge is None)
    assert not flaw.alone_from_totals or flaw.merge
    assert {*(flaw.prior_options or ())} <= {*AuditOptions.model_fields}
    tabled = any(key.startswith(f"{name}.") for key in source_table()["measures"])
    assert tabled == (flaw.prior_options is not None)


def test_options_list_every_flaw_and_a_chart_belongs_to_one() -> None:
    assert tuple(FLAWS)[: len(BUILT_IN)] == BUILT_IN
    assert str(AuditOptions.model_fields["only"].description).endswith(", ".join(BUILT_IN))
    charts = [chart for flaw in FLAWS.values() if flaw.figure for chart in flaw.figure.charts]
    assert len(charts) == len(set(charts)) == 6
    assert statistic_of("nothing.of_it") is None
    assert all(statistic_of(name) is not None for name in full_names(BUILT_IN))


@pytest.fixture
def toy() -> Iterator[Flaw]:
    import toy_flaw

    register_flaw(toy_flaw.FLAW)
    yield toy_flaw.FLAW
    del FLAWS["toy"]


def test_a_flaw_from_outside(tmp_path: Path, toy: Flaw, capfd: pytest.CaptureFixture[str]) -> None:
    """Finding, evidence, gate, flagged rows, page; in two processes, of which the second imports the plug-in."""
    rows = human_rows(200, 1, source="made")
    loud = [replace(row, answers=(f"{row.answer}!!",)) if row.number % 2 else row for row in rows]
    data, human = write(tmp_path / "data.jsonl", loud), write(tmp_path / "human.jsonl", human_rows(200, 2))
    flagged, out = tmp_path / "flagged.jsonl", tmp_path / "out"
    config = pyrite.AuditConfig(
        data=(str(data),),
        reference=(str(human),),
        only=("toy", "format"),
        gate=("toy.share < 5%",),
        flagged=flagged,
        out=out,
        store=tmp_path / "store",
        workers=2,
        permutations=199,
        quiet=True,
    )
    audit = pyrite.audit(config)
    finding = next(finding for finding in audit.findings if finding.flaw == "toy")
    told = finding.as_json()
    assert finding.severity == "warn"  # nobody knows how far human sources lie apart in it
    assert told["value"] == pytest.approx(0.5, abs=0.02)
    assert told["evidence"]["lines"] == ["100 of 200 rows shout"]
    assert told["advice"] == "Rewrite the rows that shout."
    assert [gate["outcome"] for gate in audit.as_json()["gates"]] == ["failed"]
    assert audit.exit_code == 1
    shouting = [json.loads(line) for line in flagged.read_text().splitlines() if "toy.share" in line]
    assert {row["id"] for row in shouting} == {row.id for row in loud if row.number % 2}
    assert set(audit.table()["flaw"]) == {"format", "toy"}
    capfd.readouterr()
    assert run(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert "Do more rows shout than in the references?" in (tmp_path / "page.html").read_text()


def test_a_flaw_from_outside_reads_every_row_in_several_processes(
    tmp_path: Path, toy: Flaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reference: the share of all rows, counted by two processes that have to import the plug-in."""
    monkeypatch.setattr("pyrite.audit.spans.ALONE_BYTES", 100_000)
    monkeypatch.setattr("pyrite.audit.runner.WORTH_WORKERS", 0.0)
    rows = human_rows(2500, 1, source="made")
    loud = [replace(row, answers=(f"{row.answer}!!",)) if row.number % 10 == 0 else row for row in rows]
    data = write(tmp_path / "data.jsonl", loud)
    config = pyrite.AuditConfig(
        data=(str(data),), only=("toy",), gate=("toy.share < 5%",), store=tmp_path / "store", workers=2, quiet=True
    )
    audit = pyrite.audit(config)
    assert len(list((tmp_path / "store").rglob("rows.parquet"))) > 4  # a span each
    (finding,) = audit.as_json()["findings"]
    assert (finding["measure"], finding["severity"]) == ("share", "warn")
    assert (finding["value"], finding["n"]) == (pytest.approx(0.1), 2500)
    assert [gate["outcome"] for gate in audit.as_json()["gates"]] == ["failed"]
    fine = config.model_copy(update={"gate": ("toy.share < 20%",)})
    assert pyrite.audit(fine).exit_code == 0


def test_the_flaw_of_contributing_md_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "register_flaw" in block)
    rows = human_rows(120, 1, source="made")
    loud = [replace(row, answers=(f"{row.answer}!!",)) for row in rows]
    config = pyrite.AuditConfig(
        data=(str(write(tmp_path / "data.jsonl", loud)),),
        reference=(str(write(tmp_path / "human.jsonl", human_rows(120, 2))),),
        only=("toy",),
        store=tmp_path / "store",
        workers=1,
        permutations=99,
        quiet=True,
    )
    try:
        exec(code, {"__name__": "contributed"})
        (finding,) = pyrite.audit(config).findings
    finally:
        FLAWS.pop("toy", None)
    assert (finding.full_name, finding.severity) == ("toy.share", "warn")
    assert list(finding.as_json()["evidence"]["lines"]) == ["120 rows shout"]


def test_a_newer_version_of_a_flaw_from_outside_is_measured_again(toy: Flaw) -> None:
    assert plugin_settings(["format", "tokens"]) == {}  # the keys of what comes with Pyrite know of no plug-ins
    assert plugin_settings(["format", "toy"]) == {"plugins": {"toy": ["toy_flaw", 1]}}
    register_flaw(replace(toy, version=2))
    assert plugin_settings(["toy"]) == {"plugins": {"toy": ["toy_flaw", 2]}}


def test_what_cannot_be_registered(toy: Flaw) -> None:
    for wrong in (replace(toy, name="format"), replace(toy, name="Toy 2"), replace(toy, name="other")):
        with pytest.raises(UserError):
            register_flaw(wrong)
    with pytest.raises(UserError):
        register_flaw(replace(toy, statistics=()))
    assert FLAWS["toy"] is toy
