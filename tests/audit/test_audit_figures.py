"""An audit as people see it: the terminal, where the data's text obeys nobody, and the figures."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyrite.audit.figures import write_figures
from pyrite.audit.flaws.format import figure as drawing
from pyrite.audit.show import clean, format_number, show_audit
from pyrite.charts import OKABE_ITO

HOSTILE = "[bold red]not markup[/] \x1b[31mred\x07 \u202eturned\u2066 \x00 a\nb :smile: \ud83d"


def finding(flaw: str, measure: str, severity: str, **more: Any) -> dict[str, Any]:
    """A finding as `--json` tells it."""
    return {
        "flaw": flaw,
        "measure": measure,
        "severity": severity,
        "question": f"Is {measure} uneven?",
        "value": 0.31,
        "unit": "share",
        "null": {"mean": 0.01, "high": 0.02, "p": 0.0005, "p_adjusted": 0.018},
        "between_human": {
            "source": "seed_tasks",
            "value": 0.05,
            "n": 150,
            "value_of_data": 0.29,
            "high": 0.07,
            "sources": 2,
            "table": True,
        },
        "excess": {"value": 0.24, "low": 0.2, "high": 0.28},
        "n": 1000,
        "evidence": {
            "lines": [f"line {at} of {measure}" for at in range(6)],
            "rows": [{"number": 7, "id": "row-7", "excerpt": "Certainly! Here is"}],
            "values": {},
        },
        "advice": f"rewrite {measure}",
        "why": "",
        **more,
    }


def audited(*findings: dict[str, Any]) -> dict[str, Any]:
    """An audit as `--json` tells it."""
    return {
        "schema_version": 1,
        "data": ["alpaca.json"],
        "references": [{"source": "human.jsonl", "rows_sampled": 252}],
        "rows": {"read": 52002, "kept": 51990, "dropped": {"no answer": 12}},
        "reference_rows": {"read": 252, "kept": 252, "dropped": {}},
        "sample": {"n": 1000, "model_n": 200, "precision": "a share is known to ± 3.1 points"},
        "findings": list(findings),
        "not_measured": [{"measure": "duplicates.leak", "why": "too few rows"}],
        "needs_reference": ["tokens.distance"],
        "flagged": {"rows": 51990, "flagged": 310, "clean": 51680, "by": {"format.opening": 300, "tokens.topic": 20}},
        "gates": [{"gate": "severity < fail", "outcome": "failed", "why": "one failure"}],
        "exit_code": 1,
        "disk_mb_per_million_rows": 41.0,
        "notes": ["one human source"],
    }


EXAMPLE = audited(
    finding("format", "opening", "fail"),
    finding("artifacts", "words", "warn", unit="bits", between_human=None, why="one human source"),
    finding("format", "closing", "ok"),
    finding("format", "layout", "ok"),
    finding("diversity", "novelty", "ok"),
)


def shown(audit: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: Any, columns: int = 80) -> str:
    """What is printed where the output is a pipe of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    show_audit(audit)
    return capsys.readouterr().out


def flat(text: str) -> str:
    """Without line breaks and indents."""
    return " ".join(text.split())


def test_worst_first_with_both_yardsticks_evidence_and_advice(capsys: Any, monkeypatch: Any) -> None:
    lines = shown(EXAMPLE, capsys, monkeypatch)
    text = flat(lines)
    assert max(map(len, lines.splitlines())) <= 80
    order = [
        "alpaca.json: 52,002 rows read, 51,990 kept (dropped: 12 no answer)",
        "against human.jsonl (252 rows sampled)",
        "± 3.1 points",
        "1 failure, 1 warning, 3 fine",
        "FAIL Is opening uneven?",
        "format.opening: 31.0 % (1,000 rows) chance alone stays below 2.0 % in 95 of 100 draws (adjusted p 0.018) human sources differ by up to "
        "5.0 % (seed_tasks), this data by 29.0 % at the same 150 rows; by these and the table of human sources one more human "
        "source would hardly show more than 7.0 % excess over what one more human source would show: 24.0 % (95 %: 20.0 % to 28.0 %)",
        "- line 3 of opening and 2 more lines of evidence",
        "row row-7: “Certainly! Here is”",
        "Do this next: rewrite opening",
        "WARN Is words uneven?",
        "artifacts.words: 0.31 bits",
        "excess over chance: 0.24 bits",
        "Only a warning, because: one human source.",
        "Looked at and found fine: format (closing, layout), diversity (novelty).",
        "Needs a reference (--reference FILE): tokens.distance.",
        "Not measured (too few rows): duplicates.leak.",
        "310 rows are flagged: format.opening 300, tokens.topic 20",
        "gate failed: severity < fail: one failure",
        "note: one human source",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "line 4" not in text
    assert "rewrite closing" not in text


def test_text_of_the_data_commands_neither_the_terminal_nor_the_printer(capsys: Any, monkeypatch: Any) -> None:
    bad = finding("format", "opening", "fail")
    bad["evidence"] = {
        "lines": [HOSTILE, "x" * 500],
        "rows": [{"number": 1, "id": HOSTILE, "excerpt": HOSTILE * 40}],
        "values": {},
    }
    told = audited(bad)
    told["data"], told["notes"] = [f"{HOSTILE}.jsonl"], [HOSTILE]
    text = shown(told, capsys, monkeypatch)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "[bold red]not markup[/] [31mred turned a b :smile: \ufffd" in flat(text)
    assert max(map(len, text.splitlines())) <= 80


def test_clean_keeps_letters_of_any_script_and_drops_what_is_unseen() -> None:
    assert clean("مرحبا 日本 café 🙂\t\n\r\v x\u200by\ufeff") == "مرحبا 日本 café 🙂 xy"
    assert clean("") == ""


def test_shares_are_percent_and_nothing_that_is_not_a_number_is_shown_as_one() -> None:
    assert [format_number(value, "share") for value in (0.5, 0.0004, 0.0, -0.02)] == [
        "50.0 %",
        "0.04 %",
        "0.0 %",
        "-2.0 %",
    ]
    assert format_number(float("nan"), "bits") == format_number(None, "share") == "unknown"
    assert format_number(12.3456, "nats") == "12.3 nats"


def test_an_audit_without_reference_null_or_findings(capsys: Any, monkeypatch: Any) -> None:
    lone = finding("contamination", "grams", "warn", null=None, between_human=None)
    lone["excess"] = {"value": 0.3, "low": None, "high": None}
    lone["evidence"] = {"lines": [], "rows": [], "values": {}}
    told = audited(lone)
    told |= {"references": [], "flagged": None, "gates": [], "notes": [], "needs_reference": [], "not_measured": []}
    text = flat(shown(told, capsys, monkeypatch))
    assert "without a reference" in text
    assert "chance" not in text
    assert "excess over the threshold: 30.0 % Do this next" in text
    assert "flagged" not in text
    empty = flat(shown({**told, "findings": []}, capsys, monkeypatch))
    assert "0 failures, 0 warnings, 0 fine" in empty
    assert "found fine" not in empty


def test_a_narrow_and_a_wide_pipe(capsys: Any, monkeypatch: Any) -> None:
    narrow, wide = (shown(EXAMPLE, capsys, monkeypatch, columns) for columns in (40, 300))
    assert max(map(len, narrow.splitlines())) <= 40
    assert 80 < max(map(len, wide.splitlines())) <= 100
    assert flat(narrow) == flat(wide)


# ---- figures


def drawable() -> dict[str, Any]:
    """An audit whose evidence has values for every figure."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 49000, 120)
    data, human = np.exp(-(((grid - 9000) / 9000) ** 2)), np.exp(-(((grid - 14000) / 14000) ** 2))
    tokens = finding("tokens", "distance", "warn")
    tokens["evidence"]["values"] = {
        "density": {"grid": grid.tolist(), "data": (data / 16000).tolist(), "reference": (human / 22000).tolist()}
    }
    nats = np.linspace(0, 6, 120)
    perplexity = finding("perplexity", "shift", "fail")
    perplexity["evidence"]["values"] = {
        "grid": nats.tolist(),
        "data": (np.exp(-(((nats - 1.4) / 0.5) ** 2)) / 0.886).tolist(),
        "references": (np.exp(-(((nats - 2.6) / 1.1) ** 2)) / 1.95).tolist(),
        "quantiles": {},
    }
    points = [*rng.normal(0, 1, (200, 2)), *rng.normal(1.5, 1.5, (200, 2))]
    embedding = finding("embedding", "auc", "warn")
    embedding["evidence"]["values"] = {
        "map": [
            {"x": float(x), "y": float(y), "group": "data" if at < 200 else "human.jsonl"}
            for at, (x, y) in enumerate(points)
        ]
    }
    shapes = finding("format", "opening", "fail")
    texts = [
        "Certainly! Here is what …",
        "Sure! Here are …",
        "As an AI language model, I …",
        HOSTILE,
        "x" * 300,
        "x" * 301,
    ]
    shapes["evidence"]["values"] = {
        "openings": [{"text": text, "share": 0.31 / (at + 1), "reference": 0.01 * at} for at, text in enumerate(texts)]
    }
    alone = finding("format", "layout", "warn")
    alone["evidence"]["values"] = {"skeletons": [{"text": "… \n1. … \n2. …", "share": 0.23, "reference": None}]}
    return audited(shapes, perplexity, tokens, embedding, alone)


def test_every_figure_is_drawn_offline_and_the_same_each_time(tmp_path: Path) -> None:
    told = drawable()
    written = write_figures(told, tmp_path)
    names = ["tokens", "perplexity", "map", "openings", "skeletons"]
    assert [path.name for path in written] == [f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    for path in written:
        assert path.parent == tmp_path / "figures"
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
    again = write_figures(copy.deepcopy(told), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_a_figure_shows_both_groups_with_titles_and_units(tmp_path: Path) -> None:
    svg = {path.stem: path.read_text("utf-8") for path in write_figures(drawable(), tmp_path) if path.suffix == ".svg"}
    for text in svg.values():
        assert OKABE_ITO[1] in text
    for name in ("tokens", "perplexity", "map", "openings"):
        assert OKABE_ITO[0] in svg[name]
    assert "nats per token" in svg["perplexity"]
    assert "token id" in svg["tokens"]
    assert "share of answers" in svg["openings"]
    assert "Certainly! Here is what …" in svg["openings"]
    assert OKABE_ITO[0] not in svg["skeletons"]  # no references, no bars of theirs
    assert not re.search(r"[\x00-\x08\x1b\u202e\ud800-\udfff]", svg["openings"])


def test_what_has_no_values_is_left_out(tmp_path: Path) -> None:
    assert write_figures(EXAMPLE, tmp_path) == []
    told = drawable()
    told["findings"] = [one for one in told["findings"] if one["flaw"] == "tokens"]
    del told["findings"][0]["evidence"]["values"]["density"]["reference"]
    assert [path.name for path in write_figures(told, tmp_path)] == ["tokens.svg", "tokens.png"]
    assert OKABE_ITO[0] not in (tmp_path / "figures" / "tokens.svg").read_text()


def test_a_density_of_ratios_is_not_drawn_over_nats(tmp_path: Path) -> None:
    told = drawable()
    told["findings"] = [one for one in told["findings"] if one["flaw"] == "perplexity"]
    told["findings"][0]["evidence"]["values"]["compared"] = "instruction_difficulty"
    assert write_figures(told, tmp_path) == []


def test_bars_of_one_name_stand_apart() -> None:
    shapes = [{"text": "x" * 100 + str(at), "share": 0.1, "reference": 0.1} for at in range(3)]
    (values,) = drawing.shape_bars(shapes, "t").to_dict()["datasets"].values()
    assert len({one["shape"] for one in values}) == 3
