"""Does a row show the heuristic? Word rules over two fields, from the loosest to the strictest, and one over the last.

Every row that satisfies `constituent` satisfies `subsequence`, and every such row `lexical_overlap`. `negation` looks at
the last field alone.
"""

import re
from collections.abc import Iterable
from typing import Literal

Rule = Literal["exact", "corrected"]
EDGE = re.compile(r"^\W+|\W+$")
OPENERS = frozenset(
    [
        "that",
        "if",
        "whether",
        "because",
        "although",
        "though",
        "while",
        "when",
        "after",
        "before",
        "since",
        "unless",
        "and",
        "or",
        "but",
        "so",
    ]
)
SAID = frozenset(
    [
        "said",
        "says",
        "say",
        "thought",
        "thinks",
        "think",
        "knew",
        "knows",
        "know",
        "believed",
        "believes",
        "believe",
        "hoped",
        "claimed",
    ]
)
NEGATIONS = frozenset(
    ("no", "not", "never", "nobody", "nothing", "none", "nowhere", "neither", "nor", "without", "cannot")
)
STOPS = frozenset([".", ",", ";", ":", "!", "?", "-"])


def text_words(text: str, rule: Rule) -> list[str]:
    """The words that the overlap rule compares.

    `exact` follows the public code of arXiv 2502.07164: lower-cased, split at white space, and only free-standing
    `. ? !` dropped, so that "dog." and "dog" are different words. `corrected` strips punctuation from both ends of
    every word, so that they are the same.
    """
    lowered = text.lower().split()
    if rule == "exact":
        return [word for word in lowered if word not in {".", "?", "!"}]
    stripped = (EDGE.sub("", word) for word in lowered)
    return [word for word in stripped if word]


def lexical_overlap(first: str, second: str, rule: Rule = "corrected") -> bool:
    """Does every word of `second` occur in `first`? False for an empty `second`.

    >>> lexical_overlap("The dog saw the cat .", "The cat saw the dog.", "exact")
    False
    >>> lexical_overlap("The dog saw the cat .", "The cat saw the dog.", "corrected")
    True
    """
    inner = text_words(second, rule)
    return bool(inner) and set(inner) <= set(text_words(first, rule))


def find_run(first: list[str], second: list[str]) -> list[int]:
    """At which positions of `first` does `second` stand as one run?"""
    return [at for at in range(len(first) - len(second) + 1) if first[at : at + len(second)] == second]


def subsequence(first: str, second: str, rule: Rule = "corrected") -> bool:
    """Do the words of `second` stand in `first` as one run?"""
    inner = text_words(second, rule)
    return bool(inner) and bool(find_run(text_words(first, rule), inner))


def constituent(first: str, second: str, rule: Rule = "corrected") -> bool:
    """Is `second` a clause of `first`? Approximated without a parser.

    The run must begin at the start of the text, after punctuation, after a conjunction or complementiser, or after a
    verb of saying or thinking, and end at the end, at punctuation, or before a conjunction.
    """
    inner, outer = text_words(second, rule), text_words(first, rule)
    if not inner:
        return False
    tokens = re.findall(r"\w+(?:[-'’]\w+)*|[^\w\s]", first.lower())
    clean = [token for token in tokens if token not in STOPS]
    if [EDGE.sub("", token) for token in clean] != outer and rule == "corrected":
        tokens = outer
    inner = list(text_words(second, "corrected"))
    spots = [at for at, token in enumerate(tokens) if token not in STOPS]
    word_tokens = [tokens[at] for at in spots]
    for run in find_run(word_tokens, inner):
        begin, end = spots[run], spots[run + len(inner) - 1] + 1
        before = tokens[begin - 1] if begin else "."
        after = tokens[end] if end < len(tokens) else "."
        opens = before in STOPS or before in OPENERS or before in SAID
        if opens and (after in STOPS or after in OPENERS) and subsequence(first, second, rule):
            return True
    return False


def is_negated(words: Iterable[str]) -> bool:
    """Is there a negation among lower-cased English words?

    >>> is_negated(["it", "isn't", "dull"]), is_negated(["a", "notable", "film"])
    (True, False)
    """
    return any(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in words)


HEURISTICS = {"lexical_overlap": lexical_overlap, "subsequence": subsequence, "constituent": constituent}
"""Of two fields."""
NEGATION = "negation"
"""Of the last field, or the only one: does it hold a negation? (Negations give NLI's contradictions away: Gururangan et
al., arXiv 1803.02324.)"""
