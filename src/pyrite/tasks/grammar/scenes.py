"""What can a scene of the general grammar hold, and how is it said?

A scene is who does what, to what, where and when. Every optional part ("detail") comes from a closed list whose members
exclude each other or have one opposite, so that changing one makes a contradiction, and leaving one out loses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Noun:
    """A countable noun and the group it belongs to; a group's own noun ("fruit") belongs to itself."""

    singular: str
    plural: str
    group: str


@dataclass(frozen=True, slots=True)
class Act:
    """One activity: ways to say it, as (progressive, participle or ""), what it is done to, and its opposite."""

    ways: tuple[tuple[str, str], ...]
    takes: tuple[str, ...] = ()
    opposite: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """Who, or to what: "two tall miners in red coats", "a green box"."""

    determiner: str
    noun: Noun
    adjective: str | None = None
    colour: str | None = None
    garment: Noun | None = None

    @property
    def plural(self) -> bool:
        return self.determiner in NUMBERS

    @property
    def aux(self) -> str:
        return "are" if self.plural else "is"

    def say(self) -> str:
        noun = self.noun.plural if self.plural else self.noun.singular
        named = with_article(self.determiner, f"{self.adjective} {noun}" if self.adjective else noun)
        if self.garment is None:
            return named
        worn = self.garment.plural if self.plural else self.garment.singular
        dress = f"{self.colour} {worn}"
        return f"{named} in {dress}" if self.plural else f"{named} in {with_article('a', dress)}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a sentence says. `way` picks among the act's ways to say it; `place` and `time` are phrases."""

    subject: Party
    act: Act
    way: int
    direct_object: Party | None
    place: str | None = None
    time: str | None = None
    voice: Literal["active", "passive"] = "active"

    def clause(self, *, negated: bool = False, subject: str | None = None) -> str:
        """The scene as a clause without capital and full stop; `subject` is said instead of the scene's own."""
        subject_words = subject or self.subject.say()
        progressive, participle = self.act.ways[self.way]
        no = "not " if negated else ""
        if self.voice == "passive" and self.direct_object is not None:
            core = f"{self.direct_object.say()} {self.direct_object.aux} {no}being {participle} by {subject_words}"
        else:
            core = f"{subject_words} {self.subject.aux} {no}{progressive}"
            core += f" {self.direct_object.say()}" if self.direct_object is not None else ""
        return " ".join([core, *self.where_and_when()])

    def where_and_when(self) -> list[str]:
        return [phrase for phrase in (self.place, self.time) if phrase]


def with_article(determiner: str, words: str) -> str:
    """The words after their determiner, "a" becoming "an" where it must."""
    if determiner == "a" and words[0] in "aeiou" and not words.startswith("uniform"):
        return f"an {words}"
    return f"{determiner} {words}"


def _plural(singular: str) -> str:
    if singular.startswith("piece of"):
        return singular.replace("piece", "pieces")
    for ending, plural in (
        ("man", "men"),
        ("child", "children"),
        ("person", "people"),
        ("shelf", "shelves"),
        ("scarf", "scarves"),
    ):
        if singular.endswith(ending):
            return singular.removesuffix(ending) + plural
    if singular in ("potato", "tomato", "mango") or singular.endswith(("s", "x", "ch", "sh")):
        return singular + "es"
    if singular.endswith("y") and singular[-2] not in "aeiou":
        return singular[:-1] + "ies"
    return singular + "s"


def _noun_groups(listed: Mapping[str, str]) -> dict[str, tuple[Noun, ...]]:
    """Group (its last word) to its members, the group's own noun first."""
    return {
        group.split()[-1]: tuple(Noun(name, _plural(name), group.split()[-1]) for name in (group, *members.split()))
        for group, members in listed.items()
    }


def _acts(listed: str) -> dict[str, Act]:
    """Lines of "progressive:participle / another way | what it is done to | opposite"."""
    acts = {}
    for line in listed.strip().splitlines():
        ways, takes, opposite = (part.strip() for part in (line + " | | ").split("|")[:3])
        forms = tuple((way.split(":")[0].strip(), way.partition(":")[2].strip()) for way in ways.split("/"))
        acts[forms[0][0]] = Act(forms, tuple(takes.split()), opposite)
    return acts


PERSON = Noun("person", "people", "person")
AGENTS = _noun_groups({
    "worker": "carpenter plumber electrician miner welder bricklayer mechanic gardener tailor janitor",
    "musician": "violinist drummer pianist guitarist flutist trumpeter cellist organist",
    "athlete": "boxer gymnast wrestler cyclist golfer skier sprinter goalkeeper",
    "artist": "painter sculptor potter illustrator cartoonist",
    "scientist": "chemist physicist biologist astronomer geologist botanist",
    "officer": "sergeant captain colonel lieutenant general",
    "child": "boy girl toddler schoolboy schoolgirl",
})  # fmt: skip
"""Group to people; all but children may also be said as "person"."""

THINGS = _noun_groups({
    "fruit": "apple pear banana peach mango plum",
    "vegetable": "carrot cabbage onion potato cucumber pumpkin",
    "tool": "hammer shovel wrench drill rake screwdriver",
    "vehicle": "car truck bus van tractor motorcycle",
    "instrument": "violin guitar trumpet flute accordion banjo",
    "piece of furniture": "chair table sofa desk shelf wardrobe",
    "animal": "dog cat goat rabbit parrot lamb donkey",
    "container": "basket bucket box suitcase bag jar barrel",
    "toy": "doll kite puppet ball robot",
})  # fmt: skip

_PORTABLE = "fruit vegetable tool instrument container toy"
TRANSITIVE = _acts(f"""
carrying:carried / transporting:transported | {_PORTABLE} furniture
holding:held / clutching:clutched | {_PORTABLE}
fixing:fixed / repairing:repaired / mending:mended | vehicle furniture instrument tool toy | breaking
breaking:broken / wrecking:wrecked | furniture instrument toy vehicle tool | fixing
buying:bought / purchasing:purchased | {_PORTABLE} furniture vehicle animal | selling
selling:sold / peddling:peddled | {_PORTABLE} furniture vehicle animal | buying
photographing:photographed / taking a photo of: | {_PORTABLE} furniture vehicle animal
drawing:drawn / sketching:sketched | {_PORTABLE} furniture vehicle animal
lifting:lifted / picking up:picked up | {_PORTABLE} furniture animal | putting down
putting down:put down / setting down:set down | {_PORTABLE} furniture animal | lifting
pulling:pulled / dragging:dragged | furniture vehicle container animal | pushing
pushing:pushed / shoving:shoved | furniture vehicle container animal | pulling
watching:watched / observing:observed | animal vehicle
examining:examined / inspecting:inspected | {_PORTABLE} furniture vehicle animal
petting:petted / stroking:stroked | animal
chasing:chased / running after: | animal vehicle
hiding:hidden / concealing:concealed | {_PORTABLE}
looking for:looked for / searching for:searched for | {_PORTABLE} furniture vehicle animal
throwing:thrown / tossing:tossed | fruit vegetable toy | catching
catching:caught / grabbing hold of: | fruit vegetable toy animal | throwing
building:built / constructing:constructed | furniture toy instrument | dismantling
dismantling:dismantled / taking apart:taken apart | furniture toy instrument vehicle | building
eating:eaten / consuming:consumed | fruit vegetable
chopping:chopped / cutting up:cut up | fruit vegetable
decorating:decorated / adorning:adorned | furniture container vehicle
guarding:guarded / watching over:watched over | vehicle animal container
washing:washed / cleaning:cleaned | fruit vegetable vehicle tool container toy
""")
ASLEEP = _acts("""
sleeping / napping / taking a nap
dozing / slumbering
""")
AWAKE = _acts("""
jogging / going for a run
strolling / taking a walk
talking / speaking
laughing / chuckling | | crying
crying / weeping / sobbing | | laughing
singing / performing a song
shouting / yelling | | whispering
whispering / speaking very softly | | shouting
smiling / grinning | | frowning
frowning / scowling | | smiling
hurrying / rushing
kneeling / down on one knee
exercising / working out
daydreaming / fantasizing
waving / gesturing with one hand
arguing on the phone / quarreling over the phone
""")
OPPOSITES = {
    "child": "tall/short happy/sad calm/nervous healthy/sick tired/energetic polite/rude dark-haired/blond",
    "adult": "tall/short happy/sad calm/nervous healthy/sick tired/energetic polite/rude dark-haired/blond "
    "young/elderly slim/stout rich/poor bald/long-haired",
    "thing": "big/small cheap/expensive",
    "made thing": "big/small cheap/expensive clean/dirty new/old heavy/light",
}
ADJECTIVES: dict[str, dict[str, str]] = {
    kind: {first: second for pair in listed.split() for first, second in (pair.split("/"), pair.split("/")[::-1])}
    for kind, listed in OPPOSITES.items()
}
"""Kind of noun to its adjectives, each with its opposite."""

COLOURS = ("red", "blue", "green", "yellow", "purple", "white", "black", "brown", "pink", "gray")
GARMENTS = tuple(
    Noun(name, _plural(name), "garment")
    for name in [
        "coat",
        "jacket",
        "sweater",
        "shirt",
        "hat",
        "scarf",
        "helmet",
        "apron",
        "vest",
        "uniform",
        "raincoat",
        "cap",
    ]
)
NUMBERS = ("two", "three", "four", "five", "six")

INDOORS = tuple(
    f"in the {place}"
    for place in [
        "kitchen",
        "library",
        "museum",
        "bakery",
        "classroom",
        "theater",
        "basement",
        "church",
        "laboratory",
        "supermarket",
        "bedroom",
        "attic",
        "train station",
        "hospital",
        "garage",
        "warehouse",
        "gym",
    ]
)
OUTDOORS = (
    "in the garden", "in the park", "in the meadow", "in the forest", "in the desert", "in the street", "on the beach",
    "on the lawn", "by the lake", "in the orchard", "in the schoolyard", "on the bridge", "by the river", "in the vineyard",
    "on the hillside", "in the parking lot",
)  # fmt: skip
ROOMY = ("in the garage", "in the warehouse", *OUTDOORS)
"""Where there may be vehicles."""
INSIDE = ("indoors", "inside a building")
OUTSIDE = ("outdoors", "out in the open")

DAYTIMES = ("in the morning", "at noon", "in the afternoon", "in the evening", "at midnight")
DAYS = tuple(f"on a {day}" for day in ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
WEATHER = {
    f"on {with_article('a', first)} day": f"on {with_article('a', second)} day"
    for pair in ("rainy/dry", "hot/cold", "sunny/overcast", "windy/windless")
    for first, second in (pair.split("/"), pair.split("/")[::-1])
}
SEASONS = ("in winter", "in spring", "in summer", "in autumn")
