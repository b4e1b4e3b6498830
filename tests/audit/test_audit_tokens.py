"""Token frequencies: values worked by hand, planted topics found, exact merges, the cache of pieces changes nothing."""

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.audit.planted import TOPIC, WORDS, human_rows, with_opening, with_topic

from pyrite.audit.baselines import DrawSettings, Measurement, measure_difference
from pyrite.audit.flaw import Difference, Extras, Population
from pyrite.audit.flaws.tokens import frequencies
from pyrite.audit.flaws.tokens import statistics as tokens
from pyrite.audit.flaws.tokens import stream as streams
from pyrite.audit.flaws.tokens.boilerplate import BOILERPLATE, phrases_in
from pyrite.audit.flaws.tokens.boilerplate_elsewhere import ELSEWHERE
from pyrite.audit.flaws.tokens.evidence import evidence
from pyrite.audit.flaws.tokens.tokenise import Pieces, Tokenize, well_formed
from pyrite.audit.rows import Row, as_rows

QUICK = DrawSettings(permutations=199, subsamples=4, halves=6)


@cache
def bpe() -> Callable[[Sequence[str]], list[list[int]]]:
    """A byte-level BPE of GPT-2's kind, trained on the made-up words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([row.answer for row in human_rows(300, 77)], trainer)
    return lambda texts: [one.ids for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@cache
def llama() -> Callable[[Sequence[str]], list[list[int]]]:
    """A byte-level BPE whose marks take the line ends after them along, as Llama 3's do."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    cut = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(
        [*(row.answer for row in human_rows(200, 77)), *[".\n\n"] * 99, *["\n\n"] * 99], trainer
    )
    return lambda texts: [one.ids for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def by_word(texts: Sequence[str]) -> list[list[int]]:
    """Each word between spaces is a token: a hash of it."""
    return [[zlib.crc32(word.encode()) % 65521 for word in text.split()] for text in texts]


def rows_of(texts: Sequence[str]) -> list[Row]:
    return [Row(number, f"r{number}", "", (text,)) for number, text in enumerate(texts)]


def one(differences: Sequence[Difference], name: str) -> Difference:
    return next(difference for difference in differences if difference.measure.name == name)


def weighed(name: str, data: Sequence[Row], human: Sequence[Row], extras: Extras) -> Measurement:
    made = measure_difference(
        one(tokens.differences([*data, *human], extras), name),
        range(len(data)),
        {"human": range(len(data), len(data) + len(human))},
        QUICK,
    )
    assert made is not None
    return made


def groups(n: int, ours: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    a = np.zeros((1, n), dtype=np.float32)
    a[0, list(ours)] = 1
    return a, 1 - a


HOSTILE = [
    "", " ", "\n\n", "a", " a", "a ", "\x00", "x\x00 y", "\U0001f600", "\U0001f468‍\U0001f469‍\U0001f467 hi", "שלום עולם", "你好，世界。再见",
    "na\u00efve caf\u00e9, r\u00e9sum\u00e9.", "tab\tand\x0bvt\x0cff\x1cfs\x85nel", "a\u00a0b\u3000c \u2003 d", "don't can't I'LL it's's ''t",
    "end.\n\nNext:\n- item (one)\n  - two\n\n\n", "\r\n\r\nwin\r\ndows \r\n", "1,234.56 3rd $5 #tag @me a_b a-b a/b",
    "e\u0301 a\u0308b \u00bd x\u00b2", "\ud83d lone \udc00", "<|endoftext|> <s>", "!?!?  ...  --\n", "word" * 3000, "€5,\u200bzero \u200f rtl",
]  # fmt: skip


# -- pieces


@pytest.mark.parametrize(("make", "plan"), [(bpe, "words"), (llama, "lines"), (lambda: by_word, "spaces")])
def test_ids_from_pieces_are_those_of_whole_texts(make: Callable[[], Tokenize], plan: str) -> None:
    tokenize = make()
    texts = [well_formed(text) for text in HOSTILE] + [row.answer for row in human_rows(60, 5)]
    pieces = Pieces(tokenize)
    for _ in range(2):  # fresh, then from the cache
        ids, bounds = pieces.ids(texts)
        assert pieces.plan == plan
        for low, high, true in zip(bounds, bounds[1:], tokenize(texts), strict=False):
            assert ids[low:high].tolist() == true


def test_a_tokenizer_that_cuts_do_not_fit_is_asked_for_whole_texts() -> None:
    def begins(texts: Sequence[str]) -> list[list[int]]:
        return [[0, *(ord(sign) for sign in text)] for text in texts]

    pieces = Pieces(begins)
    ids, bounds = pieces.ids(["ab c", "", "d"])
    assert pieces.plan == "whole"
    assert ids.tolist() == [0, 97, 98, 32, 99, 0, 0, 100]
    assert bounds.tolist() == [0, 5, 6, 8]


def test_a_word_of_any_length_is_tokenised_in_pieces_of_bounded_length() -> None:
    sizes: list[int] = []

    def counted(texts: Sequence[str]) -> list[list[int]]:
        sizes.extend(map(len, texts))
        return bpe()(texts)

    text = "".join(random.Random(0).choices("abcdefgh", k=130_000))
    ids, bounds = Pieces(counted, "words").ids([f"{text} b", "b"])
    assert max(sizes) <= 50_000
    assert bounds[-1] == len(ids)
    whole = bpe()([f"{text} b"])[0]
    assert abs(int(bounds[1]) - len(whole)) <= 2 * 2


def test_a_full_cache_begins_anew_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = human_rows(60, 5)
    monkeypatch.setattr("pyrite.audit.flaws.tokens.tokenise.CACHE", 50)
    small = gathered(rows, tmp_path / "small", 7)
    monkeypatch.undo()
    big = gathered(rows, tmp_path / "big", 60)
    assert small.tokens.tolist() == big.tokens.tolist()
    assert small.holding.tolist() == big.holding.tolist()
    assert small.shown == big.shown


# -- the whole data set


def gathered(rows: Sequence[Row], folder: Path, batch: int = 16, tokenize: Tokenize | None = None) -> streams.Gathered:
    folder.mkdir()
    stream = streams.Stream(folder, Extras(tokenize=tokenize or bpe()))
    for at in range(0, len(rows), batch):
        assert stream.add(rows[at : at + batch]) == {}
    stream.close()
    return streams.merged([folder])


def test_counts_are_those_of_the_slow_way(tmp_path: Path) -> None:
    rows = [*human_rows(50, 5), *rows_of(HOSTILE), *rows_of(["I hope this helps! I hope it helps.", "As an AI, I"])]
    made = gathered(rows, tmp_path / "a")
    true = bpe()([well_formed(row.answer) for row in rows])
    every = Counter(token for ids in true for token in ids)
    held = Counter(token for ids in true for token in set(ids))
    assert {at: int(n) for at, n in enumerate(made.tokens) if n} == every
    assert {at: int(n) for at, n in enumerate(made.holding) if n} == held
    assert made.rows == len(rows)
    names = list(BOILERPLATE)
    assert {names[at]: n for at, n in made.phrases.items()} == {"I hope this helps": 1, "as an AI": 1}


def test_parts_merge_to_the_same_bytes(tmp_path: Path) -> None:
    rows, _ = with_opening(human_rows(90, 5), 0.3, 1)
    for name, some in {"all": rows, "one": rows[:20], "two": rows[20:21], "three": rows[21:], "no": []}.items():
        gathered(some, tmp_path / name, 11)
    told = []
    for parts in (["all"], ["one", "two", "three", "no"], ["three", "no", "one", "two"]):
        out = tmp_path / f"out{len(told)}"
        out.mkdir()
        values = streams.merge([tmp_path / part for part in parts], out, Extras(tokenize=bpe()), [tmp_path / "two"])
        told.append((json.dumps(values), (out / "histogram.npy").read_bytes(), (out / "rows.npy").read_bytes()))
    assert told[0] == told[1] == told[2]
    values = json.loads(told[0][0])
    assert values["boilerplate"] == {"Certainly! …": 27}
    assert values["tokens"] == sum(len(ids) for ids in bpe()([row.answer for row in rows]))


def test_an_empty_data_set_and_one_without_tokenizer(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    gathered([], empty)
    assert streams.merge([empty], tmp_path, Extras(tokenize=bpe()))["zipf_slope"] is None
    bare = tmp_path / "bare"
    bare.mkdir()
    stream = streams.Stream(bare, Extras())
    stream.add(rows_of(["In conclusion, no."]))
    stream.close()
    assert streams.merge([bare], tmp_path, Extras()) == {"rows": 1, "boilerplate": {"in conclusion": 1}}
    assert [made.measure.name for made in tokens.differences(human_rows(9, 1), Extras())] == ["boilerplate"]


def test_over_used_tokens_of_the_whole_are_named(tmp_path: Path) -> None:
    data, _ = with_topic(human_rows(300, 1), 0.3, 1)
    gathered(data, tmp_path / "data", tokenize=by_word)
    gathered(human_rows(300, 2), tmp_path / "human", tokenize=by_word)
    told = streams.merge([tmp_path / "data"], tmp_path, Extras(tokenize=by_word), [tmp_path / "human"])
    worst = told["over_used"][:4]
    assert {line["text"].strip("␣") for line in worst} == set(TOPIC)
    assert all(line["reference"] == 0 and line["data"] > 0.1 for line in worst)
    back = streams.merge([tmp_path / "human"], tmp_path, Extras(tokenize=by_word), [tmp_path / "data"])
    assert {line["token"] for line in back["under_used"][:4]} == {line["token"] for line in worst}
    assert back["under_used"][0]["data"] == 0


def test_the_density_is_scipys() -> None:
    from scipy.stats import gaussian_kde

    histogram = np.random.default_rng(0).poisson(0.4, 60)
    grid = np.linspace(0, 59, 256)
    true = gaussian_kde(np.repeat(np.arange(60), histogram))(grid)
    np.testing.assert_allclose(frequencies.id_density(histogram, grid), true, rtol=1e-9)


# -- measures by hand


def test_log_odds_by_hand() -> None:
    """One token in 3 of our 10 rows and 1 of their 10, of 20 counts each: prior 4 of 40.
    Ours 3 + 4 = 7 of 60, theirs 1 + 4 = 5 of 60: (log(7/53) - log(5/55)) / sqrt(1/7 + 1/5)."""
    z = frequencies.log_odds(np.array([3.0, 0.0]), np.array([1.0, 0.0]), 20.0, 20.0)
    assert z[0] == pytest.approx((np.log(7 / 53) - np.log(5 / 55)) / np.sqrt(1 / 7 + 1 / 5), rel=1e-6)
    assert z[1] == 0


def test_the_slope_of_an_exact_power_law() -> None:
    counts = 1e6 * np.arange(1, 3001) ** -1.2
    made = frequencies.slope(
        np.stack([np.random.default_rng(0).permutation(counts), np.full(3000, 5.0), np.zeros(3000)])
    )
    assert made[0] == pytest.approx(-1.2, abs=1e-6)
    assert made[1] == pytest.approx(0, abs=1e-9)
    assert made[2] == 0


def test_divergence_by_hand_and_against_the_slow_way() -> None:
    """{x, x, y} against {x, z, z}: x at 2/3 and 1/3, y in one row alone, z too."""
    sample = tokens.token_counts(rows_of(["x x y", "x z z"]), by_word)
    p, q = np.array([2, 1, 0]) / 3, np.array([1, 0, 2]) / 3
    true = sum(0.5 * v * np.log2(2 * v / (v + w)) for u in ((p, q), (q, p)) for v, w in zip(*u, strict=True) if v)
    assert tokens.divergence(sample)(*groups(2, [0]))[0] == pytest.approx(true, abs=1e-6)
    assert tokens.divergence(tokens.token_counts(rows_of(["a b", "c d"]), by_word))(*groups(2, [0]))[
        0
    ] == pytest.approx(1)
    assert tokens.divergence(tokens.token_counts(rows_of(["a b", "b a"]), by_word))(*groups(2, [0]))[
        0
    ] == pytest.approx(0)


def test_draws_together_and_alone_agree() -> None:
    """Pooled draws of a permutation take a short way: the value must be that of the long way."""
    sample = human_rows(60, 3)
    rng = np.random.default_rng(0)
    a = np.zeros((3, 60), dtype=np.float32)
    for line in a:
        line[rng.permutation(60)[:30]] = 1
    b = 1 - a
    mixed_a, mixed_b = a.copy(), b.copy()
    mixed_a[2, np.flatnonzero(a[2])[:5]] = 0
    mixed_b[2, np.flatnonzero(b[2])[:5]] = 0
    for difference in tokens.differences(sample, Extras(tokenize=bpe())):
        together, mixed = difference.statistic(a, b), difference.statistic(mixed_a, mixed_b)
        np.testing.assert_allclose(together[:2], mixed[:2], atol=2e-5)
        assert together[2] != mixed[2] or difference.measure.name == "boilerplate"


def test_tail_mass_by_hand() -> None:
    """40 words: the head is 4. b has 4 of 40 tokens in it, a 40 of 40: b's tail is larger by 0.9."""
    rows = rows_of(["w0 w1 w2 w3 " * 10, " ".join(f"w{at}" for at in range(40))])
    made = tokens.tail(tokens.token_counts(rows, by_word))(*groups(2, [0]))
    assert made[0] == pytest.approx(0.9)


# -- planted


@pytest.mark.parametrize("tokenize", [bpe, lambda: by_word], ids=["bpe", "words"])
def test_a_planted_topic_is_found_and_its_twin_is_silent(tokenize: Callable[[], Tokenize]) -> None:
    extras = Extras(tokenize=tokenize())
    data, human = thousand(1)[:200], thousand(2)[:200]
    planted, _ = with_topic(data, 0.25, 1)
    assert weighed("overuse", planted, human, extras).p == pytest.approx(1 / 200)
    assert weighed("overuse", data, human, extras).p > 0.02
    assert weighed("distance", data, human, extras).p > 0.02


@cache
def thousand(seed: int) -> list[Row]:
    return human_rows(1000, seed)


@pytest.mark.parametrize(
    ("share", "tokenize"), [(0.1, bpe), (0.2, bpe), (0.3, bpe), (0.1, lambda: by_word)], ids=["10", "20", "30", "words"]
)
def test_rows_of_a_planted_topic_are_marked(share: float, tokenize: Callable[[], Tokenize]) -> None:
    extras = Extras(tokenize=tokenize())
    planted, where = with_topic(thousand(1), share, 1)
    references = {"human": Population(thousand(2), {})}
    shown = evidence("overuse", Population(planted, {}), references, extras)
    assert shown.rule is not None
    assert json.loads(json.dumps(shown.rule)) == shown.rule
    assert set(shown.rows) <= where
    assert len(shown.rows) == 20
    assert any(word in line for word in TOPIC for line in shown.lines)
    marked = tokens.flag_scores(planted, {"overuse": shown.rule}, extras, None)["overuse"]
    found = {int(at) for at in np.flatnonzero(marked >= 0.5)}
    assert len(found & where) >= 0.8 * len(where)
    assert len(found & where) >= 0.8 * len(found)
    assert marked.dtype == np.float32
    assert marked.max() <= 1


def test_lost_tail_and_steeper_slope_are_found() -> None:
    """The data says a common word instead of every rare one."""
    extras = Extras(tokenize=by_word)
    data, human = human_rows(200, 1), human_rows(200, 2)
    seen = Counter(word.strip(".!?").lower() for row in human for word in row.answer.split())
    common = [word for word, _ in seen.most_common(150)]
    flat = [
        replace(
            row,
            answers=(
                re.sub(
                    r"[a-z]+", lambda m: m[0] if m[0] in common else common[zlib.crc32(m[0].encode()) % 150], row.answer
                ),
            ),
        )
        for row in data
    ]
    for name in ("tail_mass", "zipf_slope", "distance"):
        assert weighed(name, flat, human, extras).p == pytest.approx(1 / 200), name
        assert weighed(name, data, human, extras).p > 0.02, name
    shown = evidence("tail_mass", Population(flat, {}), {"human": Population(human, {})}, extras)
    assert shown.values["tail"][0] < shown.values["tail"][1] - 0.1
    assert "references" in shown.lines[0]


def test_boilerplate_is_found_counted_and_marked() -> None:
    data, human = human_rows(200, 1), human_rows(200, 2)
    planted, where = with_opening(data, 0.1, 1)
    assert weighed("boilerplate", planted, human, Extras()).p == pytest.approx(1 / 200)
    assert weighed("boilerplate", planted, human, Extras()).value == pytest.approx(0.1)
    assert weighed("boilerplate", data, human, Extras()).p == 1
    shown = evidence("boilerplate", Population(planted, {}), {"human": Population(human, {})}, Extras())
    assert shown.lines == ("“Certainly! …” is in 10 % of rows (references 0 %)",)
    assert shown.rule is not None
    marked = tokens.flag_scores(planted, {"boilerplate": shown.rule}, Extras(), None)["boilerplate"]
    assert set(np.flatnonzero(marked >= 0.5).tolist()) == where
    full = Population(planted, {"rows": 1000, "boilerplate": {"Certainly! …": 10}})
    assert evidence("boilerplate", full, {}, Extras()).lines == ("“Certainly! …” is in 1 % of rows",)


@pytest.mark.parametrize("text", [
    "As an AI language model, I cannot help with that.", "I’m sorry, but I can't assist.", "I hope this helps!", "Sure, why not.\nSure! Here",
    "It’s important to note that", "They delved deeper into it", "Here are 5 tips for you:\n1.", "How can I assist you today?",
])  # fmt: skip
def test_boilerplate_is_known(text: str) -> None:
    assert phrases_in(text)


@pytest.mark.parametrize("text", [
    "", "I am sure! That is what he said", "The certainty of it", "Please sit down", "Here lies one whose name was writ in water",
    "She is a great model of language", "Note well", "We navigate by stars", "Overall the day was fine",
])  # fmt: skip
def test_what_people_write_is_no_boilerplate(text: str) -> None:
    assert phrases_in(text) == []


@pytest.mark.parametrize("text", [
    "作为一个人工智能语言模型，我没有感受。", "抱歉，我无法帮助你。", "希望这对你有帮助！", "总之，早睡。", "当然！以下是建议：",
    "AIとして、意見はありません。", "申し訳ありませんが、できません。", "お役に立てれば幸いです。", "もちろんです！", "以下は例です：",
    "AI 언어 모델로서 저는", "죄송하지만 저는 할 수 없습니다.", "물론입니다! 다음과", "요약하자면, 그렇습니다.",
    "एक एआई भाषा मॉडल के रूप में, मैं", "मुझे खेद है, लेकिन मैं", "ज़रूर! यह रहा", "निष्कर्ष में, यह", "यहाँ तीन उपाय दिए गए हैं:",
    "كنموذج لغوي لا أملك رأيا", "آسف، لكنني لا أستطيع", "بالتأكيد! هذا هو", "في الختام، النوم مهم", "إليك بعض النصائح:",
    "ในฐานะโมเดลภาษา ฉันไม่มี", "ขออภัยค่ะ ฉันไม่สามารถช่วยได้", "หวังว่าจะเป็นประโยชน์", "แน่นอน! นี่คือ", "โดยสรุปแล้ว", "นี่คือตัวอย่าง:",
    "Как языковая модель, я не имею", "Извините, но я не могу", "Конечно! Вот", "В заключение, спите", "Вот несколько советов:",
    "Como modelo de lenguaje, no", "En tant que modèle de langage, je", "Als KI-Sprachmodell kann ich",
])  # fmt: skip
def test_boilerplate_of_other_languages_is_known(text: str) -> None:
    assert phrases_in(text)


@pytest.mark.parametrize("text", [
    "他作为老师工作。", "我希望明天下雨。", "当然他不会来。", "先生として働く。", "以前は小さな町だった。", "물론 그는 오지 않았다",
    "वह एक शिक्षक के रूप में काम करता है।", "ज़रूर आना", "كمعلم في المدرسة", "في الختام سافر", "ในฐานะครู เขา", "แน่นอนว่าเขามา",
    "Он работает как учитель", "Конечная остановка", "Como maestro, trabaja", "En tant que professeur", "Als Lehrer arbeitet er",
])  # fmt: skip
def test_what_people_write_elsewhere_is_no_boilerplate(text: str) -> None:
    assert phrases_in(text) == []


def test_there_are_about_forty_phrases_in_latin_letters_and_each_can_be_found() -> None:
    assert 35 <= len(BOILERPLATE) - len(ELSEWHERE) <= 45
    assert all(needle == needle.lower() for needle, _ in BOILERPLATE.values())
    assert list(BOILERPLATE)[-len(ELSEWHERE) :] == list(ELSEWHERE)


# -- hostile, small, repeated


def test_hostile_rows_go_through_everything() -> None:
    rows = rows_of([*HOSTILE, "x" * 20_000, "a b " * 100_000])
    extras = Extras(tokenize=bpe())
    for difference in tokens.differences([*rows, *human_rows(30, 1)], extras):
        made = measure_difference(
            difference, range(len(rows)), {"human": range(len(rows), len(rows) + 30)}, replace(QUICK, permutations=9)
        )
        assert made is not None
        assert np.isfinite(made.value)
    for measure in tokens.STATISTICS:
        for references in ({}, {"human": Population(human_rows(30, 1), {})}):
            shown = evidence(measure.name, Population(rows, {}), references, extras)
            json.dumps(dict(shown.values))
            assert all(len(line.encode()) < 400 and line.isprintable() for line in shown.lines)
    for name, marked in tokens.flag_scores(
        rows, {"overuse": {"tokens": [1, 2], "weights": [0.5, 0.25]}, "boilerplate": {}}, extras, None
    ).items():
        assert marked.shape == (len(rows),), name
    assert tokens.flag_scores([], {"overuse": {"tokens": [1], "weights": [0.5]}}, extras, None)["overuse"].shape == (0,)


def test_the_same_twice() -> None:
    data, human = with_topic(human_rows(80, 1), 0.3, 1)[0], human_rows(80, 2)
    extras = Extras(tokenize=bpe())
    for measure in tokens.STATISTICS:
        pair = [evidence(measure.name, Population(data, {}), {"h": Population(human, {})}, extras) for _ in (1, 2)]
        assert pair[0] == pair[1]
    assert weighed("distance", data, human, extras) == weighed("distance", data, human, extras)


def test_importing_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, pyrite.audit.flaws.tokens.statistics, pyrite.audit.flaws.diversity.statistics; print(sorted({'scipy', 'torch', 'tokenizers', 'datasketches'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.packaged
def test_pieces_of_the_packaged_models_tokenizer(data_folder: Path) -> None:
    from pyrite.io import open_records
    from pyrite.models import load, packaged

    if not packaged.is_fetched("smollm2-135m-instruct"):
        pytest.skip("packaged:smollm2-135m-instruct is not fetched: run pyrite models fetch")
    backend = load.load_tokenizer(load.resolve("packaged:smollm2-135m-instruct").folder).backend_tokenizer
    rows = list(as_rows(open_records(data_folder / "instruct" / "alpaca_en_demo.json")))
    texts = [row.text for row in rows[:300]] + [well_formed(text) for text in HOSTILE] + WORDS[:50]
    pieces = Pieces(lambda some: [made.ids for made in backend.encode_batch(list(some), add_special_tokens=False)])
    ids, bounds = pieces.ids(texts)
    assert pieces.plan == "words"
    assert ids.tolist() == [
        token for made in backend.encode_batch(texts, add_special_tokens=False) for token in made.ids
    ]
    assert len(bounds) == len(texts) + 1
