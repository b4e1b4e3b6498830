"""Diversity: n-gram measures by hand, planted repetition found, merges within the stated error, hostile text."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.planted import WORDS, chosen, human_rows

from pyrite.audit.baselines import DrawSettings, Measurement, measure_difference
from pyrite.audit.flaw import Difference, Extras, Population
from pyrite.audit.flaws.diversity import statistics as diversity
from pyrite.audit.flaws.diversity import stream as streams
from pyrite.audit.flaws.diversity import words as text_words
from pyrite.audit.flaws.diversity.evidence import evidence
from pyrite.audit.rows import Row

QUICK = DrawSettings(permutations=199, subsamples=4, halves=6)
HOSTILE = [
    "",
    " ",
    "\x00",
    "a",
    "שלום עולם שלום",
    "你好世界" * 400,
    "\U0001f600" * 9,
    "\ud83d x",
    "!!! ...",
    "a b " * 250_000,
    "x" * 1_000_000,
]


def rows_of(texts: Sequence[str]) -> list[Row]:
    return [Row(number, f"r{number}", "", (text,)) for number, text in enumerate(texts)]


def one(rows: Sequence[Row], name: str) -> Difference:
    return next(made for made in diversity.differences(rows, Extras()) if made.measure.name == name)


def weighed(name: str, data: Sequence[Row], human: Sequence[Row]) -> Measurement:
    n = len(data)
    made = measure_difference(one([*data, *human], name), range(n), {"human": range(n, n + len(human))}, QUICK)
    assert made is not None
    return made


def value(name: str, ours: Sequence[str], theirs: Sequence[str]) -> float:
    a = np.zeros((1, len(ours) + len(theirs)), dtype=np.float32)
    a[0, : len(ours)] = 1
    return float(one(rows_of([*ours, *theirs]), name).statistic(a, 1 - a)[0])


def streamed(rows: Sequence[Row], folder: Path, batch: int = 16) -> list[Any]:
    folder.mkdir()
    stream = streams.Stream(folder, Extras())
    made = [stream.add(rows[at : at + batch]) for at in range(0, len(rows), batch)]
    stream.close()
    return made


def recycled(rows: Sequence[Row], share: float, seed: int, pool: Sequence[str]) -> list[Row]:
    """A share of the answers is replaced by one of a few answers."""
    made = list(rows)
    for at in chosen(rows, share, seed):
        made[at] = replace(made[at], answers=(pool[at % len(pool)],))
    return made


# -- by hand


def test_distinct_by_hand() -> None:
    """a: (x y) (y x) (x y) | (x y): 2 of 4 differ. b: (x y) | (p q) (q r): 3 of 3."""
    assert value("distinct_2", ["x y x y", "x y"], ["x y", "p q r"]) == pytest.approx(3 / 3 - 2 / 4)
    assert value("distinct_3", ["x y z", "X, y - z!"], ["x y z", "p q r"]) == pytest.approx(2 / 2 - 1 / 2)
    assert value("distinct_2", ["x"], [""]) == 0


def test_only_the_first_sixty_words_count_for_distinct() -> None:
    long = " ".join(f"w{at}" for at in range(60))
    assert value("distinct_2", [long + " w0 w1" * 50], [long]) == 0


def test_cross_row_repetition_by_hand() -> None:
    """a's two rows share one of their 2 + 2 five-grams: 2 of 4. b's share none, though one repeats within its row."""
    ours = ["a b c d e f", "x a b c d e"]
    assert value("cross_row_repetition", ours, ["p q r s t p q r s t", "k l m n o"]) == pytest.approx(0.5)


def test_novelty_by_hand() -> None:
    """a: 4-grams abcd (2 rows) and wxyz; b: abcd, bcde, mnop. 2 of a's 3 stand in b."""
    assert value("novelty", ["a b c d", "a b c d", "w x y z"], ["a b c d e", "m n o p"]) == pytest.approx(2 / 3)


def test_self_repetition_by_hand() -> None:
    """Eight words of period four hold 5 4-grams, the last being the first again: 1 of 5."""
    made, count = text_words.self_repetition(text_words.words_of(["a b c d a b c d", "a b c", "q w e r t", "a " * 10]))
    np.testing.assert_allclose(made, [0.2, np.nan, 0, 6 / 7], rtol=1e-6)
    assert count.tolist() == [5, 0, 2, 7]
    assert value("self_repetition", ["a b c d a b c d"], ["q w e r t"]) == pytest.approx(0.2)
    difference = one(rows_of(["a b c", "a b c d"]), "self_repetition")
    assert difference.rows == [1]


def test_statistics_are_those_of_the_slow_way() -> None:
    rows = recycled(human_rows(40, 1), 0.5, 1, [row.answer for row in human_rows(3, 9)])
    rng = np.random.default_rng(0)
    a = np.zeros((3, 40), dtype=np.float32)
    b = a.copy()
    for at in range(3):
        order = rng.permutation(40)
        a[at, order[: 15 + at]], b[at, order[-15 - at :]] = 1, 1

    def grams(text: str, n: int, first: int | None = None) -> list[tuple[str, ...]]:
        words = text_words.words_in(text)[:first]
        return list(zip(*(words[at:] for at in range(n)), strict=False))

    made = {difference.measure.name: difference.statistic(a, b) for difference in diversity.differences(rows, Extras())}
    for at in range(3):
        sides = [[rows[int(k)].answer for k in np.flatnonzero(some[at])] for some in (a, b)]
        for n in (2, 3):
            every = [[gram for text in side for gram in grams(text, n, 60)] for side in sides]
            x, y = (len(set(some)) / len(some) for some in every)
            assert made[f"distinct_{n}"][at] == pytest.approx(y - x, abs=1e-9)
        held = [[set(grams(text, 4)) for text in side] for side in sides]
        both = [set().union(*side) for side in held]
        known = sum(len(row & both[1]) for row in held[0]) / sum(map(len, held[0]))
        assert made["novelty"][at] == pytest.approx(known, abs=1e-6)
        fives = [[set(grams(text, 5)) for text in side] for side in sides]
        again = [
            sum(
                gram in other
                for k, row in enumerate(side)
                for gram in row
                for other in [set().union(*side[:k], *side[k + 1 :])]
            )
            / sum(map(len, side))
            for side in fives
        ]
        assert made["cross_row_repetition"][at] == pytest.approx(again[0] - again[1], abs=1e-6)


# -- planted


def test_recycled_answers_are_found_and_the_twin_is_silent() -> None:
    data, human = human_rows(200, 1), human_rows(200, 2)
    pool = [row.answer for row in human_rows(4, 9)]
    planted = recycled(data, 0.3, 1, pool)
    for name in ("distinct_2", "distinct_3", "cross_row_repetition"):
        assert weighed(name, planted, human).p == pytest.approx(1 / 200), name
        assert weighed(name, data, human).p > 0.02, name
    shown = evidence("cross_row_repetition", Population(planted, {}), {"h": Population(human, {})}, Extras())
    assert "references 0 %" in shown.lines[0]
    spoken = {" ".join(text_words.words_in(text)) for text in pool}
    assert any(shown.values["ngrams"][0]["text"] in text for text in spoken)
    assert set(shown.rows) <= set(chosen(data, 0.3, 1).tolist())


def test_data_that_says_what_the_references_say_is_less_novel() -> None:
    data, human = human_rows(200, 1), human_rows(200, 2)
    planted = recycled(data, 0.4, 1, [row.answer for row in human[:5]])
    assert weighed("novelty", planted, human).p == pytest.approx(1 / 200)
    assert weighed("novelty", data, human).p > 0.02
    assert weighed("novelty", planted, human).value > 0


def test_loops_are_found_and_marked() -> None:
    data, human = human_rows(200, 1), human_rows(200, 2)
    where = set(chosen(data, 0.1, 1).tolist())
    planted = [
        replace(row, answers=(row.answer + " over and over we go" * 20,)) if row.number in where else row
        for row in data
    ]
    assert weighed("self_repetition", planted, human).p == pytest.approx(1 / 200)
    assert weighed("self_repetition", data, human).p > 0.02
    shown = evidence("self_repetition", Population(planted, {}), {"h": Population(human, {})}, Extras())
    assert shown.rule == {"above": 0.3}
    assert "over and over we" in " ".join(shown.lines) or "and over we go" in " ".join(shown.lines)
    marked = diversity.flag_scores(planted, {"self_repetition": shown.rule}, Extras(), None)["self_repetition"]
    found = set(np.flatnonzero(marked >= 0.5).tolist())
    assert len(found & where) >= 0.8 * len(where)
    assert len(found & where) >= 0.8 * len(found)
    assert diversity.flag_scores(planted, {}, Extras(), None) == {}


# -- the whole


def test_columns_and_compression(tmp_path: Path) -> None:
    rows = rows_of(["a b c d a b c d", "", "x " * 500])
    (columns,) = streamed(rows, tmp_path / "a")
    np.testing.assert_allclose(columns["diversity_self_repetition"], [0.2, np.nan, 496 / 497], rtol=1e-6)
    said = [8 * 2 - 1, 1000]
    sizes = [len(zlib.compress(rows[at].answer.encode(), 6)) for at in (0, 2)]
    np.testing.assert_allclose(
        columns["diversity_compression"], [said[0] / sizes[0], np.nan, said[1] / sizes[1]], rtol=1e-6
    )
    assert {made.dtype for made in columns.values()} == {np.dtype(np.float32)}
    varied, copied = (
        human_rows(300, 1),
        recycled(human_rows(300, 1), 0.5, 1, ["the same answer to all of these questions"]),
    )
    streamed(varied, tmp_path / "b")
    streamed(copied, tmp_path / "c")
    told = streams.merge([tmp_path / "b"], tmp_path, Extras(), [tmp_path / "c"])
    assert told["compression"] < told["reference"]["compression"]
    assert told["bytes"] == sum(len(row.answer.encode()) + 1 for row in varied)


def test_parts_merge_within_the_stated_error(tmp_path: Path) -> None:
    rows = human_rows(400, 1)
    for name, some in {"all": rows, "one": rows[:150], "two": rows[150:], "no": []}.items():
        streamed(some, tmp_path / name, 37)
    whole = streams.merge([tmp_path / "all"], tmp_path, Extras())
    parts = streams.merge([tmp_path / name for name in ("no", "two", "one")], tmp_path, Extras())
    for told in (whole, parts):
        told.pop("compression")
    assert whole == parts
    words = text_words.words_of([row.answer for row in rows])
    for n in (2, 3):
        told, true = whole[f"distinct_{n}"], len(np.unique(words.grams(n, 60)[0]))
        assert told["of"] == len(words.grams(n, 60)[0])
        assert abs(told["distinct"] / true - 1) <= 4 * told["error"]
    share = text_words.self_repetition(words)[0]
    true = np.quantile(share[~np.isnan(share)], 0.99, method="inverted_cdf")
    assert whole["self_repetition"]["q99"] == pytest.approx(true, abs=0.00051)
    assert streams.merge([tmp_path / "no"], tmp_path, Extras()) == {"rows": 0}


def test_blocks_of_compression_cover_every_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rows_of([" ".join(rng.choice(WORDS, 400_000)), "", "short"])
    streamed(rows, tmp_path / "a", 1)
    told = json.loads((tmp_path / "a" / "counts.json").read_text())
    assert told["bytes"] == sum(
        len(row.answer.encode()) + 1 for row in rows if row.answer
    )  # an empty text is no answer
    assert told["squeezed"] < told["bytes"]


# -- hostile, repeated


def test_hostile_rows_go_through_everything(tmp_path: Path) -> None:
    rows, human = rows_of(HOSTILE), human_rows(20, 1)
    streamed(rows, tmp_path / "a")
    json.dumps(streams.merge([tmp_path / "a"], tmp_path, Extras()))
    for difference in diversity.differences([*rows, *human], Extras()):
        n = len(rows)
        made = measure_difference(difference, range(n), {"human": range(n, n + 20)}, replace(QUICK, permutations=9))
        assert made is not None
        assert np.isfinite(made.value)
    for measure in diversity.STATISTICS:
        for references in ({}, {"human": Population(human, {})}):
            shown = evidence(measure.name, Population(rows, {}), references, Extras())
            json.dumps(dict(shown.values))
            assert all(len(line) < 200 for line in shown.lines)
    assert (
        diversity.flag_scores(rows, {"self_repetition": {"above": 0.3}}, Extras(), None)["self_repetition"].max() <= 1
    )
    assert diversity.flag_scores([], {"self_repetition": {"above": 0.3}}, Extras(), None)["self_repetition"].shape == (
        0,
    )


def test_words_of_other_scripts() -> None:
    assert text_words.words_in("Hi, 你好世界 don't") == ["hi", "你好", "世界", "don", "t"]
    assert text_words.words_in("किताब नहीं, كِتَابٌ") == ["किताब", "नहीं", "كِتَابٌ"]


def test_the_same_twice(tmp_path: Path) -> None:
    rows = human_rows(60, 1)
    for name in ("a", "b"):
        streamed(rows, tmp_path / name)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    pair = [evidence("distinct_2", Population(rows, {}), {}, Extras()) for _ in (1, 2)]
    assert pair[0] == pair[1]
