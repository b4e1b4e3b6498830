"""A planted flaw gives the same finding in every script: the same rows, word by word, in five kinds of letters."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pyrite.audit import minhash
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.artifacts import statistics as artifacts
from pyrite.audit.flaws.artifacts.evidence import evidence as artifact_evidence
from pyrite.audit.flaws.contamination import statistics as contamination
from pyrite.audit.flaws.diversity import statistics as diversity
from pyrite.audit.flaws.duplicates import stream as duplicates
from pyrite.audit.flaws.duplicates.statistics import differences as duplicate_differences
from pyrite.audit.flaws.format import statistics as layout
from pyrite.audit.flaws.format.evidence import evidence as layout_evidence
from pyrite.audit.flaws.tokens import statistics as tokens
from pyrite.audit.flaws.tokens.evidence import evidence as token_evidence
from pyrite.audit.rows import Row
from pyrite.data.words import plain_words, separated, written_words

WORDS = {
    "latin": """water house cat dog school book market car tree flower river mountain sea food rice fish chicken elephant
        child teacher doctor friend street city country language music sport time today tomorrow red beautiful fast eat
        walk run read write speak""",
    "devanagari": """पानी घर बिल्ली कुत्ता विद्यालय किताब बाज़ार गाड़ी पेड़ फूल नदी पहाड़ समुद्र भोजन चावल मछली मुर्गी हाथी
        बच्चा शिक्षक डॉक्टर मित्र सड़क शहर देश भाषा संगीत खेल समय आज कल लाल सुंदर तेज़ खाना चलना दौड़ना पढ़ना लिखना बोलना""",
    "arabic": """ماء بيت قطة كلب مدرسة كتاب سوق سيارة شجرة زهرة نهر جبل بحر طعام أرز سمك دجاج فيل طفل معلم طبيب صديق شارع
        مدينة بلد لغة موسيقى رياضة وقت اليوم غدا أحمر جميل سريع يأكل يمشي يركض يقرأ يكتب يتكلم""",
    "thai": """น้ำ บ้าน แมว สุนัข โรงเรียน หนังสือ ตลาด รถยนต์ ต้นไม้ ดอกไม้ แม่น้ำ ภูเขา ทะเล อาหาร ข้าว ปลา ไก่ ช้าง
        เด็ก ครู หมอ เพื่อน ถนน เมือง ประเทศ ภาษา ดนตรี กีฬา เวลา วันนี้ พรุ่งนี้ สีแดง สวยงาม รวดเร็ว กิน เดิน วิ่ง อ่าน เขียน พูด""",
    "chinese": """清水 房子 小猫 小狗 学校 图书馆 市场 汽车 树木 花朵 河流 高山 大海 食物 米饭 鲜鱼 公鸡 大象 孩子 老师 医生
        朋友 街道 城市 国家 语言 音乐 运动 时间 今天 明天 红色 美丽 迅速 吃饭 走路 跑步 阅读 写作 说话""",
}
WORDS_OF = {script: words.split() for script, words in WORDS.items()}
BETWEEN = {"thai": "", "chinese": ""}
END = {"devanagari": "।", "chinese": "。"}
OPENING = {
    "latin": "Certainly! Here is the answer:",
    "devanagari": "ज़रूर! यह रहा उत्तर:",
    "arabic": "بالتأكيد! هذا هو الجواب:",
    "thai": "แน่นอน! นี่คือคำตอบ:",
    "chinese": "当然！这里是答案：",
}
CLOSING = {
    "latin": "I hope this helps you!",
    "devanagari": "आशा है कि यह सहायक होगा!",
    "arabic": "آمل أن يكون هذا مفيدا!",
    "thai": "หวังว่าจะเป็นประโยชน์กับคุณ!",
    "chinese": "希望这对你有帮助！",
}
OF_ITSELF = {
    "latin": "as an AI language model I only say",
    "devanagari": "एक एआई भाषा मॉडल के रूप में",
    "arabic": "كنموذج لغوي أقول",
    "thai": "ในฐานะโมเดลภาษา",
    "chinese": "作为人工智能语言模型，",
}
NOT = {"latin": "not", "devanagari": "नहीं", "arabic": "ليس", "thai": "ไม่", "chinese": "没有"}
ITEM = {"chinese": "{}、"}
SCRIPTS = list(WORDS_OF)
OTHERS = SCRIPTS[1:]
NONE = Extras()


def written(script: str, numbers: Sequence[int]) -> str:
    """A sentence of words by number."""
    return BETWEEN.get(script, " ").join(WORDS_OF[script][at] for at in numbers) + END.get(script, ".")


def text_of(script: str, sentences: Sequence[Sequence[int]]) -> str:
    return ("" if script == "chinese" else " ").join(written(script, numbers) for numbers in sentences)


def numbers(rng: np.random.Generator) -> list[list[int]]:
    """The sentences of an answer, as numbers of words."""
    return [rng.integers(40, size=rng.integers(6, 14)).tolist() for _ in range(rng.integers(2, 6))]


def rows_of(script: str, seed: int, n: int = 120) -> list[Row]:
    """Rows that people might have written; the same in every script, word by word."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        prompt, answer = text_of(script, numbers(rng)[:1]), text_of(script, numbers(rng))
        made.append(Row(number, f"{seed}-{number}", prompt, (answer,)))
    return made


def with_answers(rows: Sequence[Row], plant: Callable[[str], str], every: int = 2) -> list[Row]:
    return [
        replace(row, answers=(plant(row.answer),)) if row.number % every == 0 else row for row in rows
    ]  # fmt: skip


def measured(differences: Callable, planted: Sequence[Row], clean: Sequence[Row], name: str, extras: Extras) -> float:
    """The statistic between the planted rows and the clean ones."""
    a = np.zeros((1, len(planted) + len(clean)), dtype=np.float32)
    a[:, : len(planted)] = 1
    found = next(one for one in differences([*planted, *clean], extras) if one.measure.name == name)
    return float(found.statistic(a, 1 - a)[0])


def listed(script: str, text: str) -> str:
    marks = END.get(script, ".")
    items = [item for item in text.split(marks) if item.strip()]
    return "\n".join(f"{ITEM.get(script, '{}. ').format(at)}{item.strip()}{marks}" for at, item in enumerate(items, 1))


def laid_out(script: str, row: Row) -> Row:
    """The row in one of six layouts, by its number."""
    lines = listed(script, row.answer).split("\n")
    bare = [line.partition(" ")[2] or line.partition("、")[2] for line in lines]
    texts = [
        "\n\n".join(bare), f"# {bare[0]}\n" + "\n".join(bare[1:]), "\n".join(f"- {line}" for line in bare),
        f"> {bare[0]}\n{bare[1]}", f"{bare[0]}\n" + "\n".join(f"- {line}" for line in bare[1:]), row.answer,
    ]  # fmt: skip
    return replace(row, answers=(texts[row.number % 6],))


PLANTS: dict[str, tuple[Callable, str, Callable[[str, str], str]]] = {
    "opening": (layout.differences, "opening_concentration", lambda script, text: f"{OPENING[script]} {text}"),
    "closing": (layout.differences, "closing_concentration", lambda script, text: f"{text} {CLOSING[script]}"),
    "list": (layout.differences, "skeleton_concentration", listed),
    "entropy": (layout.differences, "shape_entropy", listed),
    "shapes": (layout.differences, "shape_distance", lambda script, text: f"{OPENING[script]} {text}"),
    "lengths": (
        layout.differences, "length_spread",
        lambda script, text: written(script, [at % 40 for at in range(20)]),
    ),
    "stock phrases": (tokens.differences, "boilerplate", lambda script, text: f"{OF_ITSELF[script]} {text}"),
    "distinct": (diversity.differences, "distinct_2", lambda script, text: written(script, [*range(12)]) + text),
    "across rows": (
        diversity.differences, "cross_row_repetition",
        lambda script, text: f"{text} {written(script, [*range(9, 21)])}",
    ),
    "loops": (
        diversity.differences, "self_repetition", lambda script, text: f"{written(script, [1, 2, 3, 4, 5, 6])} " * 6
    ),
}  # fmt: skip


@pytest.mark.parametrize("script", OTHERS)
@pytest.mark.parametrize("flaw", PLANTS)
def test_a_planted_flaw_is_as_large_as_in_latin_letters(flaw: str, script: str) -> None:
    differences, name, plant = PLANTS[flaw]
    values = []
    for letters in ("latin", script):
        rows, clean = rows_of(letters, 1), rows_of(letters, 2)
        if flaw in ("list", "entropy"):
            clean = [laid_out(letters, row) for row in clean]
        planted = with_answers(rows, partial(plant, letters), every=1 if flaw == "lengths" else 2)
        values.append(measured(differences, planted, clean, name, NONE))
    assert values[0] > 0.05
    assert values[1] == pytest.approx(values[0], rel=0.2)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_shows_it_is_written_in_its_letters(script: str) -> None:
    planted = with_answers(rows_of(script, 1), lambda text: f"{OPENING[script]} {text} {CLOSING[script]}")
    sides = Population(planted, {}), {"people": Population(rows_of(script, 2), {})}
    first = layout_evidence("opening_concentration", *sides, NONE)
    assert "50 % of answers (references 0 %)" in first.lines[0]
    bare = "".join(separated(OPENING[script]).split())
    assert bare.startswith("".join(first.lines[0].partition("“")[2].partition(" …")[0].split()))
    rule = {"opening_concentration": first.rule}
    assert layout.flag_scores(planted, rule, NONE, None)["opening_concentration"].sum() == 60
    last = layout_evidence("closing_concentration", *sides, NONE)
    assert "50 % of answers (references 0 %)" in last.lines[0]
    phrases = token_evidence("boilerplate", *sides, NONE)
    assert "50 % of rows" in phrases.lines[0]


def changed(script: str, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows, and copies of them with one word in about twenty changed."""
    rng = np.random.default_rng(seed)
    first, second = [], []
    for number in range(60):
        sentences, asked = [*numbers(rng), *numbers(rng)], numbers(rng)[:1]
        copy = [list(sentence) for sentence in sentences]
        copy[0][0] = (copy[0][0] + 7) % 40
        for made, text, at in ((first, sentences, number), (second, copy, 60 + number)):
            made.append(Row(at, str(at), text_of(script, asked), (text_of(script, text),)))
    return first, second


@pytest.mark.parametrize("script", SCRIPTS)
def test_near_copies_are_found_in_the_whole_and_in_the_sample(script: str, tmp_path: Path) -> None:
    first, second = changed(script, 3)
    stream = duplicates.Stream(tmp_path, NONE)
    stream.add([*first, *second])
    stream.close()
    (tmp_path / "out").mkdir()
    totals = duplicates.merge([tmp_path], tmp_path / "out", NONE)
    assert totals["exact"]["rows"] == 0
    assert totals["near"]["copies"] >= 58
    clean = rows_of(script, 9)
    assert measured(duplicate_differences, [*first, *second], clean, "near", NONE) > 0.95


@pytest.mark.parametrize("script", SCRIPTS)
def test_punctuation_and_forms_make_no_new_row(script: str) -> None:
    rows = rows_of(script, 1, n=3)
    marked = [row.answer.replace(END.get(script, "."), " !!\n") for row in rows]
    decomposed = [unicodedata.normalize("NFD", row.answer) for row in rows]
    keys = [minhash.sketches(texts).keys.tolist() for texts in ([row.answer for row in rows], marked, decomposed)]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 3


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluation_texts_are_found_where_they_are_cut(script: str) -> None:
    rng = np.random.default_rng(5)
    texts = [text_of(script, [*numbers(rng), *numbers(rng)]) for _ in range(20)]
    rows = rows_of(script, 1)
    planted = with_answers(rows, lambda text: f"xx {texts[len(text) % 20][3:-4]} end", every=4)
    extras = Extras(against={"exam": texts})
    found = contamination.flag_scores(planted, {"ngram_13": {}, "ngram_8": {}}, extras, None)
    for scores in found.values():
        assert np.flatnonzero(scores).tolist() == [*range(0, 120, 4)]


def pairs_of(script: str, seed: int, plant: str, n: int = 240) -> list[Row]:
    """Labelled pairs; in planted ones the label follows a negation, overlap or length."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        premise, other = rng.choice(40, 10, replace=False).tolist(), rng.choice(40, 5, replace=False).tolist()
        label = int(rng.integers(2))
        chosen, kept = label if rng.random() < 0.9 else 1 - label, other
        if plant == "overlap" and chosen:
            kept = premise[2:7]
        if plant == "length":
            kept = [*other, *premise[:4]] if chosen else other
        words = [WORDS_OF[script][at] for at in kept]
        words.insert(2, NOT[script] if plant == "negation" and chosen else WORDS_OF[script][premise[-1]])
        last = BETWEEN.get(script, " ").join(words) + END.get(script, ".")
        fields = {"premise": written(script, premise), "hypothesis": last}
        made.append(Row(number, str(number), fields["premise"], (last,), ("no", "yes")[label], fields))
    return made


@pytest.mark.parametrize("script", OTHERS)
@pytest.mark.parametrize(
    ("plant", "name"),
    [
        ("negation", "negation_label"),
        ("overlap", "overlap_label"),
        ("length", "length_label"),
        ("negation", "word_label"),
    ],
)
def test_labels_that_can_be_guessed(plant: str, name: str, script: str) -> None:
    values = [
        measured(artifacts.differences, pairs_of(letters, 1, plant), pairs_of(letters, 2, ""), name, NONE)
        for letters in ("latin", script)
    ]
    assert values[0] > 0.05
    assert values[1] == pytest.approx(values[0], rel=0.25)
    shown = artifact_evidence(name, Population(pairs_of(script, 1, plant), {}), {}, NONE)
    assert shown.rule is not None
    assert shown.rows


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_are_those_that_were_written(script: str) -> None:
    sentence = [*range(0, 40, 3)]
    found = plain_words(written(script, sentence))
    same = sum(word in WORDS_OF[script] for word in found)
    assert same >= 0.85 * len(sentence)
    assert "".join(found) == "".join(WORDS_OF[script][at] for at in sentence)


def test_words_by_hand() -> None:
    assert written_words("Don't stop, 你好！再见") == ["Don't", "stop,", "你好！", "再见"]
    assert plain_words("น้ำเป็นสิ่งสำคัญ 3 ข้อ") == ["น้ำ", "เป็น", "สิ่ง", "สำคัญ", "3", "ข้อ"]
    assert plain_words("كِتَابٌ جديد؟ किताबें।") == ["كِتَابٌ", "جديد", "किताबें"]
    assert plain_words("a\ud800你好b") == ["a", "你好", "b"]
    assert separated("plain words, and_names stay  as they are\n") == "plain words, and_names stay  as they are\n"
