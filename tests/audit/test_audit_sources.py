"""What the next human source would show: predictions by hand, sources that are one, files and clusters as sources, tasks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_kit import caller, chat_line, write
from planted import human_rows, with_opening

from pyrite.audit import next_source
from pyrite.audit.decide import Human, next_human, notes_on_definitions
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.input_files import source_labels
from pyrite.audit.next_source import NextSource, Prior, another_task, limit_of, posterior, predict, source_table
from pyrite.audit.rows import Row
from pyrite.cli import run


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    return caller(tmp_path, tiny_encoder, tiny_causal, capfd)


def test_five_sources_predict_the_sixth_by_students_t() -> None:
    """Distances 1, 2, 3, 4, 5: mean 3, s = 1.5811, s * sqrt(1 + 1/5) = 1.7321; t(4) at 95 % is 2.1318: 3 + 3.6925. Of ten
    measures t(4) at 99.5 % is 4.6041."""
    found = predict([1, 2, 3, 4, 5], None, n=100, measures=1)
    assert found == NextSource(3.0, pytest.approx(6.6925, abs=1e-4), 5, False)  # type: ignore[arg-type]
    ten = predict([1, 2, 3, 4, 5], None, n=100, measures=10)
    assert ten is not None
    assert ten.high == pytest.approx(3 + 4.6041 * 3**0.5, abs=1e-3)
    assert predict([1, 2, 3, 4], None, n=100, measures=1) is None
    assert predict([], None, n=100, measures=1) is None


def test_the_table_counts_as_one_source_in_the_mean_and_ten_in_the_spread() -> None:
    """Table: mean 1, spread 0.5. Sources 2 and 4: mean 3, sum of squares 2. Centre (1 + 2 * 3) / 3 = 7/3. Variance
    (10 * 0.25 + 2 + 2/3 * 4) / 12 = 7.1667 / 12 = 0.59722, times 1 + 1/3: 0.79630; its root is 0.89235."""
    centre, spread = posterior(np.array([2.0, 4.0]), Prior(1.0, 0.5), 100)
    assert (centre, spread) == (pytest.approx(7 / 3), pytest.approx(0.89235, abs=1e-5))
    assert posterior(np.array([]), Prior(1.0, 0.5), 100) == (1.0, 0.5)
    assert posterior(np.array([]), Prior(0.0, 0.0), 50) == (0.0, 1 / 50)  # never less than one row
    found = predict([2, 4], Prior(1.0, 0.5), n=100, measures=30, limit=4.0)
    assert found == NextSource(centre, pytest.approx(7 / 3 + 4 * 0.89235, abs=1e-4), 2, True)  # type: ignore[arg-type]


def test_the_shipped_table_holds_numbers_of_at_least_ten_sources_in_five_genres() -> None:
    made = source_table()
    genres = {one["name"].partition("/")[0] for one in made["sources"]}
    assert len(made["sources"]) >= 10
    assert len(genres) >= 5
    for measure, by_rows in made["measures"].items():
        for n, entry in by_rows.items():
            assert int(n) in (50, 100, 150), measure
            assert np.isfinite([entry["mean"], entry["spread"]]).all()
    assert {"format.shape_distance", "tokens.boilerplate", "embedding.mmd", "perplexity.shift"} <= set(made["measures"])
    assert limit_of(0) == limit_of(1) == made["limits"]["1"]
    assert limit_of(4) == made["limits"]["3"]
    assert limit_of(99) == made["limits"]["8"]
    assert next_source.TABLE.stat().st_size < 40_000


def between(value: float, **distances: float) -> dict[str, Any]:
    return {"value_of_data": value, "distances": distances}


def test_another_task_is_told_by_the_prompts() -> None:
    assert "another task" in another_task(between(0.49, a=0.2, b=0.18), between(0.5, a=0.1, b=0.1))
    assert "an AUC of 0.99" in another_task(between(0.49, a=0.2, b=0.18), between(0.5, a=0.1, b=0.1))
    # prompts like those of the references, or answers that differ more than the prompts do
    assert another_task(between(0.21, a=0.235, b=0.185), between(0.19, a=0.1, b=0.1)) == ""
    assert another_task(between(0.3, a=0.2, b=0.2), between(0.45, a=0.1, b=0.1)) == ""
    # one reference: nothing to compare the prompts with, so they must be far
    assert another_task(between(0.45), between(0.46)) != ""
    assert another_task(between(0.3), between(0.3)) == ""
    assert another_task(None, between(0.5)) == ""


def test_files_that_are_one_source() -> None:
    shards = [f"d/human-0000{at}-of-00002.jsonl" for at in range(2)]
    assert source_labels([*shards, "other.jsonl"]) == [
        (shards[0], "human.jsonl"), (shards[1], "human.jsonl"), ("other.jsonl", "other.jsonl")
    ]  # fmt: skip
    assert source_labels(["a.jsonl,b.jsonl", "c.jsonl"]) == [
        ("a.jsonl", "a.jsonl and 1 more"), ("b.jsonl", "a.jsonl and 1 more"), ("c.jsonl", "c.jsonl")
    ]  # fmt: skip
    assert source_labels(["x/h.jsonl", "y/h.jsonl"]) == [("x/h.jsonl", "x/h.jsonl"), ("y/h.jsonl", "y/h.jsonl")]


def test_a_folder_of_files_is_one_source(tmp_path: Path, audit: Any) -> None:
    data = tmp_path / "data"
    human = tmp_path / "human, all"
    for folder, seeds in ((data, (1, 2)), (human, (3, 4))):
        folder.mkdir()
        for seed in seeds:
            write(folder / f"part {seed}.jsonl", human_rows(60, seed, source=f"s{seed}"))
        (folder / "notes.md").write_text("not data")
    code, told, err = audit(data, "--reference", human, only="format")
    assert code == 0, err
    assert told["references"] == [{"source": "human, all", "rows_sampled": 120}]
    assert told["rows"]["kept"] == 120
    assert source_labels(["my, file.jsonl"]) == [("my", "my and 1 more"), ("file.jsonl", "my and 1 more")]
    odd = write(tmp_path / "my, file.jsonl", human_rows(60, 5))
    assert source_labels([str(odd)]) == [(str(odd), "my, file.jsonl")]


def test_what_lies_at_the_end_of_a_scale_cannot_be_exceeded() -> None:
    from pyrite.audit.decide import AT_END, Human, decide
    from pyrite.audit.gate import check_gate
    from pyrite.audit.gate import parse as parse_gate
    from pyrite.audit.next_source import within_scale

    far = NextSource(0.5, 1.9, 2, True)
    assert within_scale(far, 1.0) == NextSource(0.5, 1.0, 2, True, at_end=True)
    assert within_scale(NextSource(0.1, 0.4, 2, True), 1.0) == NextSource(0.1, 0.4, 2, True)
    assert within_scale(far, None) == far
    measure = {"flaw": "format", "name": "shape_distance", "question": "?", "unit": "bits", "advice": "do"}
    told = {
        "measure": measure, "value": 1.0, "n": 100, "null_mean": 0.1, "null_high": 0.2, "p": 0.0005, "alone": False,
        "between": {"n": 100, "value_of_data": 1.0, "error": 0.0, "distances": {"a": 0.2, "b": 0.2}},
        "excess": 0.9, "low": 0.9, "high": 0.9, "evidence": {"rule": None},
    }  # fmt: skip
    (found,) = decide([told], alpha=0.05, thresholds={}, human=Human(2, ("format",)))
    assert (found.severity, found.record["why"]) == ("warn", AT_END)
    assert found.record["between_human"]["high"] == 1.0
    name = "format.shape_distance"
    passed = check_gate(parse_gate("severity < fail", [name]), [found], sources=2, lacking=[])
    assert passed.outcome == "passed"
    assert f"not asked of {name}" in passed.why
    assert check_gate(parse_gate(f"{name} <= 0", [name]), [found], sources=2, lacking=[]).outcome == "undecided"


def test_text_in_other_letters_is_judged_without_the_english_table(tmp_path: Path, audit: Any) -> None:
    def greek(rows: Any) -> list[dict[str, Any]]:
        turn = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβψδεφγηιξκλμνοπθρστυωχζςώ")
        return [{"messages": [{"role": "user", "content": "τι"}, {"role": "assistant", "content": row.answer.lower().translate(turn)}]} for row in rows]  # fmt: skip

    for name, seed in (("data", 1), ("human", 2)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in greek(human_rows(80, seed))))
    _, told, err = audit(tmp_path / "data.jsonl", "--reference", tmp_path / "human.jsonl", only="format")
    assert any("written in other letters" in note for note in told["notes"]), err
    assert not any(one["between_human"]["table"] for one in told["findings"])


def test_shards_of_a_reference_are_read_as_one_source(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(120, 1))
    shards = [write(tmp_path / f"human-0000{at}-of-00002.jsonl", human_rows(80, 2 + at)) for at in range(2)]
    words = [word for shard in shards for word in ("--reference", shard)]
    code, told, err = audit(data, *words, only="format")
    assert code == 0, err
    assert told["references"] == [{"source": "human.jsonl", "rows_sampled": 160}]
    assert not any("cannot be told" in note for note in told["notes"])
    listed = audit(data, "--reference", ",".join(map(str, shards)), only="format")[1]
    assert [one["rows_sampled"] for one in listed["references"]] == [160]


def test_sources_that_were_told_apart_are_never_joined() -> None:
    from pyrite.audit.human_sources import one_source_each

    assert one_source_each(["a", "b", "c"], {("a", "b"): 0.9, ("a", "c"): 0.01, ("b", "c"): 0.5}) == [["a", "b"], ["c"]]
    assert one_source_each(["a", "b", "c"], {("a", "b"): 0.2, ("a", "c"): 0.01, ("b", "c"): 0.5}) == [["a"], ["b", "c"]]
    assert one_source_each(["a", "b"], {("a", "b"): 0.3}) == [["a", "b"]]
    assert one_source_each(["a"], {}) == [["a"]]


def test_a_tiny_reference_joins_nothing_and_counts_as_no_source(tmp_path: Path, audit: Any) -> None:
    """Two references that differ in how they open, and four rows of a third."""
    data = write(tmp_path / "data.jsonl", human_rows(120, 1))
    one = write(tmp_path / "one.jsonl", human_rows(100, 2))
    two = write(tmp_path / "two.jsonl", with_opening(human_rows(100, 3), 0.9, 1)[0])
    tiny = write(tmp_path / "tiny.jsonl", human_rows(4, 4))
    words = [word for path in (one, two, tiny) for word in ("--reference", path)]
    _, told, err = audit(data, *words, only="format,diversity")
    assert [(one["source"], one["rows_sampled"]) for one in told["references"]] == [
        ("one.jsonl", 100), ("two.jsonl", 100), ("tiny.jsonl", 4)
    ], err  # fmt: skip
    assert {tuple(one["between_human"]["distances"]) for one in told["findings"]} == {("one.jsonl", "two.jsonl")}
    # splits of one file are one source whatever is looked for
    other = write(tmp_path / "other.jsonl", human_rows(100, 5))
    _, told, _ = audit(data, "--reference", one, "--reference", other, "--no-prior", only="diversity")
    assert [one["source"] for one in told["references"]] == ["one.jsonl + other.jsonl"]


def test_few_clusters_leave_a_gate_undecided(tmp_path: Path, audit: Any) -> None:
    """Three clusters a side: 20 ways to change places, so no p-value below 0.05, and Holm asks for less."""
    sides = {}
    for name, seed, opening in (("data", 1, 0.9), ("human", 2, 0.0)):
        rows = human_rows(90, seed)
        rows = with_opening(rows, opening, 1)[0] if opening else rows
        lines = [{**chat_line(row), "thread": f"{name} {at // 30}"} for at, row in enumerate(rows)]
        sides[name] = tmp_path / f"{name}.jsonl"
        sides[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = (sides["data"], "--reference", sides["human"], "--gate", "severity < warn")
    code, told, err = audit(*words, "--cluster", "thread", only="format")
    assert code == 3, err
    assert "so few clusters" in told["gates"][0]["why"]
    assert audit(*words, only="format")[0] == 1


def authors(path: Path, count: int, rows: int, opening: float) -> Path:
    """A reference of so many authors, every second one with a habit of opening."""
    lines = []
    for at in range(count):
        own = human_rows(rows, 20 + at, source=f"w{at}")
        own = with_opening(own, opening, at)[0] if at % 2 else own
        lines += [{**chat_line(row), "author": f"author {at}"} for row in own]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_clusters_of_enough_rows_are_sources(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(120, 1))
    human = authors(tmp_path / "human.jsonl", 2, 60, 0.9)
    _, told, err = audit(data, "--reference", human, "--cluster", "author", only="format")
    names = {one["source"] for one in told["references"]}
    assert names == {"human.jsonl: author 0", "human.jsonl: author 1"}, err
    code, _, err = audit(data, "--reference", human, "--cluster", "writer", only="format")
    assert code == 2
    assert "has a column writer" in err


def test_an_audit_says_when_the_task_is_another(tmp_path: Path, tiny_encoder: Path, capfd: Any) -> None:
    """The embeddings stand in for meaning: prompts of the data and of the references lie on two sides of a plane."""
    from pyrite.audit.baselines import DrawSettings
    from pyrite.audit.compare import prompts_apart
    from pyrite.audit.flaw import Extras
    from pyrite.audit.gather import Sampled

    rng = np.random.default_rng(0)
    groups = [human_rows(60, at) for at in range(3)]
    sampled = Sampled.of(groups[0], {"one": groups[1], "two": groups[2]})

    def cloud(shift: float) -> np.ndarray[Any, Any]:
        points = rng.standard_normal((180, 16))
        points[:60, 0] += shift
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    draws = DrawSettings(permutations=9, subsamples=4, halves=8)
    far = prompts_apart(FLAWS["embedding"], sampled, Extras(cloud(0), prompt_embeddings=cloud(9)), draws)
    assert far is not None
    assert far["value_of_data"] > 0.45
    assert max(far["distances"].values()) < 0.3
    assert another_task(far, between(0.46, one=0.1, two=0.1)) != ""
    near = prompts_apart(FLAWS["embedding"], sampled, Extras(cloud(0), prompt_embeddings=cloud(0)), draws)
    assert another_task(near, between(0.2, one=0.1, two=0.1)) == ""
    without = cloud(0)
    without[3] = 0  # a row without a prompt
    assert prompts_apart(FLAWS["embedding"], sampled, Extras(cloud(0), prompt_embeddings=without), draws) is None
    assert prompts_apart(FLAWS["format"], sampled, Extras(cloud(0), prompt_embeddings=cloud(9)), draws) is None


def test_rows_are_embedded_as_answers_and_prompts_apart(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path) -> None:
    """The same system prompt in every row hides nothing of the answers."""
    data, human = (write(tmp_path / f"{name}.jsonl", human_rows(60, at)) for at, name in enumerate(("data", "human")))
    store = tmp_path / "store"
    line = ["audit", str(data), "--reference", str(human), "--only", "embedding", "--store", str(store), "--quiet"]
    assert run([*line, "--embedder", str(tiny_encoder), "--model", str(tiny_causal), "--permutations", "99"]) == 0
    (made,) = store.rglob("embeddings.npz")
    with np.load(made) as file:
        assert file["answers"].shape == file["prompts"].shape
        assert np.allclose(np.linalg.norm(file["prompts"], axis=1), 1, atol=1e-3)
        assert not np.allclose(file["answers"], file["prompts"])


# --- definitions ----------------------------------------------------------------------------------------------------


def test_the_table_is_not_used_for_a_statistic_that_it_holds_by_another_definition() -> None:
    table = source_table()
    assert table["definitions"].keys() == table["measures"].keys()
    between = {"n": 100, "distances": {"a": 0.01}, "value_of_data": 0.3, "error": 0.01}
    human = Human(1, ("duplicates",))
    following = {
        name: next_human(
            {"measure": {"flaw": "duplicates", "name": name, "unit": "share"}, "between": between}, human, 9
        )
        for name in ("exact", "near", "semantic")
    }
    assert following["exact"] is not None
    assert following["near"] is not None  # what is a copy now was one then: the limit is on the safe side
    assert following["semantic"] is None
    notes = notes_on_definitions(f"duplicates.{name}" for name in ("exact", "near", "semantic"))
    assert len(notes) == 2
    assert "duplicates.near by definition 1" in notes[0]
    assert "at least as high" in notes[0]
    assert notes[1].endswith("the table is not used for it")


def test_every_other_statistic_is_defined_as_in_the_table() -> None:
    definitions = source_table()["definitions"]
    apart = {
        statistic.full_name
        for flaw in FLAWS.values()
        for statistic in flaw.statistics
        if definitions.get(statistic.full_name, statistic.definition) != statistic.definition
    }
    assert apart == {"duplicates.near", "duplicates.semantic"}


def test_the_table_is_made_of_what_audits_embed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    import human_sources as tool

    passage = "The mill stood by the river for years. Nobody knew who had built it."
    rows = [Row(at, str(at), f"{passage}\nWho asks question {at}?", ("Yes.",)) for at in range(3)]
    rows.append(Row(3, "3", "", ("A text.",)))
    texts: list[str] = []

    def vectors(some: Sequence[str]) -> np.ndarray:
        texts.extend(some)
        return np.ones((len(some), 2), dtype=np.float32)

    class Whole:
        is_cut = staticmethod(lambda text: False)
        both_ends = staticmethod(lambda text: text)

    features = tool.embedded(rows, Whole, vectors)
    assert "Who asks question 1?" in texts  # alone: the passage stands in other rows, too
    assert features["asked"][:, 0].tolist() == [1, 1, 1, 0]
    source = tool.Source(rows, features["answers"], features["prompts"], (features["asked"], features["answered"]), {})
    extras = tool.extras_of_parts([source, source], None, 0)
    assert extras.side_embeddings is not None
    assert extras.side_embeddings[0].shape == extras.side_embeddings[1].shape == (8, 2)
