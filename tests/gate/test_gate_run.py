"""`pyrite gate` on run folders: the same outcome as during the run, studies by their intervals, loops by their parts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import build_causal
from tests.gate.gate_kit import audit_in, contrast, finding, language, put, study_in
from tests.probe.test_probe_run import hans_file

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.gate.config import GateConfig
from pyrite.gate.run import gate
from pyrite.io import write_parquet
from pyrite.runs import read_run


def asked(folder: Path, *conditions: str, **more: Any) -> list[tuple[str, str]]:
    made = gate(GateConfig(run=folder, require=conditions, **more))
    return [(one.outcome, one.why) for one in made.outcomes]


def outcome(folder: Path, condition: str) -> str:
    ((found, _),) = asked(folder, condition)
    return found


def hans_rows(folder: Path) -> Path:
    """Twelve templates of each label, so that there is an interval over them."""
    rows = [
        {
            "pairID": f"ex{n}", "gold_label": ["entailment", "non-entailment"][n % 2], "heuristic": ["one", "two"][n // 2 % 2],
            "subcase": f"s{n % 2}", "template": f"t{n // 2 % 12}", "sentence1": f"The dog {n} saw it .", "sentence2": "It saw .",
        }
        for n in range(48)
    ]  # fmt: skip
    path = folder / "hans.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_probed_models_gate_as_during_the_run(
    tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same estimate and the same interval, by the seed of the run; with another seed they would differ."""
    other, out = build_causal(tmp_path / "other", seed=1), tmp_path / "run"
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"the film {n} was lovely and warm"}) + "\n" for n in range(12)))
    gates = [
        "hans.accuracy[gold=non-entailment] >= 10%",
        "hans.accuracy[heuristic=one] <= 0.9",
        "change hans >= -0.5",
        "perplexity.nats_per_token < 100",
        "change perplexity.bits_per_byte[nothing=here] > 3",
    ]
    line = ["probe", str(tiny_causal), str(other), "--task", f"hans={hans_rows(tmp_path)}", "--seed", "7"]
    line += ["--task", f"perplexity={texts}", "--store", str(tmp_path / "s"), "--json", "--precision", "fp32"]
    line += [word for one in gates[:4] for word in ("--gate", one)]
    code = run([*line, "--out", str(out)])
    during = json.loads(capsys.readouterr().out)
    made = gate(GateConfig(run=out)).as_json()
    assert made["exit_code"] == code
    for one, then in zip(made["gates"], during["gates"], strict=True):
        assert {name: one[name] for name in ("gate", "outcome", "why", "estimate")} == {
            name: then[name] for name in ("gate", "outcome", "why", "estimate")
        }
    estimates = [one["estimate"] for one in made["gates"]]
    assert any(one["low"] is not None and "bootstrap" in one["method"] for one in estimates)
    assert gate(GateConfig(run=out, require=tuple(gates[:4]))).as_json()["gates"] == made["gates"]
    told = json.loads((out / "run.json").read_text())
    put(tmp_path / "seed", {**told, "settings": {**told["settings"], "seed": 8}})
    (tmp_path / "seed" / "items.parquet").write_bytes((out / "results" / "items.parquet").read_bytes())
    assert [one["estimate"] for one in gate(GateConfig(run=tmp_path / "seed")).as_json()["gates"]] != estimates
    with pytest.raises(UserError, match="unknown column"):
        asked(out, gates[4])
    with pytest.raises(UserError, match="did you mean 'hans'"):
        asked(out, "hanns >= 0.5")
    (out / "results" / "items.parquet").unlink()
    with pytest.raises(UserError, match=r"no items\.parquet"):
        asked(out, "hans >= 0.5")


def test_a_run_without_gates_says_what_can_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, out = tmp_path / "a.csv", tmp_path / "run"
    answers.write_text("pairID,gold_label\nex0,entailment\nex1,neutral\n")
    line = ["probe", "--task", f"hans={hans_file(tmp_path)}", "--predictions", str(answers), "--out", str(out)]
    assert run([*line, "--store", str(tmp_path / "s"), "--json"]) == 0
    capsys.readouterr()
    with pytest.raises(UserError, match=r"--require 'hans\.accuracy >= 0\.5'"):
        gate(GateConfig(run=out))
    with pytest.raises(UserError, match="two models"):
        asked(out, "change hans >= 0")
    assert asked(out, "hans.accuracy >= 0.5")[0][0] == "undecided"  # fewer than ten templates: no interval
    audit = audit_in(tmp_path / "audit", finding("format", "opening_concentration", "ok", 0, 1))
    with pytest.raises(UserError, match=r"severity < fail.*format\.opening_concentration < 0\.05"):
        gate(GateConfig(run=audit))
    study = study_in(tmp_path / "study", contrast("worse", -0.2, -0.3, -0.1))
    with pytest.raises(UserError, match=r"verdict != worse.*'hans\[arm=synthetic\]\[against=human\] >= -0\.02'"):
        gate(GateConfig(run=study))
    put(tmp_path, {"verb": "loop", "loop": "l", "parts": {"audit": audit.name}, "settings": {}})
    with pytest.raises(UserError, match=r"'audit: severity < fail'"):
        gate(GateConfig(run=tmp_path))


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("severity < fail", "failed"),
        ("format.closing_concentration < 0.5", "passed"),
        ("format.closing_concentration < 5%", "undecided"),
        ("format.opening_concentration < 5%", "failed"),
        ("format < 0.5", "undecided"),  # the worst of its measures counts, and one was not measured
        ("format.length_spread < 9", "undecided"),
    ],
)
def test_an_audit_is_asked_as_its_own_gate_asks(condition: str, says: str, tmp_path: Path) -> None:
    folder = audit_in(
        tmp_path,
        finding("format", "opening_concentration", "fail", 0.2, 0.4),
        finding("format", "closing_concentration", "ok", -0.1, 0.1),
        not_measured=[{"measure": "format.length_spread", "why": "needs a reference"}],
        needs_reference=["format.length_spread"],
    )
    assert outcome(folder, condition) == says


def test_audit_names_counts_and_estimates(tmp_path: Path) -> None:
    one = {**finding("duplicates", "exact", "warn", 0.1, 0.2), "counted": {"value": 0.3, "threshold": 0.1, "rows": 50}}
    none = finding("duplicates", "near", "ok", None, None)  # not a number: no interval
    folder = audit_in(tmp_path, one, none, settings={"only": ["duplicates"], "seed": 0, "alpha": 0.05, "flag_at": 1.0})
    exact, near = gate(GateConfig(run=folder, require=("duplicates.exact < 0.15", "duplicates.near < 9"))).outcomes
    assert (exact.outcome, exact.estimate) == (
        "failed",
        pytest.approx({"value": 0.2, "low": 0.2, "high": 0.2, "n": 50}),
    )
    assert (near.outcome, near.estimate) == ("undecided", {"value": None, "low": None, "high": None, "n": 100})
    with pytest.raises(UserError, match=r"did you mean 'duplicates\.near'"):
        asked(folder, "duplicates.neer < 1")
    assert outcome(folder, "duplicates.semantic < 1") == "undecided"  # one of the flaw's that this run did not take
    with pytest.raises(UserError, match="no gate"):
        asked(folder, "severity < bad")


def study(folder: Path) -> Path:
    return study_in(
        folder,
        contrast("worse", -0.2, -0.3, -0.1),
        contrast("equivalent", 0.0, -0.01, 0.01, arm="mixed"),
        contrast("cannot tell yet", 0.5, None, None, arm="mixed", probe="gap"),
    )


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("synthetic - human on hans >= -2%", "failed"),
        ("synthetic - human on hans >= -0.25", "undecided"),
        ("  synthetic  -  human on hans.accuracy > -31% ", "passed"),
        ("mixed - human on hans >= -0.02", "passed"),
        ("mixed - human on gap >= -1.5", "undecided"),  # no interval
        ("hans >= -0.02", "failed"),  # the worst of both arms
        ("hans >= -0.9", "passed"),
        ("primary >= -0.9", "undecided"),
        ("primary >= -0.02", "failed"),
        ("verdict != worse", "failed"),
        ("study: verdict != worse", "failed"),  # as a loop's part is asked
        ("study : hans >= -0.9", "passed"),
    ],
)
def test_a_study_is_asked_for_its_intervals(condition: str, says: str, tmp_path: Path) -> None:
    assert outcome(study(tmp_path), condition) == says


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        (("better", "equivalent"), "passed"),
        (("better", "cannot tell yet"), "undecided"),
        (("equivalent", "not testable"), "undecided"),
        (("cannot tell yet", "worse"), "failed"),
    ],
)
def test_verdicts(verdicts: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert outcome(study_in(tmp_path, *(contrast(one, 0, -1, 1) for one in verdicts)), "verdict != worse") == says


@pytest.mark.parametrize("verdict", ["better", "equivalent"])
def test_a_verdict_without_its_numbers_passes_nothing(verdict: str, tmp_path: Path) -> None:
    nothing = contrast(verdict, 0.1, None, None)
    nothing["difference"]["value"] = None
    for one in (nothing, contrast(verdict, 0.1, None, None)):
        ((found, why),) = asked(study_in(tmp_path, one), "verdict != worse")
        assert (found, "holds no interval" in why) == ("undecided", True)


def test_worse_fails_even_without_an_interval(tmp_path: Path) -> None:
    """Seeds that agree to the last bit have no interval; a sign test over six of them can still say worse."""
    assert outcome(study_in(tmp_path, contrast("worse", -0.1, None, None)), "verdict != worse") == "failed"


def test_what_is_not_testable_passes_nothing(tmp_path: Path) -> None:
    """Both arms at the floor: the difference lies near 0 whatever the data did."""
    folder = study_in(tmp_path, contrast("not testable", 0.0, -0.001, 0.001))
    ((found, why),) = asked(folder, "hans >= -0.02")
    assert found == "undecided"
    assert "not testable: synthetic says so" in why
    assert outcome(folder, "hans >= 0.02") == "undecided"  # and fails nothing


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("synthetik - human on hans >= 0", "did you mean 'hans[arm=synthetic][against=human]'"),
        ("hans >= -2", "did you mean -2%"),
        ("hans is good", "no gate"),
        ("gap >= -3", "between -2 and 2"),
        ("__import__('os').system('x') >= 1", "unknown contrast"),
        ("hans >= 1e999", "too large"),
    ],
)
def test_mistakes_in_conditions_on_a_study(condition: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        asked(study(tmp_path), condition)


def test_a_study_of_a_language_model(tmp_path: Path) -> None:
    folder = study_in(
        tmp_path,
        language("repaired", "ifeval.prompt_strict", "better", 0.1, 0.05, 0.15),
        language("repaired", "replay.nats_per_token", "worse", 0.6, 0.5, 0.7),
    )
    rows = [("ifeval", "prompt_strict", "share"), ("replay", "nats_per_token", "real")]
    names = ("probe", "metric", "scale")
    write_parquet([dict(zip(names, one, strict=True)) for one in rows], folder / "results" / "results.parquet")
    assert outcome(folder, "repaired - start on ifeval.prompt_strict >= 2%") == "passed"
    assert outcome(folder, "repaired - start on ifeval >= 2%") == "passed"
    assert outcome(folder, "replay.nats_per_token <= 0.4") == "failed"
    assert outcome(folder, "replay <= 1.5") == "passed"  # nats have no upper end
    with pytest.raises(UserError, match="without %"):
        asked(folder, "replay <= 40%")
    with pytest.raises(UserError, match="between -1 and 1"):
        asked(folder, "ifeval >= 2")


def test_a_loop_is_asked_by_its_parts(tmp_path: Path) -> None:
    audit_in(tmp_path / "audit", finding("format", "opening_concentration", "warn", 0.2, 0.4))
    study(tmp_path / "study" / "small")
    told = {"verb": "loop", "loop": "whole", "parts": {"audit": "audit", "study": "study/small"}}
    folder = put(tmp_path, {**told, "settings": {"gates": ["audit: severity < fail", "study: verdict != worse"]}})
    made = gate(GateConfig(run=folder)).as_json()
    assert [(one["part"], one["gate"], one["outcome"]) for one in made["gates"]] == [
        ("audit", "severity < fail", "passed"),
        ("study", "verdict != worse", "failed"),
    ]
    assert (made["verb"], made["exit_code"], made["schema_version"]) == ("loop", 1, 1)
    assert outcome(folder, "study: mixed - human on hans >= -2%") == "passed"
    for condition in ("severity < fail", "repair: hans >= 0"):
        with pytest.raises(UserError, match="the parts audit, study"):
            asked(folder, condition)


@pytest.mark.parametrize(
    ("conditions", "undecided", "code"),
    [
        (("hans >= -0.9",), None, 0),
        (("hans >= -0.9", "primary >= -0.9"), None, 3),
        (("primary >= -0.9",), "pass", 0),
        (("primary >= -0.9",), "fail", 1),
        (("primary >= -0.9", "verdict != worse"), "pass", 1),
    ],
)
def test_exit_codes(conditions: tuple[str, ...], undecided: Any, code: int, tmp_path: Path) -> None:
    made = gate(GateConfig(run=study(tmp_path), require=conditions, undecided=undecided))
    assert made.exit_code == code == made.as_json()["exit_code"]


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        gate(GateConfig(run=tmp_path))
    put(tmp_path, {"verb": "audit", "findings": []})
    with pytest.raises(UserError, match="not whole"):
        asked(tmp_path, "severity < fail")
    with pytest.raises(UserError, match="no primary contrast"):
        asked(study_in(tmp_path), "primary >= 0")


def test_an_audit_folder_gates_as_during_the_run(
    tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"tell me of thing {n}"},
                          {"role": "assistant", "content": f"Certainly! thing {n * 7 % 50} is number {n}"}]}
            for n in range(60)]  # fmt: skip
    human = [{"messages": [{"role": "user", "content": f"what is {n}"},
                           {"role": "assistant", "content": f"{n * 13 % 71} I think, {n} ways"}]}
             for n in range(60)]  # fmt: skip
    for name, some in (("data", rows), ("human", human)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    gates = (
        "severity < warn",
        "severity < fail",
        "format.opening_concentration < 5%",
        "format < 0.9",
        "duplicates < 9",
    )
    out = tmp_path / "run"
    line = ["audit", str(tmp_path / "data.jsonl"), "--reference", str(tmp_path / "human.jsonl"), "--out", str(out)]
    line += ["--only", "format,duplicates", "--embedder", str(tiny_encoder), "--model", str(tiny_causal), "--json"]
    line += ["--permutations", "99", "--store", str(tmp_path / "s"), "--workers", "1"]
    code = run([*line, *(word for one in gates for word in ("--gate", one))])
    during = json.loads(capfd.readouterr().out)
    made = gate(GateConfig(run=out)).as_json()
    assert made["exit_code"] == code
    told = [{name: one[name] for name in ("gate", "outcome", "why")} for one in made["gates"]]
    assert told == during["gates"]
    assert read_run(out).verb == "audit"
    assert (out / "results" / "flagged.parquet").is_file()


def test_hostile_text_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pyrite.gate.show import gates

    arm = "[bold]\x1b[31m\u202earm"
    gates(
        gate(GateConfig(run=study_in(tmp_path, contrast("worse", -0.2, -0.3, -0.1, arm=arm)), require=("hans >= 0",)))
    )
    out = capsys.readouterr().out
    first, last = out.splitlines()
    assert first.startswith(
        "failed     hans >= 0: hans[arm=[bold][31marm][against=human]: difference -0.2 (95% interval -0.3 to"
    )
    assert last.endswith("1 failed; exit code 1")
    assert "\x1b" not in out
