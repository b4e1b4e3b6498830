"""Which sentence pairs make up each subcase, and why is its label right?

A template is a premise and a hypothesis with slots. `{n1}` is a slot of class `n` (see `SLOTS`); the same slot in the
hypothesis is the same word. `{t1:participle}` asks for another form, `{n1:was}` for the "was" or "were" that agrees.
`{c1}` is a whole clause.

Within each heuristic the two labels share one distribution of hypotheses, so that nothing can be learned from the
hypothesis alone. Lexical overlap: every subcase says "the N V-ed the N", and one template in four says "the N V-ed" in
the same two subcases of either label. Constituent: every hypothesis is a clause slot. Subsequence, where single
subcases force their verbs, holds six templates per subcase and is matched in sum, in templates of thirty per label:

| hypothesis | entailment | non-entailment |
|---|---|---|
| the N believed the N (verbs that also take a clause) | 6, as two fifths of the mixed slot `m` | 6 in sn_NP/S |
| the N called the N (object optional) | 6, as two fifths of `m` | 6 in sn_NP/Z |
| the N thanked the N | 3 as one fifth of `m`, 2 in se_adjective | 3 + 2 in sn_PP_on_subject, sn_relative_clause_on_subject |
| the N called in the place | 3, one in each subcase with `m` | 3 in sn_past_participle |
| the N called | 3 in se_understood_object | 3 in sn_past_participle |
| the N ate | 3 in se_understood_object | 1 + 2 |
| the N slept | 2 in se_adjective | 1 + 1 |
| Ns slept, Ns thanked the N | 1 + 1 in se_adjective | 1 + 1 |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pyrite.tasks.grammar import lexicon as words
from pyrite.tasks.grammar.lexicon import Word

Heuristic = Literal["lexical_overlap", "subsequence", "constituent"]

SLOTS: Mapping[str, tuple[tuple[Word, ...], ...]] = {
    "n": (words.PEOPLE,),
    "p": (words.PEOPLE,),
    "t": (words.TRANSITIVE,),
    "z": (words.OBJECT_OPTIONAL,),
    "w": (words.TRANSITIVE + words.OBJECT_OPTIONAL,),
    "r": (
        tuple(verb for verb in words.TRANSITIVE + words.OBJECT_OPTIONAL if verb.forms[1] == verb.forms[2]),
    ),  # said actively and passively with one word
    "s": (words.CLAUSE_OR_PERSON,),
    "m": (
        words.CLAUSE_OR_PERSON,
        words.CLAUSE_OR_PERSON,
        words.OBJECT_OPTIONAL,
        words.OBJECT_OPTIONAL,
        words.TRANSITIVE,
    ),
    "i": (words.INTRANSITIVE,),
    "j": (words.ON_THE_SPOT,),
    "o": (tuple(words.UNDERSTOOD_OBJECTS),),
    "factive": (words.FACTIVE,),
    "nonfactive": (words.NON_FACTIVE,),
    "itfactive": (words.FACTIVE_EXPERIENCE,),
    "visited": (words.VISITED,),
    "adj": (words.ADJECTIVES,),
    "graded": (words.GRADED,),
    "bold": (words.BOLD,),
    "kindto": (words.ADJECTIVES_WITH_COMPLEMENT,),
    "thingadj": (words.THING_ADJECTIVES,),
    "place": (words.PLACES,),
    "carried": (words.CARRIED,),
    "near": (words.BESIDE,),
    "who": (words.RELATIVE,),
    "certainly": (words.CERTAINLY,),
    "luckily": (words.LUCKILY,),
    "recently": (words.RECENTLY,),
    "perhaps": (words.PERHAPS,),
    "allegedly": (words.ALLEGEDLY,),
    "because": (words.BECAUSE,),
    "although": (words.ALTHOUGH,),
    "when": (words.WHEN,),
    "before": (words.BEFORE,),
    "anywhen": (words.AMBIGUOUS_WHEN,),
    "if": (words.IF,),
    "onlyif": (words.ONLY_IF,),
    "unless": (words.UNLESS,),
    "whether": (words.WHETHER,),
}
"""Slot class to the pools it draws from: first a pool, then a word, each uniformly. Class `x` depends on its `o`."""

FUNCTION_SLOTS = frozenset(
    [
        "near",
        "who",
        "certainly",
        "luckily",
        "recently",
        "perhaps",
        "allegedly",
        "because",
        "although",
        "when",
        "before",
        "anywhen",
        "if",
        "onlyif",
        "unless",
        "whether",
    ]
)
"""Classes that may repeat within a sentence."""

CLAUSES = ("the {n} {w} the {n}", "the {n} {w} the {n}", "the {n} {i}", "the {n} {j} in the {place}")
"""What a clause slot `{c1}` may be, drawn uniformly."""


@dataclass(frozen=True, slots=True)
class Template:
    """A premise and a hypothesis with slots; `name` is unique within the subcase."""

    name: str
    premise: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Subcase:
    """One construction: its heuristic, its label, its label among three, and its templates."""

    heuristic: Heuristic
    label: Literal["entailment", "non-entailment"]
    three_way: Literal["entailment", "neutral", "contradiction"]
    templates: tuple[Template, ...]


def _subcase(name: str, *pairs: tuple[str, str]) -> Subcase:
    """The subcase of that name; its first letter is the heuristic's, its second the label's."""
    heuristics: dict[str, Heuristic] = {"l": "lexical_overlap", "s": "subsequence", "c": "constituent"}
    templates = tuple(
        Template(f"{name}.{number}", premise + " .", hypothesis + " .")
        for number, (premise, hypothesis) in enumerate(pairs, start=1)
    )
    if name[1] == "e":
        return Subcase(heuristics[name[0]], "entailment", "entailment", templates)
    # Neutral throughout: in none of these constructions does the premise rule the hypothesis out. That the nurse
    # thanked the pilot doesn't keep the pilot from having thanked the nurse; "or", "if", "perhaps" and "claimed that"
    # leave their clause open; and verbs whose swap would be ruled out or implied are not in the lexicon.
    return Subcase(heuristics[name[0]], "non-entailment", "neutral", templates)


_PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    # ---- lexical overlap, entailment: the hypothesis reorders or skips, and is true
    "le_relative_clause": (
        ("The {n1} {who1} {w1} the {n2} {w2} the {n3}", "The {n1} {w1} the {n2}"),
        ("The {n1} {who1} the {n2} {w1} {w2} the {n3}", "The {n2} {w1} the {n1}"),
        ("The {n1} {w1} the {n2} {who1} {w2} the {n3}", "The {n2} {w2} the {n3}"),
        ("The {n1} {w1} the {n2} {who1} the {n3} {w2}", "The {n3} {w2} the {n2}"),
        ("The {n1} {who1} the {n2} {w1} {i1}", "The {n2} {w1} the {n1}"),
        ("The {n1} {who1} {w1} the {n2} {i1}", "The {n1} {w1} the {n2}"),
    ),
    "le_around_prepositional_phrase": (
        ("The {n1} {near1} the {n2} {w1} the {n3}", "The {n1} {w1} the {n3}"),
        ("The {n1} from the {place1} {w1} the {n2}", "The {n1} {w1} the {n2}"),
        ("The {n1} with the {carried1} {w1} the {n2} {near1} the {n3}", "The {n1} {w1} the {n2}"),
        ("The {n1} {near1} the {n2} {i1}", "The {n1} {i1}"),
    ),
    "le_around_relative_clause": (
        ("The {n1} {who1} {w1} the {n2} {w2} the {n3}", "The {n1} {w2} the {n3}"),
        ("The {n1} {who1} the {n2} {w1} {w2} the {n3}", "The {n1} {w2} the {n3}"),
        ("The {n1} {who1} {j1} in the {place1} {w1} the {n2}", "The {n1} {w1} the {n2}"),
        ("The {n1} {who1} the {n2} {w1} {i1}", "The {n1} {i1}"),
    ),
    "le_conjunction": (
        ("The {n1} and the {n2} {w1} the {n3}", "The {n1} {w1} the {n3}"),
        ("The {n1} {w1} the {n2} and the {n3}", "The {n1} {w1} the {n3}"),
        ("The {n1} {i1} and {w1} the {n2}", "The {n1} {w1} the {n2}"),
        ("The {n1} {w1} the {n2} and {w2} the {n3}", "The {n1} {w2} the {n3}"),
    ),
    "le_passive": (
        ("The {n1} {n1:was} {r1:participle} by the {n2}", "The {n2} {r1} the {n1}"),
        ("In the {place1} the {n1} {n1:was} {r1:participle} by the {n2}", "The {n2} {r1} the {n1}"),
        ("The {n1} {near1} the {n2} {n1:was} {r1:participle} by the {n3}", "The {n3} {r1} the {n1}"),
        ("The {n1} {n1:was} {r1:participle} by the {n2} and the {n3}", "The {n3} {r1} the {n1}"),
    ),
    # ---- lexical overlap, non-entailment: the same words, another claim
    "ln_subject/object_swap": (
        ("The {n1} {w1} the {n2}", "The {n2} {w1} the {n1}"),
        ("In the {place1} the {n1} {w1} the {n2}", "The {n2} {w1} the {n1}"),
        ("The {n1} {w1} the {n2} {recently1}", "The {n2} {w1} the {n1}"),
        ("{recently1} the {adj1} {n1} {w1} the {n2}", "The {n2} {w1} the {n1}"),
    ),
    "ln_preposition": (
        ("The {n1} {near1} the {n2} {w1} the {n3}", "The {n3} {w1} the {n1}"),
        ("The {n1} {near1} the {n2} {w1} the {n3}", "The {n3} {w1} the {n2}"),
        ("The {n1} {near1} the {n2} {w1} the {n3}", "The {n2} {w1} the {n1}"),
        ("The {n1} {w1} the {n2} {near1} the {n3}", "The {n2} {w1} the {n3}"),
        ("The {n1} {w1} the {n2} {near1} the {n3}", "The {n3} {w1} the {n1}"),
        ("The {n1} {w1} the {n2} {near1} the {n3}", "The {n3} {w1} the {n2}"),
        ("The {n1} {i1} {near1} the {n2}", "The {n2} {i1}"),
        ("The {n1} from the {place1} {i1} {near1} the {n2}", "The {n2} {i1}"),
    ),
    "ln_relative_clause": (
        ("The {n1} {who1} {w1} the {n2} {w2} the {n3}", "The {n2} {w1} the {n1}"),
        ("The {n1} {who1} {w1} the {n2} {w2} the {n3}", "The {n3} {w2} the {n2}"),
        ("The {n1} {who1} the {n2} {w1} {w2} the {n3}", "The {n1} {w1} the {n2}"),
        ("The {n1} {who1} the {n2} {w1} {w2} the {n3}", "The {n2} {w2} the {n3}"),
        ("The {n1} {w1} the {n2} {who1} {w2} the {n3}", "The {n3} {w2} the {n1}"),
        ("The {n1} {w1} the {n2} {who1} the {n3} {w2}", "The {n2} {w2} the {n3}"),
        ("The {n1} {who1} the {n2} {w1} {i1}", "The {n2} {i1}"),
        ("The {n1} {who1} {i1} {w1} the {n2}", "The {n2} {i1}"),
    ),
    "ln_passive": (
        ("The {n1} {n1:was} {r1:participle} by the {n2}", "The {n1} {r1} the {n2}"),
        ("In the {place1} the {n1} {n1:was} {r1:participle} by the {n2}", "The {n1} {r1} the {n2}"),
        ("The {n1} {near1} the {n2} {n1:was} {r1:participle} by the {n3}", "The {n1} {r1} the {n3}"),
        ("The {n1} {n1:was} {r1:participle} by the {n2} and the {n3}", "The {n1} {r1} the {n3}"),
    ),
    "ln_conjunction": (
        ("The {n1} and the {n2} {w1} the {n3}", "The {n1} {w1} the {n2}"),
        ("The {n1} and the {n2} {w1} the {n3}", "The {n3} {w1} the {n1}"),
        ("The {n1} {w1} the {n2} and the {n3}", "The {n2} {w1} the {n3}"),
        ("The {n1} {w1} the {n2} and the {n3}", "The {n3} {w1} the {n2}"),
    ),
    # ---- subsequence, entailment: what is left away was only added
    "se_conjunction": (
        ("The {n1} and the {n2} {m1} the {n3}", "The {n2} {m1} the {n3}"),
        ("The {n1} {m1} the {n2} and the {n3}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} and {i1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} and {t1} the {n3}", "The {n1} {m1} the {n2}"),
        ("Both the {n1} and the {n2} {m1} the {n3}", "The {n2} {m1} the {n3}"),
        ("The {n1} {z1} in the {place1} and the {place2}", "The {n1} {z1} in the {place1}"),
    ),
    "se_PP_on_obj": (
        ("The {n1} {m1} the {n2} {near1} the {n3}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} from the {place1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} with the {carried1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} outside the {place1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} with the {carried1} from the {place1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {z1} in the {place1} {near1} the {place2}", "The {n1} {z1} in the {place1}"),
    ),
    "se_relative_clause_on_obj": (
        ("The {n1} {m1} the {n2} {who1} {t1} the {n3}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} {who1} the {n3} {t1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} {who1} {i1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} {who1} {j1} in the {place1}", "The {n1} {m1} the {n2}"),
        ("The {n1} {m1} the {n2} {who1} {n2:was} {t1:participle} by the {n3}", "The {n1} {m1} the {n2}"),
        ("The {n1} {z1} in the {place1} that the {n2} {visited1}", "The {n1} {z1} in the {place1}"),
    ),
    "se_adjective": (
        ("{adj1} {p1} {i1}", "{p1} {i1}"),
        ("{adj1} {p1} {t1} the {n1}", "{p1} {t1} the {n1}"),
        ("The {n1} {i1} , {adj1} and {adj2}", "The {n1} {i1}"),
        ("The {n1} {i1} , more {graded1} than the {n2}", "The {n1} {i1}"),
        ("The {n1} {t1} the {n2} {kindto1} the {n3}", "The {n1} {t1} the {n2}"),
        ("The {n1} {t1} the {n2} {bold1} enough to {i1:base}", "The {n1} {t1} the {n2}"),
    ),
    "se_understood_object": (
        ("The {n1} {o1} the {x1}", "The {n1} {o1}"),
        ("The {n1} {o1} the {thingadj1} {x1}", "The {n1} {o1}"),
        ("The {n1} {o1} the {x1} in the {place1}", "The {n1} {o1}"),
        ("The {n1} {z1} the {n2}", "The {n1} {z1}"),
        ("The {n1} {z1} the {adj1} {n2}", "The {n1} {z1}"),
        ("The {n1} {z1} the {n2} and the {n3}", "The {n1} {z1}"),
    ),
    # ---- subsequence, non-entailment: the words stand together but don't belong together
    "sn_NP/S": (
        ("The {n1} {s1} the {n2} {i1}", "The {n1} {s1} the {n2}"),
        ("The {n1} {s1} the {n2} {t1} the {n3}", "The {n1} {s1} the {n2}"),
        ("The {n1} {s1} the {n2} had {t1:participle} the {n3}", "The {n1} {s1} the {n2}"),
        ("The {n1} {s1} the {n2} would {i1:base}", "The {n1} {s1} the {n2}"),
        ("The {n1} {s1} the {n2} {n2:was} {adj1}", "The {n1} {s1} the {n2}"),
        ("The {n1} {s1} the {n2} {n2:was} {t1:participle} by the {n3}", "The {n1} {s1} the {n2}"),
    ),
    "sn_NP/Z": (
        ("{anywhen1} the {n1} {z1} the {n2} {i1}", "The {n1} {z1} the {n2}"),
        ("{anywhen1} the {n1} {z1} the {n2} {t1} the {n3}", "The {n1} {z1} the {n2}"),
        ("{because1} the {n1} {z1} the {n2} {i1}", "The {n1} {z1} the {n2}"),
        ("{because1} the {n1} {z1} the {n2} {t1} the {n3}", "The {n1} {z1} the {n2}"),
        ("{although1} the {n1} {z1} the {n2} {i1}", "The {n1} {z1} the {n2}"),
        ("{although1} the {n1} {z1} the {n2} {t1} the {n3}", "The {n1} {z1} the {n2}"),
    ),
    "sn_PP_on_subject": (
        ("The {n1} {near1} the {n2} {t1} the {n3}", "The {n2} {t1} the {n3}"),
        ("The {n1} in the {place1} {near1} the {n2} {t1} the {n3}", "The {n2} {t1} the {n3}"),
        ("The {n1} and the {n2} {near1} the {n3} {t1} the {n4}", "The {n3} {t1} the {n4}"),
        ("The {n1} {near1} the {n2} {o1} the {x1}", "The {n2} {o1}"),
        ("The {n1} {near1} the {n2} {i1}", "The {n2} {i1}"),
        ("The {n1} {near1} {p1} {i1}", "{p1} {i1}"),
    ),
    "sn_relative_clause_on_subject": (
        ("The {n1} {who1} {t1} the {n2} {t2} the {n3}", "The {n2} {t2} the {n3}"),
        ("The {n1} and the {n2} {who1} {t1} the {n3} {t2} the {n4}", "The {n3} {t2} the {n4}"),
        ("The {n1} {who1} {t1} the {n2} {o1} the {x1}", "The {n2} {o1}"),
        ("The {n1} {who1} {t1} the {n2} {o1} the {x1} in the {place1}", "The {n2} {o1}"),
        ("The {n1} {who1} {t1} the {n2} {i1}", "The {n2} {i1}"),
        ("The {n1} {who1} {t1} {p1} {t2} the {n2}", "{p1} {t2} the {n2}"),
    ),
    "sn_past_participle": (
        ("The {n1} {z1:participle} in the {place1} {i1}", "The {n1} {z1} in the {place1}"),
        ("The {n1} {z1:participle} in the {place1} {t1} the {n2}", "The {n1} {z1} in the {place1}"),
        ("The {n1} {t1} the {n2} {z1:participle} in the {place1}", "The {n2} {z1} in the {place1}"),
        ("The {n1} {z1:participle} by the {n2} {i1}", "The {n1} {z1}"),
        ("The {n1} {z1:participle} by the {n2} {t1} the {n3}", "The {n1} {z1}"),
        ("The {n1} {t1} the {n2} {z1:participle} by the {n3}", "The {n2} {z1}"),
    ),
    # ---- constituent, entailment: the clause is asserted or taken for granted
    "ce_adverb": (
        ("{certainly1} {c1}", "{c1}"),
        ("{luckily1} {c1}", "{c1}"),
        ("{recently1} {c1}", "{c1}"),
        ("{c1} , {certainly1}", "{c1}"),
        ("{c1} {recently1}", "{c1}"),
    ),
    "ce_after_since_clause": (
        ("{because1} {c1} , {c2}", "{c2}"),
        ("{although1} {c1} , {c2}", "{c2}"),
        ("{when1} {c1} , {c2}", "{c2}"),
        ("{before1} {c1} , {c2}", "{c2}"),
    ),
    "ce_embedded_under_since": (
        ("{because1} {c1} , {c2}", "{c1}"),
        ("{although1} {c1} , {c2}", "{c1}"),
        ("{when1} {c1} , {c2}", "{c1}"),
        ("{c2} {because1} {c1}", "{c1}"),
        ("{c2} {although1} {c1}", "{c1}"),
    ),
    "ce_conjunction": (
        ("{c1} , and {c2}", "{c1}"),
        ("{c1} , and {c2}", "{c2}"),
        ("{c1} , but {c2}", "{c1}"),
        ("{c1} , but {c2}", "{c2}"),
    ),
    "ce_embedded_under_verb": (
        ("The {n1} {factive1} that {c1}", "{c1}"),
        ("The {n1} and the {n2} {factive1} that {c1}", "{c1}"),
        ("The {n1} {near1} the {n2} {factive1} that {c1}", "{c1}"),
        ("It {itfactive1} the {n1} that {c1}", "{c1}"),
    ),
    # ---- constituent, non-entailment: the clause is only entertained
    "cn_adverb": (
        ("{perhaps1} {c1}", "{c1}"),
        ("{allegedly1} {c1}", "{c1}"),
        ("{perhaps1} {c1} {recently1}", "{c1}"),
        ("{c1} , {allegedly1}", "{c1}"),
        ("{c1} , {perhaps1}", "{c1}"),
    ),
    "cn_after_if_clause": (
        ("{if1} {c1} , {c2}", "{c2}"),
        ("{unless1} {c1} , {c2}", "{c2}"),
        ("{c2} {unless1} {c1}", "{c2}"),
        ("{c2} {onlyif1} {c1}", "{c2}"),
    ),
    "cn_embedded_under_if": (
        ("{if1} {c1} , {c2}", "{c1}"),
        ("{unless1} {c1} , {c2}", "{c1}"),
        ("{whether1} {c1} , {c2}", "{c1}"),
        ("{c2} {whether1} {c1}", "{c1}"),
        ("{c2} {onlyif1} {c1}", "{c1}"),
    ),
    "cn_disjunction": (
        ("{c1} , or {c2}", "{c1}"),
        ("{c1} , or {c2}", "{c2}"),
        ("Either {c1} , or {c2}", "{c1}"),
        ("Either {c1} , or {c2}", "{c2}"),
    ),
    "cn_embedded_under_verb": (
        ("The {n1} {nonfactive1} that {c1}", "{c1}"),
        ("The {n1} and the {n2} {nonfactive1} that {c1}", "{c1}"),
        ("The {n1} {near1} the {n2} {nonfactive1} that {c1}", "{c1}"),
        ("It seemed to the {n1} that {c1}", "{c1}"),
    ),
}

SUBCASES: Mapping[str, Subcase] = {name: _subcase(name, *pairs) for name, pairs in _PAIRS.items()}
"""The thirty subcases of HANS, by its names, each with our own templates."""
