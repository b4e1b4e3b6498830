"""Duplicates: values by hand, planted copies found, clean data silent, parts merged to the same, hostile texts."""

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.audit.planted import human_rows, with_near_duplicates

from pyrite.audit import copy_clusters, minhash, sketch_files, word_hashes
from pyrite.audit.baselines import DrawSettings, measure_difference
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.duplicates import statistics as duplicates
from pyrite.audit.flaws.duplicates import stream as streams
from pyrite.audit.flaws.duplicates.evidence import evidence
from pyrite.audit.rows import Row


@functools.cache
def people(seed: int) -> list[Row]:
    return human_rows(300, seed)


DRAWS = DrawSettings(permutations=399, subsamples=5, halves=20)
NONE = Extras()


def row(number: int, text: str) -> Row:
    return Row(number, f"r{number}", "", (text,))


def rows_of(*texts: str) -> list[Row]:
    return [row(number, text) for number, text in enumerate(texts)]


def streamed(rows: Sequence[Row], folder: Path, parts: int = 1, batch: int = 1000) -> list[Path]:
    """The folders of a data set in parts: part k has the rows whose number leaves the remainder k."""
    made = []
    for part in range(parts):
        made.append(folder / f"part-{part}")
        made[-1].mkdir(parents=True)
        stream = streams.Stream(made[-1], NONE)
        own = [one for one in rows if one.number % parts == part]
        for at in range(0, len(own), batch):
            stream.add(own[at : at + batch])
        stream.close()
    return made


def merged(rows: Sequence[Row], folder: Path, reference: Sequence[Path] = (), **how: int) -> tuple[dict, Path]:
    out = folder / "out"
    out.mkdir(parents=True)
    return streams.merge(streamed(rows, folder / "in", **how), out, NONE, reference), out


def difference(name: str, rows: Sequence[Row], extras: Extras = NONE):
    return next(one for one in duplicates.differences(rows, extras) if one.measure.name == name)


def groups(a: Sequence[int], b: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    made = np.zeros((2, 1, size), dtype=np.float32)
    made[0, 0, a] = made[1, 0, b] = 1
    return made[0], made[1]


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


# --- words and sketches -----------------------------------------------------------------------------------------------


def test_case_space_and_punctuation_make_no_difference_but_words_do() -> None:
    keys = minhash.sketches(["Äpfel, don't!", "äpfel  DON’T", "äpfel dont", "A\u0308pfel don t"]).keys
    assert keys[0] == keys[1] == keys[3]
    assert keys[0] != keys[2]


def test_words_of_scripts_without_spaces_are_those_of_a_dictionary_and_vowel_signs_stay() -> None:
    assert [word.decode() for word in word_hashes.words("你好，world 的")] == ["你好", "world", "的"]
    assert [word.decode() for word in word_hashes.words("น้ำเป็นสิ่งสำคัญ")] == ["น้ำ", "เป็น", "สิ่ง", "สำคัญ"]
    assert [word.decode() for word in word_hashes.words("किताब कातिब")] == ["किताब", "कातिब"]


def test_texts_without_words_are_compared_as_written() -> None:
    keys = minhash.sketches(["😀", "😀 ", "🙃", "", "  "]).keys
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == keys[4] != keys[0]


def test_ngrams_do_not_cross_rows() -> None:
    texts = [[b"a", b"b", b"c", b"d"], [], [b"a", b"b"], [b"b", b"c", b"d"]]
    found, places = word_hashes.grams(word_hashes.text_hashes(texts), 3)
    assert found.starts.tolist() == [0, 2, 2, 2, 3]
    assert places.tolist() == [0, 1, 6]
    assert found.hashes[1] == found.hashes[2] != found.hashes[0]


@pytest.mark.parametrize(("shared", "own"), [(100, 43), (60, 60), (150, 10)])
def test_the_sketch_estimates_jaccard_within_its_error(shared: int, own: int) -> None:
    rng = np.random.default_rng(shared)
    texts = []
    for _ in range(100):
        words = [f"w{at}" for at in rng.integers(0, 10**9, shared + 2 * own)]
        texts += [" ".join(words[: shared + own]), " ".join(words[:shared] + words[shared + own :])]
    true = (shared - 2) / (shared - 2 + 2 * own)
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    exact = [
        duplicates.jaccard_of(word_hashes.trigrams(word_hashes.words(a)), word_hashes.trigrams(word_hashes.words(b)))
        for a, b in pairs
    ]
    assert exact == pytest.approx([true] * 100)
    made = minhash.sketches(texts)
    told = minhash.jaccard(minhash.agreement(made.signatures[::2], made.signatures[1::2]))
    error = (true * (1 - true) / 128) ** 0.5
    assert abs(told.mean() - true) < 3 * error / 10
    assert np.mean(np.abs(told - true) <= 2 * error) > 0.9


# --- the whole --------------------------------------------------------------------------------------------------------


def test_counts_and_arrays_by_hand(tmp_path: Path) -> None:
    near = LONG.replace("sixteen", "seventeen")  # 13 of 15 trigrams shared: 13 / 15 = 0.87
    rows = rows_of("x y", LONG, "X, Y!", near, "other words altogether that nobody else has", LONG.upper(), "x y.")
    told, out = merged(rows, tmp_path)
    assert told["exact"] == {"rows": 5, "share": 5 / 7, "groups": 2, "copies": 3}
    assert told["near"] == {"rows": 3, "share": 3 / 7, "groups": 1, "copies": 2}
    assert np.load(out / "exact_of.npy").tolist() == [0, 1, 0, 3, 4, 1, 0]
    assert np.load(out / "copy_of.npy").tolist() == [0, 1, 0, 1, 4, 1, 0]
    assert told["recall_at_threshold"] == pytest.approx(0.9900, abs=1e-4)
    assert told["bytes_per_row"] == sketch_files.BYTES + 16 < 900
    assert sorted(path.name for path in out.iterdir()) == ["copy_of.npy", "exact_of.npy"]
    marked = duplicates.flag_scores(rows, {"exact": {}, "near": {}}, NONE, out)
    assert marked["exact"].tolist() == [0, 0, 1, 0, 0, 1, 1]
    assert marked["near"].tolist() == [0, 0, 1, 1, 0, 1, 1]
    alone = duplicates.flag_scores(rows, {"exact": {}, "near": {}}, NONE, None)
    assert {name: found.tolist() for name, found in alone.items()} == {k: v.tolist() for k, v in marked.items()}


def test_copies_of_the_reference(tmp_path: Path) -> None:
    reference = streamed(rows_of("nothing to see", LONG, "x y"), tmp_path / "reference")
    rows = rows_of("X y", "a text of its own", LONG + " end", "x  y", LONG)
    told, out = merged(rows, tmp_path, reference)
    assert told["against_reference"] == {"rows": 4, "share": 0.8, "numbers": [0, 2, 3, 4]}
    assert np.load(out / "reference_of.npy").tolist() == [2, -1, 1, 2, 1]
    marked = duplicates.flag_scores(rows, {"against_reference": {}}, NONE, out)["against_reference"]
    assert marked.tolist() == pytest.approx([0.9, 0, 0.9, 0.9, 0.9])
    found = {one.measure.name: one for one in duplicates.alone_from_totals(told)}
    assert set(found) == {"exact", "near", "against_reference"}
    assert (found["against_reference"].value, found["against_reference"].threshold) == (0.8, 0.01)
    assert found["against_reference"].null is None
    shown = evidence(
        "against_reference", Population(rows, told), {"h": Population(rows_of("q", LONG, "x y"), {})}, NONE
    )
    assert shown.lines[0] == "80.0% of rows (4) are copies, or nearly, of reference rows"
    assert set(shown.rows) == {0, 2, 3, 4}


def test_parts_make_no_difference(tmp_path: Path) -> None:
    rows, _ = with_near_duplicates(people(1), 0.3, 3)
    rows = [replace(rows[at % 300], number=at, id=str(at)) for at in range(400)]
    others = [replace(one, number=at) for at, one in enumerate(rows[::9])]
    results = []
    for parts, batch in ((1, 400), (3, 50), (2, 7)):
        where = tmp_path / str(parts)
        reference = streamed(others, where / "reference", parts=parts)
        told, out = merged(rows, where, reference, parts=parts, batch=batch)
        arrays = [(out / name).read_bytes() for name in ("exact_of.npy", "copy_of.npy")]
        results.append((told, arrays, (np.load(out / "reference_of.npy") >= 0).tolist()))
    assert results[0] == results[1] == results[2]
    assert results[0][0]["near"]["copies"] >= 90


def test_partitions_and_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = with_near_duplicates(people(1), 0.3, 5)
    once, out = merged(rows, tmp_path / "once")
    monkeypatch.setattr(copy_clusters, "PARTITION", 100)
    for module in (copy_clusters, duplicates, sketch_files, streams):
        monkeypatch.setattr(module, "CHUNK", 64)
    again, other = merged(rows, tmp_path / "again")
    assert once == again
    assert (out / "copy_of.npy").read_bytes() == (other / "copy_of.npy").read_bytes()


def test_files_of_one_data_set_are_numbered_on(tmp_path: Path) -> None:
    one, two = streamed(rows_of("a b", "c d"), tmp_path / "1"), streamed(rows_of("c d", "a b", "e"), tmp_path / "2")
    (tmp_path / "out").mkdir()
    told = streams.merge([*one, *two], tmp_path / "out", NONE, offsets=[0, 2])
    assert told["rows"] == 5
    assert np.load(tmp_path / "out" / "exact_of.npy").tolist() == [0, 1, 1, 0, 4]


def test_no_rows(tmp_path: Path) -> None:
    told, _ = merged([], tmp_path)
    assert told == {"rows": 0}
    assert duplicates.alone_from_totals(told) == []


def test_many_identical_rows_cost_no_quadratic_time(tmp_path: Path) -> None:
    rows = [row(at, LONG) for at in range(10_000)]
    began = time.perf_counter()
    told, _ = merged(rows, tmp_path)
    assert told["exact"] == {"rows": 10_000, "share": 1.0, "groups": 1, "copies": 9_999}
    assert told["near"]["rows"] == 0
    made = duplicates.differences(rows[:2000], NONE)
    a, b = groups(range(1000), range(1000, 2000), 2000)
    assert [float(one.statistic(a, b)[0]) for one in made] == [0, 0]
    assert time.perf_counter() - began < 10


def test_many_rows_that_are_nearly_the_same(tmp_path: Path) -> None:
    rows = [row(at, f"{LONG} {LONG[::-1]} {at}") for at in range(2000)]
    began = time.perf_counter()
    told, _ = merged(rows, tmp_path)
    assert told["near"] == {"rows": 2000, "share": 1.0, "groups": 1, "copies": 1999}
    found = difference("near", rows)
    a, b = groups(range(1000), range(1000, 2000), 2000)
    assert abs(float(found.statistic(a, b)[0])) < 0.01
    assert time.perf_counter() - began < 10


# --- the sample -------------------------------------------------------------------------------------------------------


def test_statistics_by_hand() -> None:
    near = LONG.replace("sixteen", "seventeen")
    rows = rows_of("a b", LONG, "a, b", near, "A B", "something else that is all its own")
    a, b = groups([0, 1, 2, 3], [4, 5], 6)
    assert difference("exact", rows).statistic(a, b).tolist() == [0.5]
    assert difference("near", rows).statistic(a, b).tolist() == [0.5]
    a, b = groups([0, 1, 5], [2, 3, 4], 6)
    assert difference("exact", rows).statistic(a, b).tolist() == pytest.approx([-2 / 3])
    assert difference("near", rows).statistic(a, b).tolist() == [0]


def test_semantic_leaves_out_what_is_near_and_needs_embeddings() -> None:
    rows = rows_of(LONG, LONG + " end", "quite another way to put this here", "nothing like any of them at all")
    assert [one.measure.name for one in duplicates.differences(rows, NONE)] == ["exact", "near"]
    assert duplicates.alone(rows, NONE) == []
    embeddings = np.array([[1, 0], [1, 0], [0.96, 0.28], [0, 1]], dtype=np.float32)
    extras = Extras(embeddings=embeddings)
    found = difference("semantic", rows, extras)
    assert found.statistic(*groups([0, 1], [2, 3], 4)).tolist() == [0]
    assert found.statistic(*groups([0, 2], [1, 3], 4)).tolist() == [1]
    assert duplicates.alone(rows, extras)[0].value == 0.75
    shown = evidence("semantic", Population(rows, {}), {}, extras)
    assert shown.rows == (0, 1, 2)
    assert duplicates.flag_scores(rows, {"semantic": shown.rule}, NONE, None)["semantic"].tolist() == [0, 1, 1, 0]


def brute(rows: Sequence[Row]) -> set[tuple[int, int]]:
    sets = [set(word_hashes.trigrams(word_hashes.words(one.text)).tolist()) for one in rows]
    pairs = ((x, y) for x in range(len(rows)) for y in range(x))
    return {(y, x) for x, y in pairs if len(sets[x] & sets[y]) >= 0.7 * len(sets[x] | sets[y]) > 0}


def test_pairs_are_those_of_the_slow_way() -> None:
    rows, _ = with_near_duplicates(people(1), 0.3, 8)
    found = duplicates.find_pairs(rows, None)
    texts = {int(text): place for place, text in reversed(list(enumerate(found.text_of)))}
    made = {tuple(sorted((texts[a], texts[b]))) for a, b in zip(*map(np.ndarray.tolist, found.near[:2]), strict=True)}
    long = {at for at, one in enumerate(rows) if len(word_hashes.words(one.text)) >= 5}
    wanted = {(x, y) for x, y in brute(rows) if x in long and y in long and found.text_of[x] != found.text_of[y]}
    assert len(wanted) > 50
    assert len(wanted & made) >= 0.97 * len(wanted)
    assert made <= wanted


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_planted_copies_are_found_and_marked(share: float, tmp_path: Path) -> None:
    rows, planted = with_near_duplicates(people(1), share, 1)
    sample = [*rows, *people(2)]
    found = measure_difference(difference("near", sample), range(300), {"h": range(300, 600)}, DRAWS)
    assert found is not None
    assert found.p == 1 / 400
    told, out = merged(rows, tmp_path)
    cluster = np.load(out / "copy_of.npy")
    marked = duplicates.flag_scores(rows, {"near": {}}, NONE, out)["near"] >= 0.5
    flagged = set(cluster[marked].tolist())
    ours = set(cluster[sorted(planted)].tolist())
    assert np.mean([cluster[at] in flagged for at in planted]) >= 0.9
    assert np.mean([one in ours for one in cluster[marked].tolist()]) >= 0.9
    assert told["near"]["copies"] == marked.sum()


def test_the_unplanted_twin_is_silent() -> None:
    for one in duplicates.differences([*people(1), *people(2)], NONE):
        found = measure_difference(one, range(300), {"h": range(300, 600)}, DRAWS)
        assert found is not None
        assert found.p > 0.05


def test_evidence_names_the_largest_group_first() -> None:
    rows = rows_of("a b", "c d e", "C, D e", "c d e!", "A. B.", "alone")
    shown = evidence("exact", Population(rows, {}), {"h": Population(rows_of("p", "q"), {})}, NONE)
    assert shown.lines[0] == "83.3% of rows (5 of 6) repeat another row word for word (references 0.0%)"
    assert shown.lines[1] == "3 rows of the sample: “c d e” (ids r1, r2, r3)"
    assert shown.rows == (1, 2, 3, 0, 4)
    known = {"rows": 1000, "exact": {"rows": 10, "share": 0.01}}
    shown = evidence("exact", Population(rows, known), {}, NONE)
    assert shown.lines[0] == "1.0% of rows (10 of 1,000) repeat another row word for word"


HOSTILE = [
    "",
    "\0",
    "\ud800 lone",
    "مرحبا " * 9,
    "你好世界再见了" * 3,
    "😀",
    "a\u0301" * 50,
    "x" * 300_000,
    "ﷺ" * 30_000,
]


def test_hostile_texts(tmp_path: Path) -> None:
    rows = rows_of(*HOSTILE, *HOSTILE)
    told, out = merged(rows, tmp_path)
    assert told["exact"]["groups"] == len(HOSTILE)
    assert np.load(out / "exact_of.npy").tolist() == [*range(len(HOSTILE))] * 2
    duplicates.differences(rows, NONE)
    evidence("near", Population(rows, told), {}, NONE)


def test_a_row_of_100_megabytes_is_bounded_work(tmp_path: Path) -> None:
    huge = "lorem ipsum dolor " * 5_600_000
    began = time.perf_counter()
    told, _ = merged(rows_of(huge, huge, huge + "x"), tmp_path)
    assert told["exact"]["rows"] == 2
    assert time.perf_counter() - began < 5


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    rows, _ = with_near_duplicates(people(1), 0.2, 4)
    one, two = (streamed(rows, tmp_path / name)[0] for name in "ab")
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in sketch_files.COLUMNS)


@pytest.mark.real
def test_real_data(tmp_path: Path) -> None:
    from pyrite.audit.rows import as_rows
    from pyrite.io import ReadOptions, open_records

    path = Path(os.environ.get("PYRITE_DATA", "")) / "instruct/alpaca_en_demo.json"
    if not path.exists():
        pytest.skip("instruct/alpaca_en_demo.json is not in PYRITE_DATA")
    told, _ = merged(list(as_rows(open_records(path, ReadOptions(on_bad_row="skip")))), tmp_path)
    assert (told["rows"], told["exact"]["rows"], told["exact"]["groups"]) == (999, 27, 13)


def test_shares_of_copies_in_words() -> None:
    totals = {"exact": {"rows": 9, "share": 1.0, "groups": 4}, "near": {"rows": 3, "share": 0.0996, "groups": 1}}
    assert streams.notes(totals) == [
        "of all rows, 9 (100 %) repeat another row word for word (in 4 groups)",
        "of all rows, 3 (10 %) are nearly another row (in 1 groups)",
    ]
