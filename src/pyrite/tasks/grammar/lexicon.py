"""Which words does the heuristics grammar know, in which forms, and what may each be used for?

All words are our own choice. They are chosen so that labels stay right by construction: no verb is symmetric ("met",
"married"), no object-drop verb turns reflexive or causative without its object ("washed", "moved"), and no noun shares
its base form with a verb, so that no content word can come up twice in a sentence by accident.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A content word: `base` is its lemma; `forms` are (singular, plural), or (base, past, participle), or one form."""

    base: str
    forms: tuple[str, ...]


def _plural(singular: str) -> str:
    for ending, replacement in (("man", "men"), ("wife", "wives")):
        if singular.endswith(ending):
            return singular.removesuffix(ending) + replacement
    if singular.endswith(("s", "x", "ch", "sh")):
        return singular + "es"
    if singular.endswith("y") and singular[-2] not in "aeiou":
        return singular[:-1] + "ies"
    return singular + "s"


def _nouns(listed: str) -> tuple[Word, ...]:
    return tuple(Word(noun, (noun, _plural(noun))) for noun in listed.split())


def _regular_past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + "ed"


def _verbs(listed: str) -> tuple[Word, ...]:
    """Verbs from "base", "base/past" (participle alike) or "base/past/participle"."""
    words = []
    for entry in listed.split():
        base, *irregular = entry.split("/")
        past = irregular[0] if irregular else _regular_past(base)
        words.append(Word(base, (base, past, irregular[-1] if irregular else past)))
    return tuple(words)


def _fixed(*listed: str) -> tuple[Word, ...]:
    return tuple(Word(form, (form,)) for form in listed)


PEOPLE = _nouns("""
    accountant acrobat ambassador archer architect astronaut auditor barber baron biologist bishop blacksmith boxer
    broker butcher butler captain cardinal carpenter cashier chemist clerk colonel comedian composer consul courier
    curator cyclist dentist deputy detective diplomat duchess duke economist editor electrician emperor engineer
    farmer firefighter florist gardener geologist goalkeeper governor grocer guitarist hairdresser historian
    inventor jeweler journalist juror knight landlord librarian lieutenant lifeguard linguist locksmith
    magician mathematician mayor mechanic merchant messenger midwife miller miner monk musician novelist nun nurse
    officer orphan pharmacist philosopher photographer physicist pianist pilot plumber poet policeman porter priest
    prince princess psychologist publisher ranger receptionist referee reporter salesman sculptor sergeant shepherd
    sheriff shopkeeper soldier steward surgeon surveyor swimmer tailor tenant therapist trader translator treasurer
    umpire veterinarian violinist warden weaver widow wizard wrestler zoologist
""")

TRANSITIVE = _verbs("""
    admire amuse annoy avoid betray blame bother chase choose/chose/chosen comfort congratulate contact criticize
    defend delight disappoint disturb embarrass encourage entertain envy fire flatter forgive/forgave/forgiven
    frighten greet hire ignore impress insult interrupt invite mock notice offend praise protect punish reject
    replace rescue respect scold see/saw/seen startle stop/stopped support surprise tease thank tolerate warn welcome
""")
"""A person does it to a person, and it doesn't follow that it is done in return."""

OBJECT_OPTIONAL = _verbs("""
    applaud assist attack call cheat consult direct film follow help investigate lecture paint pay/paid phone recruit
    salute search serve sketch study sue teach/taught visit watch
""")
"""With or without a person as object; past and participle are one form; who is V-ed has not therefore V-ed."""

CLAUSE_OR_PERSON = _verbs("""
    accept acknowledge believe discover doubt fear find/found forget/forgot/forgotten hear/heard know/knew/known
    suspect understand/understood
""")
"""Takes a person ("believed the pilot") or a bare clause ("believed the pilot left"); the second never says the first."""

INTRANSITIVE = _verbs("""
    apologize arrive blush complain cough cry dance depart escape faint frown giggle grumble hesitate kneel/knelt laugh
    nod/nodded pray relax resign retire return shout sigh sleep/slept smile sneeze snore stumble tremble vanish wait
    weep/wept whistle yawn
""")

ON_THE_SPOT = tuple(
    verb
    for verb in INTRANSITIVE
    if verb.base not in {"arrive", "depart", "escape", "resign", "retire", "return", "vanish"}
)
"""What can be done "in the garden" without the place being read as a goal."""

UNDERSTOOD_OBJECTS: dict[Word, tuple[Word, ...]] = {
    verb: _fixed(*objects.split())
    for verb, objects in zip(
        _verbs("""
            bake carve cook dig/dug draw/drew/drawn drive/drove/driven eat/ate/eaten hum/hummed hunt iron knit/knitted
            mop/mopped pack play read/read ride/rode/ridden sail sew/sewed sing/sang/sung smoke sweep/swept type
            win/won write/wrote/written
        """),
        (
            "bread cake pie",
            "statue turkey mask",
            "dinner soup rice",
            "tunnel trench well",
            "map portrait castle",
            "truck taxi tractor",
            "sandwich apple pizza",
            "melody tune anthem",
            "deer fox rabbit",
            "shirt tablecloth uniform",
            "sweater scarf blanket",
            "floor corridor stairs",
            "suitcase trunk backpack",
            "violin flute piano",
            "letter novel newspaper",
            "horse camel bicycle",
            "yacht boat canoe",
            "dress curtain quilt",
            "hymn ballad song",
            "pipe cigar cigarette",
            "porch pavement hallway",
            "report memo invoice",
            "race lottery tournament",
            "essay diary poem",
        ),
        strict=True,
    )
}
"""Verb to the things it is done to: having V-ed the thing, a person has V-ed."""

FACTIVE = _verbs("""
    discover forget/forgot/forgotten know/knew/known learn notice realize recall regret/regretted remember
    reveal
""")
"""Embeds a clause that is thereby true: forgot that."""

NON_FACTIVE = _verbs("""
    argue assume believe claim dream fear guess hope imagine insist say/said suggest suspect swear/swore/sworn
    think/thought
""")
"""Embeds a clause that may be true or false: claimed that."""

FACTIVE_EXPERIENCE = _verbs(
    "alarm amaze annoy cheer depress disappoint frustrate please relieve shock surprise upset/upset"
)
"""It V-ed the pilot that so-and-so; so-and-so is thereby true."""

VISITED = _verbs("build/built own rebuild/rebuilt inspect design close open photograph renovate like")
"""What a person does to a place."""

ADJECTIVES = _fixed(
    *[
        "anxious",
        "bored",
        "brave",
        "brilliant",
        "calm",
        "careful",
        "cheerful",
        "clever",
        "clumsy",
        "confident",
        "confused",
        "curious",
        "energetic",
        "exhausted",
        "famous",
        "friendly",
        "generous",
        "gloomy",
        "grumpy",
        "handsome",
        "honest",
        "hungry",
        "impatient",
        "lonely",
        "modest",
        "nervous",
        "patient",
        "polite",
        "proud",
        "quiet",
        "restless",
        "selfish",
        "shy",
        "sleepy",
        "sober",
        "stubborn",
        "talented",
        "thirsty",
        "wealthy",
        "wise",
    ]
)

GRADED = _fixed(
    *[
        "anxious",
        "cautious",
        "cheerful",
        "confident",
        "confused",
        "curious",
        "energetic",
        "generous",
        "hopeful",
        "impatient",
        "nervous",
        "patient",
        "restless",
        "stubborn",
        "talented",
    ]
)
"""Goes with "more ... than"."""

THING_ADJECTIVES = _fixed(*["beautiful", "cheap", "expensive", "huge", "large", "new", "old", "small"])

BOLD = _fixed(
    *[
        "bold",
        "brave",
        "clever",
        "confident",
        "curious",
        "foolish",
        "honest",
        "kind",
        "polite",
        "reckless",
        "stubborn",
        "wise",
    ]
)
"""Goes with "... enough to complain"."""

ADJECTIVES_WITH_COMPLEMENT = tuple(
    Word(phrase.split()[0], (phrase,))
    for phrase in (
        "afraid of", "angry with", "fond of", "grateful to", "hostile to", "jealous of", "kind to", "loyal to", "obedient to",
        "rude to", "suspicious of", "tired of",
    )
)  # fmt: skip

PLACES = _fixed(
    *[
        "airport",
        "bakery",
        "bank",
        "barn",
        "basement",
        "cafe",
        "castle",
        "cathedral",
        "cellar",
        "chapel",
        "cinema",
        "clinic",
        "factory",
        "garden",
        "garage",
        "gym",
        "harbor",
        "hospital",
        "hotel",
        "laboratory",
        "library",
        "market",
        "monastery",
        "museum",
        "office",
        "palace",
        "park",
        "prison",
        "restaurant",
        "school",
        "stadium",
        "studio",
        "temple",
        "theater",
        "valley",
        "village",
        "warehouse",
        "workshop",
        "zoo",
    ]
)

CARRIED = _fixed(
    *[
        "basket",
        "bucket",
        "camera",
        "hammer",
        "ladder",
        "lantern",
        "parrot",
        "rope",
        "spear",
        "trumpet",
        "umbrella",
        "wallet",
    ]
)

BESIDE = _fixed("near", "beside", "behind", "next to", "in front of", "across from")
RELATIVE = _fixed("who", "that")
"""Relative pronoun, for people in either role."""

CERTAINLY = _fixed(
    "certainly", "clearly", "definitely", "obviously", "of course", "undoubtedly", "without question", "indeed"
)
LUCKILY = _fixed(
    "fortunately", "luckily", "sadly", "strangely", "surprisingly", "unfortunately", "to everyone's surprise"
)
RECENTLY = _fixed("yesterday", "last week", "last night", "on Monday", "this morning", "two days ago", "last summer")
PERHAPS = _fixed("perhaps", "maybe", "possibly", "probably", "conceivably", "in all likelihood")
ALLEGEDLY = _fixed("allegedly", "supposedly", "reportedly", "according to rumor", "hopefully", "presumably")

BECAUSE = _fixed("because", "since", "given that")
ALTHOUGH = _fixed("although", "though", "even though", "despite the fact that")
WHEN = _fixed("after", "when", "while", "once", "as soon as")
"""Subordinators of time whose clause has happened; "before" is not one of them."""
BEFORE = _fixed("before", "just before", "long before", "shortly before")
"""Leaves open whether its clause comes true; the main clause is asserted."""
AMBIGUOUS_WHEN = _fixed("after", "before", "when", "while", "once")
IF = _fixed("if", "provided that", "assuming that", "supposing that")
"""Before its main clause; behind it, "assuming that" could be what the subject did."""
ONLY_IF = _fixed("if", "only if", "if and only if")
"""Behind its main clause."""
UNLESS = _fixed("unless")
WHETHER = _fixed("whether or not", "no matter whether", "even if")
