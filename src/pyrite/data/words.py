"""Words, in every script: where they begin and end. One tokeniser for everything that counts words.

Most scripts put spaces between words; Thai, Lao, Khmer, Burmese, Chinese and Japanese do not, and ICU's dictionaries say
where their words end (icu4py). Combining marks (vowel signs, accents, tone marks) and joiners belong to the letter that
they follow. There are two readings of the same words: as they are written, with the punctuation that touches them
(`written_words`), and letters, digits and marks only (`plain_words`).
"""

import functools
import re
import unicodedata
from collections.abc import Sequence

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u17d7"
    "\u17dc\u17dd\u3005-\u3007\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9ef\uaa60-\uaa76\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Letters (and marks) of scripts that put no space between words, as a class of a pattern."""
_WIDE_ENDS = "、。，！？：；」』）》〉】〕］｝｡､"
_ENDS = re.escape(".,!?:;)]}\"'”’…～ๆฯ") + re.escape(_WIDE_ENDS)
_RUN = re.compile(
    f"(?P<before>[「『（《〈【〔［｛“‘]*)(?P<letters>[{UNSPACED}]+)(?P<after>[{_ENDS}]*)|[{re.escape(_WIDE_ENDS)}]+"
)
_LETTER = re.compile(f"[{UNSPACED}]")
_MARK_BLOCKS = (
    (0x300, 0x20D0),
    (0x2CEF, 0xFE00),
    (0xFE20, 0xFE30),
    (0x101FD, 0x12000),
    (0x16AF0, 0x17000),
    (0x1E000, 0x1E950),
)


@functools.cache
def marks() -> str:
    """Combining marks and joiners, as a class of a pattern: what never begins a word and never ends one. (The marks
    that turn a sign into an emoji are none.)"""
    points = [at for start, end in _MARK_BLOCKS for at in range(start, end) if unicodedata.category(chr(at))[0] == "M"]
    spans: list[list[int]] = []
    for at in points:
        if spans and spans[-1][1] == at - 1:
            spans[-1][1] = at
        else:
            spans.append([at, at])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in spans) + "\u200c\u200d"


@functools.cache
def plain_pattern() -> re.Pattern[str]:
    """A letter or digit with all that follow it, and their marks."""
    return re.compile(f"[^\\W_](?:[^\\W_]|[{marks()}])*")


@functools.cache
def name_pattern() -> re.Pattern[str]:
    """The same, where a low line is a letter, as in the names of code."""
    return re.compile(f"\\w[\\w{marks()}]*")


@functools.cache
def edge_pattern() -> re.Pattern[str]:
    """The punctuation at both ends of a word."""
    return re.compile(f"^\\W+|[^\\w{marks()}]+$")


def has_unspaced(text: str) -> bool:
    """Whether a text has letters of a script that puts no space between words."""
    return not text.isascii() and _LETTER.search(text) is not None


def separated(text: str) -> str:
    """The text with a space between all of its words. Punctuation stays with the word that it touches.

    >>> separated("当然可以！这里是Python代码")
    ' 当然 可以！  这里 是 Python 代码 '
    """
    if not has_unspaced(text):
        return text
    words_of_runs = iter(segmented([match["letters"] for match in _RUN.finditer(text) if match["letters"]]))

    def spaced(match: re.Match[str]) -> str:
        if match["letters"] is None:
            return f"{match.group()} "
        return f" {match['before']}{next(words_of_runs)}{match['after']} "

    return _RUN.sub(spaced, text)


def segmented(runs: Sequence[str]) -> list[str]:
    """Runs of letters that have no spaces, each with a space between its words, by ICU's dictionaries."""
    from icu4py.breakers import WordBreaker

    return " ".join(WordBreaker("\n".join(runs), "root")).split(" \n ")


def folded(text: str) -> str:
    """A text without regard to case and to Unicode's compatibility forms."""
    plain = unicodedata.normalize("NFKC", text)
    plain = plain.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")  # Thai and Lao AM, one letter
    return plain.casefold()


def written_words(text: str) -> list[str]:
    """The words of a text as they are written, each with the punctuation that touches it.

    >>> written_words("Don't stop, 你好！再见")
    ["Don't", 'stop,', '你好！', '再见']
    """
    return separated(text).split()


def plain_words(text: str) -> list[str]:
    """The words of a text as runs of letters, digits, low lines and marks.

    >>> plain_words("don't use snake_case; किताब नहीं")
    ['don', 't', 'use', 'snake_case', 'किताब', 'नहीं']
    """
    return name_pattern().findall(separated(text))


_SENTENCE_ASCII = re.compile(r"\n\s*|\s(?<=[.!?]\s)\s*")
_SENTENCE = re.compile(r"\n\s*|\s(?<=[.!?…؟।॥۔።]\s)\s*|(?<=[。！？])")


def sentences(text: str) -> list[str]:
    """The lines of a text, each divided where a sentence ends. Empty ones are left out.

    >>> sentences("Read this. It is 3.5 m long!\\nWhat is it? 好。对吗")
    ['Read this.', 'It is 3.5 m long!', 'What is it?', '好。', '对吗']
    """
    pieces = (_SENTENCE_ASCII if text.isascii() else _SENTENCE).split(text)
    return [sentence for piece in pieces if (sentence := piece.strip())]
