"""Cards: the hub reads their header, they say what was found and how sure it is, and hostile text stays text."""

import re
from pathlib import Path
from typing import Any

import pytest
from card_kit import (
    HOSTILE,
    card,
    finding,
    line,
    probe_folder,
    repair_folder,
    sliced,
    study_folder,
    told_audit,
    told_probe,
    told_repair,
    told_study,
    write_run,
)
from huggingface_hub import DatasetCard, ModelCard

from pyrite.errors import UserError
from pyrite.markdown import clean, code, escaped, fenced, markdown_table
from pyrite.report.cards import write_cards
from pyrite.runs import read_run

TEXT_OF_DATA = "alert(1)"


def rendered(card_text: str) -> str:
    """The card's body as a Markdown reader makes HTML of it."""
    markdown = pytest.importorskip("markdown_it", reason="no Markdown reader is installed")
    body = re.sub(r"\A---\n.*?\n---\n", "", card_text, flags=re.DOTALL)
    return str(markdown.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body))


def audit_card(tmp_path: Path, *, no_rows: bool = False, **more: Any) -> Path:
    folder = write_run(tmp_path / "audit", told_audit(**more))
    (path,) = write_cards([read_run(folder)], tmp_path / "cards", no_rows=no_rows)
    return path


def test_the_data_card_loads_and_tells_findings_worst_first(tmp_path: Path) -> None:
    path = audit_card(tmp_path)
    assert path == tmp_path / "cards" / "data-synthetic.jsonl" / "README.md"
    made = DatasetCard.load(path)
    assert made.data.pretty_name == "synthetic.jsonl"
    assert made.data.size_categories == ["n<1K"]
    assert {"pyrite", "pyrite:fail:format", "pyrite:warn:format"} <= set(made.data.tags)
    text = made.text
    assert text.index("### FAIL: ") < text.index("### WARN: ")
    worst, next_ = text[text.index("### FAIL") : text.index("### WARN")], text[text.index("### WARN") :]
    assert all(number in worst for number in ("50.0", "30.0", "25.0", "37.5"))
    assert "10.0" in next_
    assert "no interval" in next_ or "one human source" in next_  # the reason
    assert "format.closing" in text[text.index("## Measured and fine") :]
    assert "| tokens.entropy | needs a reference |" in text
    assert "102 rows read, 100 kept" in text
    assert "c0ffee" in text
    assert "pyrite audit synthetic.jsonl --reference one.jsonl" in text
    assert "## What cannot be concluded" in text
    assert "/home/me" not in text
    assert "secret machine" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """No tag, no row of a table more, no link, no code that ends early, no character that turns the line around."""
    study = study_folder(tmp_path / "study")
    name = f"mine {HOSTILE}"
    cards = [card(name, f"task {HOSTILE}", sliced("gold", HOSTILE, HOSTILE, 0.5), notes=[HOSTILE])]
    probe = write_run(tmp_path / "probe", told_probe(name, cards=cards, metrics={}, command=f"pyrite {HOSTILE}"))
    gates = [{"outcome": "failed", "gate": HOSTILE, "why": HOSTILE}]
    told = told_repair(notes=[HOSTILE], model=name, command=HOSTILE, gates=gates, base_model=None, method=HOSTILE)
    repair = write_run(tmp_path / "repair", told, "repair.json")
    runs = [read_run(folder) for folder in (study, probe, repair)]
    paths = [audit_card(tmp_path), *write_cards(runs, tmp_path / "cards")]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        (DatasetCard if path.parent.name.startswith("data") else ModelCard).load(path)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", text)
        html = rendered(text)
        assert "<script" not in html
        assert "alert(1)" in html
        assert "<a " not in html
        assert "<strong>b</strong>" not in html
        assert "<h1>title" not in html
        for one in re.findall(r"<table>.*?</table>", html, re.DOTALL):
            wide = {row.count("<td") + row.count("<th") for row in re.findall(r"<tr>.*?</tr>", one, re.DOTALL)}
            assert len(wide) == 1


def test_texts_of_the_data_can_be_left_out(tmp_path: Path) -> None:
    private = {"data": ["synthetic.jsonl"], "rows": {"read": 1, "kept": 1, "dropped": {}}}
    assert TEXT_OF_DATA in audit_card(tmp_path, **private).read_text()
    text = audit_card(tmp_path, no_rows=True, **private).read_text()
    assert TEXT_OF_DATA not in text
    assert "were left out" in text
    assert "### FAIL" in text
    assert "50.0" in text


def test_a_probe_is_a_model_card_with_evaluation_results(tmp_path: Path) -> None:
    run = read_run(probe_folder(tmp_path / "run", "/home/me/models/mine", "org/name"))
    first, second = write_cards([run], tmp_path / "cards")
    assert (first.parent.name, second.parent.name) == ("model-mine", "model-org__name")
    made = ModelCard.load(first)
    assert made.data.model_name == "mine"
    results = {(one.dataset_name, one.metric_type): one for one in made.data.eval_results}
    whole = results["heuristics", "accuracy"]
    assert (whole.metric_value, whole.task_type) == (0.75, "text-classification")
    assert whole.metric_name == "accuracy (95 % interval 0.5 to 0.875; 40 items)"
    assert whole.metric_args == {"low": 0.5, "high": 0.875, "n": 40, "n_missing": 0}
    assert results["heuristics", "accuracy_2way"].metric_name.startswith("accuracy_2way (no interval: 3 templates")
    assert results["heuristics, non-entailment", "accuracy"].metric_value == 0.125
    assert len(results) == 3  # what nobody answered has no value
    assert ModelCard.load(second).data.model_name == "org/name"
    assert "/home/me" not in first.read_text()


def test_a_header_has_the_shape_that_the_hub_asks_for(tmp_path: Path) -> None:
    """What its documentation of model-index calls required, checked offline."""
    repair = read_run(repair_folder(tmp_path / "repair"))
    paths = write_cards([read_run(probe_folder(tmp_path / "probe")), repair], tmp_path / "cards")
    for path in paths:
        (index,) = ModelCard.load(path).data.to_dict()["model-index"]
        assert isinstance(index["name"], str)
        for result in index["results"]:
            assert result["task"]["type"] in ("text-classification", "text-generation")
            assert {"type", "name"} <= set(result["dataset"])
            for metric in result["metrics"]:
                assert isinstance(metric["type"], str)
                assert isinstance(metric["value"], float)


def test_a_repair_keeps_its_card_and_gains_results(tmp_path: Path) -> None:
    (path,) = write_cards([read_run(repair_folder(tmp_path / "repair"))], tmp_path / "cards")
    made = ModelCard.load(path)
    assert path.parent.name == "repaired-org__name@main"
    assert made.data.base_model == "org/name"
    (result,) = made.data.eval_results  # of the repaired model, not of the one before
    assert result.metric_value == 0.875
    assert made.data.model_name == "org/name@main, repaired"
    assert "| heuristics | accuracy | 0.5 | 0.75 | +0.25 [+0.125, +0.5] | 40 | better |" in made.text


def test_a_study_and_the_parts_of_a_loop(tmp_path: Path) -> None:
    parts = {"audit": "audit", "study": "study"}
    loop = write_run(tmp_path / "loop", {"verb": "loop", "loop": "l", "parts": parts})
    write_run(loop / "audit", told_audit())
    study_folder(loop / "study")
    again = study_folder(tmp_path / "again")
    paths = write_cards([read_run(loop), read_run(again)], tmp_path / "cards")
    assert [path.parent.name for path in paths] == ["data-synthetic.jsonl", "study-demo", "study-demo-2"]
    made = ModelCard.load(paths[1])
    assert "study" in made.data.tags
    assert "**cannot tell yet**" in made.text
    assert re.search(r"-50\.0.*-100\.0 to \+62\.5", made.text)
    assert paths[1].read_bytes() == paths[2].read_bytes()


def test_escapes_by_hand() -> None:
    assert escaped("a_b *c* | d") == "a_b &#42;c&#42; &#124; d"
    assert escaped("- item") == "&#45; item"
    assert escaped("12) item") == "12&#41; item"
    assert escaped("-0.25 [-0.5, +0.125]") == "-0.25 [-0.5, +0.125]"
    assert escaped("see https://x.y and www.z") == "see https&#58;//x.y and www&#46;z"
    assert escaped("&lt;b&gt;") == "&amp;lt;b&amp;gt;"
    assert clean("a\u202eb\u200b\x00c\nd") == "abc d"
    assert code("``") == "``` `` ```"
    assert fenced("```\n<b>").splitlines() == ["````", "```", "<b>", "````"]
    assert markdown_table(("a",), [["x\ny | z"]]).splitlines() == ["| a |", "|---|", "| x y &#124; z |"]
    for text in (HOSTILE, "# a", "1. a", "---", "===", "> a", "    a", "+ a", "| a | b |", "<!-- a", "&amp;"):
        html = rendered(escaped(text))
        assert re.fullmatch(r"<p>[^<>]*</p>\n", html), html


def test_the_interval_or_the_reason_stands_by_every_value(tmp_path: Path) -> None:
    cards = [card("m", overall=line(0.5, None, None, method="3 templates: no interval"))]
    (path,) = write_cards([read_run(write_run(tmp_path / "r", told_probe("m", cards=cards)))], tmp_path / "cards")
    assert re.search(r"50\.0 .*3 templates: no interval", path.read_text())


def test_no_card_names_a_folder_of_the_machine(tmp_path: Path) -> None:
    """Paths that hold = or spaces, relative ones, in names, sources, sentences, notes and the study as YAML."""
    made = "/home/me/secret=x/made by.jsonl"
    spec = {"study": "demo", "says": "", "margin": 0.03, "seeds": [0], "probes": {}, "task_model": {"model": "/home/me/base"},
            "data": {"made": {"files": [made]}, "also": {"synth": {"model": "../../home/me/maker"}}}}  # fmt: skip
    answer = told_study()["primary"][0] | {"sentence": "Data of one generator, ../../home/me/maker, not /home/me/base."}
    told = told_study(spec=spec, primary=[answer], notes=["the rows are in /home/me/secret=x/made by.jsonl"])
    human = {"value": 0.15, "source": "/home/me/one.jsonl", "value_of_data": 0.5, "n": 90}
    audit = told_audit(
        references=[{"source": "/home/me/one.jsonl", "rows_sampled": 90}],
        findings=[finding("fail", "opening", between_human=human)],
        files=[{"file": "/home/me/synthetic.jsonl", "hash": "c0ffee"}],
    )
    runs = [study_folder(tmp_path / "study", **told), write_run(tmp_path / "audit", audit)]
    cards = [card(f"../me/{name}", source=f"x=/home/{name}/a.jsonl") for name in ("one", "two")]
    runs.append(write_run(tmp_path / "probe", told_probe("../me/one", "../me/two", cards=cards)))
    texts = {path: path.read_text() for path in write_cards([read_run(run) for run in runs], tmp_path / "cards")}
    assert [path.parent.name for path in texts] == ["study-demo", "data-synthetic.jsonl", "model-one", "model-two"]
    for text in texts.values():
        assert not re.search(r"/?home|secret|\.\./|/me", text)
    study = next(iter(texts.values()))
    assert "files: [made by.jsonl]" in study
    assert "Data of one generator, maker, not base." in study
    assert "the rows are in made by.jsonl" in study.lower()


def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = write_cards([read_run(probe_folder(tmp_path / "run", "/one/a", "/two/a"))], tmp_path / "cards")
    assert [path.parent.name for path in paths] == ["model-a (1)", "model-a (2)"]
    assert ModelCard.load(paths[1]).data.model_name == "a (2)"


@pytest.mark.parametrize("there", ["# mine\n", "---\ntags:\n- mine\n---\n\n- pyrite\n", "---\ntags:\n- pyrites\n---\n"])
def test_a_file_that_is_no_card_of_ours_stays_and_nothing_is_written(tmp_path: Path, there: str) -> None:
    runs = [read_run(probe_folder(tmp_path / "run")), read_run(write_run(tmp_path / "audit", told_audit()))]
    foreign = tmp_path / "cards" / "data-synthetic.jsonl" / "README.md"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(there)
    with pytest.raises(UserError, match="no card of ours"):
        write_cards(runs, tmp_path / "cards")
    assert [path for path in (tmp_path / "cards").rglob("*") if path.is_file()] == [foreign]
    assert foreign.read_text() == there


def test_a_card_of_ours_is_replaced(tmp_path: Path) -> None:
    folders = [probe_folder(tmp_path / "run"), write_run(tmp_path / "audit", told_audit()),
               study_folder(tmp_path / "study"), repair_folder(tmp_path / "repair")]  # fmt: skip
    runs = [read_run(folder) for folder in folders]
    assert write_cards(runs, tmp_path / "cards") == write_cards(runs, tmp_path / "cards")
