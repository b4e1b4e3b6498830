"""The shape of an answer: how it opens, how its lines are laid out, how it closes.

A skeleton is the sequence of an answer's line kinds, one letter each (`KINDS`), blank lines left out. A run of one kind
is written once with a "+", a sequence of kinds that comes again in brackets: `pn+p` is a paragraph, a numbered list, a
paragraph; `(hp)` is heading and paragraph, several times. `drawn` makes it readable.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from pyrite.data.words import UNSPACED, has_unspaced, separated

Words = tuple[str, ...]
"""Folded words, the outermost first: an opening from the left, a closing from the right."""

WORDS = 8
"""An opening or closing is looked at over this many words."""
LINES = 512
"""Lines of an answer after this one do not count towards its skeleton."""
_REACH = 400
_WORD = 40
"""Characters at either end of an answer, and of a word, that are looked at: what is kept of any answer is small."""

KINDS = {
    "p": "P",
    "P": "**…** P",
    "n": "1. …",
    "N": "1. **…** …",
    "b": "- …",
    "B": "- **…** …",
    "h": "# …",
    "c": "```…```",
    "t": "| … |",
    "o": "A) …",
    "q": "> …",
    "l": "Label: …",
    "L": "**Label:** …",
    "r": "---",
}
"""Kinds of lines, and how they are drawn. Capitals (but P, for it begins so by itself) begin with bold words."""

_LINE = re.compile(
    r"(?P<c>```|~~~)"
    r"|(?P<h>#{1,6}\s)"
    r"|(?P<r>(?:-{3,}|\*{3,}|_{3,}|={3,})$)"
    r"|(?P<N>\(?\d{1,3}[.)]\s+(?:\*\*|__)\S)"
    r"|(?P<n>\(?\d{1,3}[.)](?:\s|$))"
    r"|(?P<B>[-*+•–]\s+(?:\*\*|__)\S)"
    r"|(?P<b>[-*+•–]\s)"
    r"|(?P<t>\|.*\|$)"
    r"|(?P<q>>)"
    r"|(?P<o>(?:\([A-Ha-h]\)|[A-Ha-h]\)|[A-H]\.)\s)"
    r"|(?P<L>(?:\*\*|__)[^\W\d_][\w'’-]{0,24}(?:[ /][\w'’-]{1,24}){0,2}(?::(?:\*\*|__)|(?:\*\*|__):)(?:\s|$))"
    r"|(?P<P>(?:\*\*|__)\S)"
    r"|(?P<l>[^\W\d_][\w'’-]{0,24}(?:[ /][\w'’-]{1,24}){0,2}:(?:\s|$))"
)
_LAYOUT = re.compile(r"\(?N[.)]|[-*+•–#>|`]+")
_RUN = re.compile(r"(.)\1+")
_AGAIN = re.compile(r"(.{2,4}?)\1+")
_PIECE = re.compile(r"\([^()]+\)|.\+?")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LINE_ELSEWHERE = re.compile(
    r"(?P<N>[(（]?\d{1,3}[.)）、．]\s*(?:\*\*|__)\S)"
    r"|(?P<n>[(（]?\d{1,3}(?:[)）、．]|\.(?=\D))|[(（]?[一二三四五六七八九十]{1,3}[)）、．]|[①-⑳])"
    r"|(?P<b>[●○■□◆◇▪‣◦・･⁃])"
    r"|(?P<o>[(（]?[A-Ha-hＡ-Ｈァ-オ가-하अ-ङक-चก-งأبجد][)）．、])"
    r"|(?P<L>(?:\*\*|__)[^*_:：\n]{1,40}(?:[:：](?:\*\*|__)|(?:\*\*|__)[:：]))"
    r"|(?P<l>[^\W\d_][^\s:：。，,]{0,24}(?:[ /][^\s:：。，,]{1,24}){0,2}(?:：|:(?:\s|$)))"
)
"""Lines of texts in other letters than Latin ones, where `_LINE` sees nothing in them."""
_ELSEWHERE = re.compile(
    "[\u0370-\u1dff\u2c80-\ua63f\ua660-\ua71f\ua800-\ufaff\ufb1d-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00010000-\U0001efff\U00020000-\U0003ffff]"
)
"""A letter of a script other than Latin."""
_GAP = re.compile(f"(?<=[{UNSPACED}。，、！？：；]) (?=[{UNSPACED}])")
_ENDS = {
    **dict.fromkeys("。．｡।॥۔።։။។៕…", "."),
    **dict.fromkeys("！՜", "!"),
    **dict.fromkeys("？؟\u037e፧՞", "?"),
    **dict.fromkeys("：", ":"),
}
_CLOSERS = "\"'”’»)]*_ 」』）》】〉］｝"


class Shape(NamedTuple):
    """The shape of one answer.

    `opening` and `closing` are its first and last `WORDS` words, folded (lower case, numbers as "N"), the
    outermost word first. `end` is the mark that it ends with: one of `. ! ? :`,
    "`" for a code block, or "" for none of these. `marks`: "*" where it has bold words inside a line, "`" where code.
    """

    opening: Words
    closing: Words
    skeleton: str
    end: str
    marks: str
    words: int

    @property
    def structure(self) -> str:
        """Skeleton, end and mark-up as one name."""
        return f"{self.skeleton} {self.end} {self.marks}"


def shape_of(text: str) -> Shape:
    """The shape of an answer."""
    text = text.strip()
    head, tail, spaced = text[:_REACH], text[-_REACH:], text
    if has_unspaced(text):
        head, tail, spaced = separated(head), separated(tail), separated(text)
    first, last = head.split(None, WORDS)[:WORDS], tail.rsplit(None, WORDS)[-WORDS:]
    bare = text[-8:].rstrip(_CLOSERS)
    end = bare[-1:] if not text.endswith("```") else "`"
    end = _ENDS.get(end, end if end in ".!?:`" else "")
    marks = ("*" if "**" in text else "") + ("`" if "`" in text else "")
    return Shape(fold(first), fold(last[::-1]), skeleton_of(text), end, marks, len(spaced.split()))


def fold(words: Sequence[str]) -> Words:
    """Words in lower case, numbers as "N", each cut to a bounded length."""
    folded = " ".join([word[:_WORD] for word in words]).casefold()
    if not folded.isascii():
        folded = folded.encode("utf-8", "replace").decode("utf-8")
    return tuple(_NUMBER.sub("N", folded).split(" ")) if folded else ()


def skeleton_of(text: str) -> str:
    """The sequence of an answer's line kinds, runs and repeats collapsed."""
    kinds: list[str] = []
    fenced = False
    elsewhere = not text.isascii() and in_other_letters(text[:_REACH])
    for line in text.split("\n", LINES)[:LINES] if "\n" in text else (text,):
        line = line.strip()
        if not line:
            continue
        match = _LINE.match(line) or (_LINE_ELSEWHERE.match(line) if elsewhere else None)
        kind = match.lastgroup or "p" if match else "p"
        if kind == "c":
            fenced = not fenced
            if fenced:
                kinds.append(kind)
        elif not fenced:
            kinds.append(kind)
    return collapsed("".join(kinds))


def in_other_letters(text: str) -> bool:
    """Whether most letters of a text are of other scripts than Latin (one Greek letter in a formula does not count)."""
    others = len(_ELSEWHERE.findall(text))
    return others > 0 and 2 * others > sum(map(str.isalpha, text))


@lru_cache(maxsize=16384)
def collapsed(kinds: str) -> str:
    """Line kinds with runs and repeats written once.

    >>> collapsed("pnnnp"), collapsed("hphpphp"), collapsed("pnbbnbbp")
    ('pn+p', '(hp)', 'p(nb)p')
    """
    short = _RUN.sub(r"\1", kinds)
    runs = [match.group() for match in re.finditer(r"(.)\1*", kinds)]
    pieces, at = [], 0
    for again in _AGAIN.finditer(short):
        pieces += [run[0] + "+" * (len(run) > 1) for run in runs[at : again.start()]]
        pieces.append(f"({again.group(1)})")
        at = again.end()
    return "".join(pieces + [run[0] + "+" * (len(run) > 1) for run in runs[at:]])


def template_text(skeleton: str, opening: str = "") -> str:
    """A skeleton as a readable template; `opening` stands in its first line. Line breaks are shown as backslash n.

    >>> print(template_text("pn+p", "Sure! Here are"))
    Sure! Here are … \\n1. … (×n) \\nP
    """
    pieces = _PIECE.findall(skeleton)
    drawn_pieces = [_piece(piece) for piece in pieces[:8]] + ["…"] * (len(pieces) > 8)
    if opening:
        several = bool(pieces) and (pieces[0][0] == "(" or pieces[0][-1] == "+")
        drawn_pieces = [f"{opening} …", *drawn_pieces[0 if several else 1 :]]
    return " \\n".join(drawn_pieces) if drawn_pieces else "(empty)"


def _piece(piece: str) -> str:
    if piece[0] == "(":
        return "[" + " \\n".join(KINDS[kind] for kind in piece[1:-1]) + "] (×n)"
    return KINDS[piece[0]] + (" (×n)" if piece[-1] == "+" else "")


def drawn_structure(structure: str) -> str:
    """`Shape.structure` as a readable template."""
    skeleton, end, marks = structure.split(" ")
    parts = [template_text(skeleton), f"ends with “{end}”" if end else "ends without a full stop"]
    parts += ["bold words"] * ("*" in marks) + ["code"] * ("`" in marks)
    return ", ".join(parts)


def joined(words: Words, backwards: bool = False) -> str:
    """Words as text; those of a closing are turned round."""
    return printable(_GAP.sub("", " ".join(words[::-1] if backwards else words)))


def printable(text: str) -> str:
    """Text that a terminal and a file can take: what is no printable character is a question mark."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


_TOKENS = {
    "n": "numbered items (1.)", "N": "numbered items (1.)", "b": "bullets (-)", "B": "bullets (-)", "h": "headings (#)",
    "c": "code blocks (```)", "t": "tables (|)", "o": "options (A))", "q": "quotes (>)",
}  # fmt: skip


def structural_tokens(text: str) -> set[str]:
    """Markdown and layout marks of an answer, and the words that lead its later lines ("In conclusion,", "Answer:")."""
    shape = shape_of(text)
    names = {_TOKENS[kind] for kind in shape.skeleton if kind in _TOKENS}
    marks = {"bold words (**)": "**", "code in a line (`)": "`", "empty lines": "\n\n", "line breaks": "\n"}
    names |= {name for name, mark in marks.items() if mark in text.strip()}
    if shape.end == ":" or ":\n" in text or "：\n" in text:
        names.add("colons at the end of a line")
    for line in text.strip().split("\n", LINES)[1:LINES]:
        line = line.strip()
        if line and not ((kind := _LINE.match(line)) and kind.lastgroup not in ("l", "L", "P")):
            words = fold(separated(line[:_REACH].strip("*_")).split(None, 2)[:2])
            names.add(
                f"“{' '.join(words[:1] if words[:1] and words[0].endswith((':', '：')) else words)}” at the start of a line"
            )
    return names


def phrase(words: Words, least: int = 2) -> bool:
    """Whether these words say more than a common word, or a list's mark, does: some words together, or one that is set
    off by a mark of its own ("certainly!").

    >>> phrase(("the",)), phrase(("certainly!",)), phrase(("N.", "mix")), phrase(("the", "answer"))
    (False, True, False, True)
    """
    if _LAYOUT.fullmatch(words[0]):
        return False
    return len(words) >= least or (
        words[0][-1] in "!:,.…！：，。、،؛।۔" and any(letter.isalpha() for letter in words[0].replace("N", ""))
    )
