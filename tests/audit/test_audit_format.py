"""Pattern uniformity: shapes worked out by hand, planted patterns found and marked, parts that merge."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.planted import PLANT, human_rows, sentence, with_less_spread, with_opening

from pyrite.audit.baselines import DrawSettings, Measurement, measure_difference
from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.format import statistics as family
from pyrite.audit.flaws.format import stream as streams
from pyrite.audit.flaws.format.answer_shape import (
    collapsed,
    shape_of,
    skeleton_of,
    structural_tokens,
    template_text,
)
from pyrite.audit.flaws.format.evidence import evidence
from pyrite.audit.flaws.format.patterns import answer_shapes, difference_low, over_represented, readable
from pyrite.audit.rows import Row, as_rows
from pyrite.io import ReadOptions, open_records

QUICK = DrawSettings(permutations=199, subsamples=2, halves=4)
NAMES = [measure.name for measure in family.STATISTICS]


def row(*answers: str, number: int = 0) -> Row:
    return Row(number, str(number), "", answers)


def each(answers: Sequence[str]) -> list[Row]:
    return [row(answer, number=number) for number, answer in enumerate(answers)]


def value(name: str, ours: Sequence[Row], theirs: Sequence[Row]) -> float:
    """A measure of rows against other rows (as many)."""
    found = {one.measure.name: one for one in family.differences([*ours, *theirs], Extras())}[name]
    a = np.zeros((1, len(ours) + len(theirs)), dtype=np.float32)
    a[0, : len(ours)] = 1
    return float(found.statistic(a, 1 - a)[0])


def weighed(data: Sequence[Row], human: Sequence[Row], settings: DrawSettings = QUICK) -> dict[str, Measurement]:
    made = family.differences([*data, *human], Extras())
    places = {"human": range(len(data), len(data) + len(human))}
    told = {one.measure.name: measure_difference(one, range(len(data)), places, settings) for one in made}
    return {name: one for name, one in told.items() if one is not None}


def shown(name: str, data: Sequence[Row], human: Sequence[Row] = ()) -> Evidence:
    references = {"human": Population(human, {})} if human else {}
    return evidence(name, Population(data, {}), references, Extras())


def marked(name: str, data: Sequence[Row], rule: Mapping[str, Any]) -> set[int]:
    found = family.flag_scores(data, {name: rule}, Extras(), None)[name]
    assert found.dtype == np.float32
    assert found.shape == (len(data),)
    return set(np.flatnonzero(found >= 0.5).tolist())


def streamed(rows: Sequence[Row], folder: Path, batch: int = 7) -> Path:
    folder.mkdir()
    stream = streams.Stream(folder, Extras())
    for at in range(0, len(rows), batch):
        stream.add(rows[at : at + batch])
    stream.close()
    return folder


@pytest.fixture(scope="module")
def people() -> tuple[list[Row], list[Row]]:
    return human_rows(400, 1), human_rows(400, 2)


def name_of(number: int) -> str:
    """A number in letters, for digits are one pattern: 25 is "z", 26 is "ba"."""
    return (name_of(number // 26) if number >= 26 else "") + chr(97 + number % 26)


LINES = {
    "": "",
    "Hello there.": "p",
    "One.\n\nTwo.\r\n\r\nThree.": "p+",
    "Sure, it is this:\n1. a\n2. b\n10) c\nDone.": "pn+p",
    "- a\n* b\n• c": "b+",
    "1. **Rest**: sleep\n2. **Eat**: food": "N+",
    "# Title\ntext\n## More\ntext\nand text": "(hp)",
    "Look at this.\n```python\n# no heading\n- no list\n```\nThat is it.": "pcp",
    "```\nnever closed\nso it goes on": "c",
    "| a | b |\n|---|---|\n| 1 | 2 |": "t+",
    "Which?\n(A) red\n(B) blue\nC. green\nd) grey": "po+",
    "> said\nAnswer: yes\nStep 2: no": "ql+",
    "This is not a label: no": "p",
    "**Note:** this\n**Bold** start": "LP",
    "---\nx": "rp",
    "1. a\n   - b\n   - c\n2. d\n   - e": "(nb)",
    "A cat sat. 1. no\n2.5 litres\n-5 degrees": "p+",
}


@pytest.mark.parametrize("text", LINES)
def test_a_skeleton(text: str) -> None:
    assert skeleton_of(text) == LINES[text]


def test_a_skeleton_of_any_length_is_short() -> None:
    assert len(skeleton_of("\n".join(f"{'- ' * (at % 2)}{'# ' * (at % 3)}x" for at in range(100_000)))) < 600
    assert collapsed("p" * 512) == "p+"


def test_a_shape() -> None:
    shape = shape_of('  Sure!  Here are\n3 tips: **a** `b`, 1,000 more. "Good luck!"\n')
    assert shape.opening == ("sure!", "here", "are", "N", "tips:", "**a**", "`b`,", "N")
    assert shape.closing[:3] == ('luck!"', '"good', "more.")
    assert (shape.skeleton, shape.end, shape.marks, shape.words) == ("p+", "!", "*`", 11)


def test_words_without_spaces_are_those_of_a_dictionary() -> None:
    shape = shape_of("当然！以下是3个建议。")
    assert (shape.opening[:3], shape.end, shape.words) == (("当然！", "以下", "是"), ".", 6)


def test_a_drawn_template() -> None:
    assert template_text("pn+p", "Sure! Here are") == r"Sure! Here are … \n1. … (×n) \nP"
    assert template_text("n+", "1. Mix") == r"1. Mix … \n1. … (×n)"
    assert template_text("(hp)b") == r"[# … \nP] (×n) \n- …"
    assert template_text("") == "(empty)"


def test_structural_tokens() -> None:
    found = structural_tokens("Well:\n- **a** b\n\nIn conclusion, no.\nAnswer: 4\n|a|b|")
    assert found == {
        "bullets (-)",
        "tables (|)",
        "bold words (**)",
        "empty lines",
        "line breaks",
        "colons at the end of a line",
        "“in conclusion,” at the start of a line",
        "“answer:” at the start of a line",
    }


def test_the_lower_bound_of_a_difference() -> None:
    """56/70 against 48/80: Newcombe (1998), table II, column (a), method 10: 0.0524."""
    assert difference_low(56 / 70, 70, 48 / 80, 80) == pytest.approx(0.0524, abs=5e-5)
    assert difference_low(0.0, 0, 1.0, 0) <= 0


def test_opening_concentration_by_hand() -> None:
    """Twelve openings of one answer each: the ten commonest have 10 of 12. One opening of all: 12 of 12."""
    ours = each([f"The very same words {chr(97 + at)}" for at in range(12)])
    theirs = each([f"{chr(97 + at)} is other words" for at in range(12)])
    assert value("opening_concentration", ours, theirs) == pytest.approx(1 - 10 / 12)
    assert value("opening_concentration", theirs, ours) == pytest.approx(10 / 12 - 1)
    assert value("closing_concentration", ours, theirs) == pytest.approx(10 / 12 - 1)
    assert value("skeleton_concentration", ours, theirs) == pytest.approx(0)


def test_entropy_and_distance_by_hand() -> None:
    """Ours: one layout, 0 bits. Theirs: four layouts, one a row, 2 bits. Half of theirs is of our layout: Jensen-Shannon
    with p = (1, 0), q = (1/2, 1/2): H(3/4, 1/4) - H(1/2) / 2 = 0.8113 - 0.5."""
    ours, four = each(["p."] * 4), each(["a.", "- a.", "# a.", "| a |"])
    assert value("shape_entropy", ours, four) == pytest.approx(2)
    assert value("shape_distance", ours, each(["a.", "- a.", "b.", "- b."])) == pytest.approx(0.811278 - 0.5)
    assert value("shape_distance", ours, ours) == pytest.approx(0)


def test_length_spread_by_hand() -> None:
    """Lengths 1, 4 words against 1, 16: log lengths vary half as much."""
    assert value("length_spread", each(["a", "a " * 4]), each(["b", "b " * 16])) == pytest.approx(np.log(2))


def test_answers_of_one_row_count_each() -> None:
    """Two rows: one with three answers of one opening, one with another. 3 of 4 lists against 1 of 2."""
    ours = [row("- a", "- a", "- a"), row("a")]
    made = {one.measure.name: one for one in family.differences([*ours, row("a"), row("- a")], Extras())}
    assert made["skeleton_concentration"].rows is None
    assert answer_shapes(ours).places == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert answer_shapes(ours).rows == 2
    table = np.array([[1, 1, 0, 0]], dtype=np.float32)
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    middle = (p + q) / 2

    def bits(x: np.ndarray) -> float:
        return float(-(x * np.log2(x)).sum())

    distance = bits(middle) - (bits(p) + bits(q)) / 2
    assert made["shape_distance"].statistic(table, 1 - table)[0] == pytest.approx(distance)


@pytest.mark.parametrize("share", [0.3, 0.1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_opening_is_found(share: float, seed: int, people: tuple[list[Row], list[Row]]) -> None:
    data, _ = with_opening(people[0], share, seed)
    found = weighed(data, people[1])
    assert found["opening_concentration"].p == pytest.approx(1 / 200)
    assert found["opening_concentration"].value == pytest.approx(share, abs=0.03)
    assert found["shape_distance"].p == pytest.approx(1 / 200)
    assert found["closing_concentration"].p > 0.01
    assert found["length_spread"].p > 0.01


def with_closing(rows: Sequence[Row], share: float) -> list[Row]:
    return [
        replace(one, answers=(f"{one.answer} I hope this helps!",)) if at < share * len(rows) else one
        for at, one in enumerate(rows)
    ]


def test_a_planted_closing_is_found(people: tuple[list[Row], list[Row]]) -> None:
    data = with_closing(people[0], 0.1)
    found = weighed(data, people[1])
    assert found["closing_concentration"].p == pytest.approx(1 / 200)
    assert found["opening_concentration"].p > 0.01
    told = shown("closing_concentration", data, people[1])
    assert told.lines[0] == "“… i hope this helps!” ends 10 % of answers (references 0 %)"
    assert marked("closing_concentration", data, told.rule or {}) == set(range(40))
    assert "… i hope this helps!" in " ".join(shown("shape_distance", data, people[1]).lines)


def with_layout(rows: Sequence[Row], share: float) -> list[Row]:
    """A sentence, a list of bold words, a sentence."""
    made = []
    for at, one in enumerate(rows):
        words = one.answer.split()
        text = f"{words[0]} so.\n1. **{words[-1]}** yes\n2. **{words[0]}** no\n3. **b** c\nEnd of {words[-1]}"
        made.append(replace(one, answers=(text,)) if at < share * len(rows) else one)
    return made


def test_a_planted_layout_is_found(people: tuple[list[Row], list[Row]]) -> None:
    data = with_layout(people[0], 0.9)
    found = weighed(data, people[1])
    assert found["shape_distance"].p == pytest.approx(1 / 200)
    for name in ("skeleton_concentration", "shape_entropy", "shape_distance"):
        told = shown(name, data, people[1])
        assert r"P \n1. **…** … (×n) \nP" in told.lines[0]
        assert " % of answers (references 0 %)" in told.lines[0]
        found_rows = marked(name, data, told.rule or {})
        assert found_rows <= set(range(360))
        assert len(found_rows) == 360 or (name == "shape_entropy" and len(found_rows) > 0.8 * 360)
        assert set(told.rows) <= set(range(360))


def test_layouts_that_are_all_one_are_found(people: tuple[list[Row], list[Row]]) -> None:
    """Two answers of three as one paragraph that ends with a full stop: what varies less is the layout, not the words."""
    data = [
        replace(one, answers=(" ".join(one.answer.replace("#", "").replace("- ", "").split())[:-1] + ".",))
        if at % 3
        else one
        for at, one in enumerate(people[0])
    ]
    found = weighed(data, people[1])
    assert found["shape_entropy"].p == found["skeleton_concentration"].p == pytest.approx(1 / 200)
    assert found["opening_concentration"].p > 0.01
    assert "equally common" in " ".join(shown("shape_entropy", data, people[1]).lines)


def halved(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """Answers with half the spread of log length, their mean kept."""
    rng = np.random.default_rng([seed, 77])
    logs = np.log([len(one.answer.split()) for one in rows])
    made = []
    for one, log in zip(rows, logs, strict=True):
        target = round(float(np.exp((log + logs.mean()) / 2)))
        words = one.answer.split(" ")
        while len(words) < target:
            words += sentence(rng).split(" ")
        made.append(replace(one, answers=(" ".join(words[:target]),)) if rng.random() < share else one)
    return made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_halved_spread_of_lengths_is_found(seed: int, people: tuple[list[Row], list[Row]]) -> None:
    found = weighed(halved(people[0], 1.0, seed), people[1])
    assert found["length_spread"].p == pytest.approx(1 / 200)
    assert found["length_spread"].value == pytest.approx(np.log(2), abs=0.1)
    assert weighed(with_less_spread(people[0], 0.5, seed)[0], people[1])["length_spread"].p == pytest.approx(1 / 200)
    told = shown("length_spread", halved(people[0], 1.0, seed), people[1])
    assert told.rule is None
    assert told.lines[0].startswith("data: half of the answers have ")


def test_no_plant_no_finding(people: tuple[list[Row], list[Row]]) -> None:
    found = weighed(*people)
    assert list(found) == NAMES
    assert min(one.p for one in found.values()) > 0.02
    for name in NAMES:
        assert not any((shown(name, *people).rule or {}).values())


@pytest.mark.parametrize("share", [0.3, 0.2, 0.1])
def test_marks_of_a_planted_opening(share: float, people: tuple[list[Row], list[Row]]) -> None:
    data, planted = with_opening(people[0], share, 5)
    told = shown("opening_concentration", data, people[1])
    first, rest = told.lines
    assert first == f"“{PLANT} …” begins {100 * share:.0f} % of answers (references 0 %)"
    assert rest.startswith(
        f"The commonest openings of three words: “Certainly! Here is …” {100 * share:.0f} % (references 0 %), "
    )
    assert told.rule == {"openings": [PLANT.lower()]}
    assert set(told.rows) <= planted
    assert marked("opening_concentration", data, told.rule) == planted
    combined = shown("shape_distance", data, people[1])
    assert combined.lines[0].startswith("`Certainly! Here is what I found for you: …`: ")
    assert marked("shape_distance", data, combined.rule or {}) == planted


def test_without_references_the_data_is_described_alone(people: tuple[list[Row], list[Row]]) -> None:
    data, planted = with_opening(people[0], 0.1, 5)
    told = shown("opening_concentration", data)
    assert told.lines[0] == f"“{PLANT} …” begins 10 % of answers"
    assert marked("opening_concentration", data, told.rule or {}) == planted
    assert all("references" not in line for name in NAMES for line in shown(name, data).lines)
    layouts = shown("skeleton_concentration", data)
    assert not {"p", "p+"} & set((layouts.rule or {}).get("skeletons", ()))


def test_a_plain_paragraph_is_never_marked() -> None:
    data, human = each([f"{name_of(at)} word." for at in range(100)]), each(["- a\n- b"] * 100)
    for name in ("skeleton_concentration", "shape_entropy", "shape_distance"):
        told = shown(name, data, human)
        assert "100 % of answers (references 0 %)" in told.lines[0]
        assert told.lines[0].startswith("`P")
        assert not marked(name, data, told.rule or {})


def test_a_narrow_opening_is_told_from_a_broad_one() -> None:
    """ "I like" begins 30 of 100 answers of people, too; only "I like to help" does not."""
    human = each(
        [f"I like w{chr(97 + at % 26)} w{at} x" for at in range(30)]
        + [f"w{chr(97 + at % 26)} x{at}" for at in range(70)]
    )
    data = [*human[:80], *each(["I like to help you with that"] * 20)]
    (one,) = over_represented(answer_shapes(data), answer_shapes(human), lambda shape: shape.opening)
    assert one.key == ("i", "like", "to", "help", "you", "with", "that")
    assert (one.share, one.reference_share) == (0.2, 0.0)
    assert one.where[0] == (80, 0)


def test_the_longest_prefix_that_stands_for_most() -> None:
    counts: list[dict[str, int]] = [
        {"sure": 100, "the": 50},
        {"sure i can": 85, "the cat is": 20},
        {"sure i can do": 50},
    ]
    assert readable(counts) == {"the": 50, "sure i can": 85, "the cat is": 20, "sure i can do": 50}


HOSTILE = ["", " ", "\0", "\ud83d", "\ud800 \udfff" * 9, "🎉" * 3, "مرحبا بالعالم", "当然！" * 50, "x" * 100_000, "a\n" * 30_000,
           "*" * 9999, "**" * 9999 + "\n- **", "1." * 999, "```", "\u2028\x85\x1c", "(" * 5000, "N N N", "| |\n" * 999]  # fmt: skip


def test_hostile_text(tmp_path: Path) -> None:
    data = [*each(HOSTILE), Row(98, "none", "", ()), row(*HOSTILE, number=99)] * 3
    folder = streamed([*data, row("x" * 10**6, " " * 10**6, "a\n" * 10**6, "当" * 10**6)], tmp_path / "part")
    told = streams.merge([folder], tmp_path, Extras(), [folder])
    assert told["answers"] == 3 * 2 * len(HOSTILE) + 4
    for made in (data, data[:1] * 9):
        for one in family.differences(made, Extras()):
            a = np.zeros((2, len(made)), dtype=np.float32)
            a[:, ::2] = 1
            assert np.isfinite(one.statistic(a, 1 - a)).all()
    for name in NAMES:
        for human in ([], data[: len(HOSTILE)]):
            told_lines = shown(name, data, human)
            "\n".join(told_lines.lines).encode()
            if told_lines.rule:
                family.flag_scores(data, {name: told_lines.rule}, Extras(), None)


def test_nothing_to_measure(tmp_path: Path) -> None:
    none = [Row(0, "0", "asked", ())]
    assert family.differences(none, Extras()) == []
    assert shown("opening_concentration", none).lines == ("No row has an answer.",)
    told = streams.merge([streamed(none, tmp_path / "a")], tmp_path, Extras())
    assert told["answers"] == 0
    assert told["length"]["quantiles"] == {}
    some = [*none, row("a b")]
    assert [one.rows for one in family.differences(some, Extras())] == [[1]] * 6


def test_columns(tmp_path: Path) -> None:
    stream = streams.Stream(tmp_path, Extras())
    told = stream.add([row("Yes it is. So."), row("yes IT is, no"), row("a b", "- c"), Row(3, "", "", ())])
    assert list(told) == ["format_words", "format_skeleton", "format_opening"]
    assert told["format_words"].tolist() == [4, 4, 4, 0]
    assert [one.dtype for one in told.values()] == [np.uint32, np.uint64, np.uint64]
    assert told["format_skeleton"][0] == told["format_skeleton"][1] != told["format_skeleton"][2]
    assert told["format_opening"][0] != told["format_opening"][1]


def test_parts_merge_to_the_whole(tmp_path: Path, people: tuple[list[Row], list[Row]]) -> None:
    data, planted = with_opening(people[0], 0.2, 3)
    whole = streams.merge([streamed(data, tmp_path / "all")], tmp_path, Extras())
    parts = [streamed(data[:17], tmp_path / "a", 3), streamed([], tmp_path / "b"), streamed(data[17:], tmp_path / "c")]
    assert streams.merge(parts, tmp_path, Extras()) == whole
    assert whole["answers"] == 400
    assert whole["count_error"] == 0
    first = whole["openings"][0]
    assert first == {"text": "certainly! here is what i found", "share": 0.2, "low": 0.2, "high": 0.2}
    assert len(planted) == 80
    words = sorted(len(one.answer.split()) for one in data)
    assert whole["length"]["quantiles"]["0.5"] == words[199]
    assert whole["length"]["quantiles"]["1"] == words[-1]
    human = streamed(people[1], tmp_path / "h")
    compared = streams.merge(parts, tmp_path, Extras(), [human])
    assert compared["openings"][0]["reference"] == {"low": 0, "high": 0}


def test_a_full_sketch_states_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More distinct openings than a sketch of 192 places holds: counts are bounded, whichever way the rows are cut."""
    monkeypatch.setattr(streams, "LG", 8)
    rng = np.random.default_rng(4)
    data = each(
        [f"{PLANT} {at}" if rng.random() < 0.2 else f"{name_of(at)} {name_of(at)} and so on." for at in range(3000)]
    )
    truth = sum(PLANT in one.answer for one in data) / 3000
    for number, cut in enumerate((1500, 100)):
        folders = [streamed(data[:cut], tmp_path / f"a{number}"), streamed(data[cut:], tmp_path / f"b{number}")]
        told = streams.merge(folders, tmp_path, Extras())
        first = told["openings"][0]
        assert first["low"] <= truth <= first["high"]
        assert first["high"] - first["low"] <= told["count_error"] / 3000 + 1e-12
        assert 0 < told["count_error"] <= 3.5 / 2**8 * 3000


def test_same_rows_same_bytes(tmp_path: Path, people: tuple[list[Row], list[Row]]) -> None:
    a, b = streamed(people[0], tmp_path / "a"), streamed(people[0], tmp_path / "b", 50)
    for path in sorted(a.iterdir()):
        assert path.read_bytes() == (b / path.name).read_bytes()
    first, second = (weighed(*people, DrawSettings(permutations=20, subsamples=2, halves=2)) for _ in range(2))
    assert first == second


def test_long_answers_are_counted_to_a_thousandth() -> None:
    for words in (0, 4095, 4096, 5001, 123_457, 10**8):
        assert 0 <= words - streams.length_bucket(words) <= words / 2048
    assert streams.length_bucket(4095) == 4095


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("alpaca_eval_gpt4_1106_preview.json", "“Certainly! …” begins 9.6 % of answers (references 0 %)"),
        ("alpaca_en_demo.json", "“Here is …” begins 3.0 % of answers (references 0 %)"),
    ],
)
def test_real_answers(name: str, told: str, data_folder: Path) -> None:
    def rows(name: str) -> list[Row]:
        path = data_folder / "instruct" / name
        if not path.exists():
            pytest.skip(f"{name} is not in PYRITE_DATA")
        return list(as_rows(open_records(path, ReadOptions(on_bad_row="skip"))))

    data, human = rows(name), [*rows("human_user_oriented.jsonl"), *rows("human_seed_tasks.jsonl")]
    found = weighed(data, human)
    assert found["opening_concentration"].p == found["shape_distance"].p == pytest.approx(1 / 200)
    assert told in shown("opening_concentration", data, human).lines
