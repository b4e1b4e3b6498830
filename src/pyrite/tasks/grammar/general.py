"""Where can I get general NLI pairs with three labels, when no human data can be had?

A small grammar of scenes (see `scenes.py`). The hypothesis is drawn first, from one distribution for all three labels;
the premise is then built from it by a relation that makes the label true. So a model that reads hypotheses alone has
nothing to learn, while the share of rows whose hypothesis words all occur in the premise is set by two dials: with many
such rows among entailments and few among the others, the lexical overlap heuristic pays in training.

As in SNLI, premise and hypothesis are taken to tell of one situation: "a miner is asleep" contradicts "a miner is
running", and "two miners" contradicts "three miners".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Pair
from pyrite.tasks.grammar import scenes
from pyrite.tasks.grammar.scenes import AGENTS, PERSON, THINGS, Act, Noun, Party, Scene

Label = Literal["entailment", "neutral", "contradiction"]
T = TypeVar("T")

LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")
ACTS: Mapping[str, Act] = {**scenes.TRANSITIVE, **scenes.AWAKE, **scenes.ASLEEP}
_MOST_DETAILS = 3
_REPORTING = ("hope", "think", "say", "believe", "claim", "suspect", "imagine", "fear")
_PERHAPS = ("perhaps", "maybe", "possibly", "it is possible that", "it is likely that")
_MAX_TRIES = 1000


def generate_general(n: int, *, seed: int, overlap_entailment: float = 0.5, overlap_other: float = 0.0) -> list[Pair]:
    """`n` distinct pairs, a third of each label up to one row; the same arguments give the same list.

    Args:
        n: how many pairs.
        seed: any whole number from 0 up.
        overlap_entailment: fraction of entailment rows whose hypothesis words all occur in the premise.
        overlap_other: the same fraction among neutral rows and among contradiction rows.

    Raises:
        UserError: a number is out of range, or there are no `n` distinct pairs.
    """
    if n < 1 or seed < 0:
        raise UserError(
            "cannot write these pairs", f"n={n}, seed={seed}", "ask for n of at least 1 and a seed of at least 0"
        )
    for name, fraction in (("overlap_entailment", overlap_entailment), ("overlap_other", overlap_other)):
        if not 0 <= fraction <= 1:
            raise UserError(f"{name} is a fraction", str(fraction), "give a number from 0 to 1")
    rng = np.random.default_rng(seed)
    plan: list[tuple[Label, bool]] = []
    for place, label in enumerate(LABELS):
        rows = (n + len(LABELS) - 1 - place) // len(LABELS)
        overlapping = round(rows * (overlap_entailment if label == "entailment" else overlap_other))
        plan += [(label, i < overlapping) for i in range(rows)]
    pairs: list[Pair] = []
    drawn_pairs: set[tuple[str, str]] = set()
    for row in rng.permutation(n):
        label, overlap = plan[row]
        for _ in range(_MAX_TRIES):
            premise, hypothesis, relation, template = _draw_pair(label, overlap, rng)
            if (_words(hypothesis) <= _words(premise)) == overlap and (premise, hypothesis) not in drawn_pairs:
                break
        else:
            raise UserError(
                f"cannot write {n} distinct pairs", f"no new pair after {len(pairs)}", "ask for fewer pairs"
            )
        drawn_pairs.add((premise, hypothesis))
        meta = {"relation": relation, "template": template}
        pairs.append(Pair(premise, hypothesis, label, id=f"general-{seed}-{len(pairs)}", meta=meta))
    return pairs


def _draw_pair(label: Label, overlap: bool, rng: np.random.Generator) -> tuple[str, str, str, str]:
    """Premise, hypothesis, relation and template of one row; the hypothesis does not depend on the label."""
    scene = _draw_scene(rng)
    hypothesis = _sentence(scene, rng)
    template = f"{'transitive' if scene.direct_object else 'intransitive'}-{scene.voice}-{len(_details(scene))}"
    relations = [relation for relation in RELATIONS if relation.label == label and relation.overlap == overlap]
    weights = np.array([relation.weight for relation in relations])
    for i in rng.choice(len(relations), size=len(relations), replace=False, p=weights / weights.sum()):
        premise = relations[i].write(scene, rng)
        if premise is not None:
            return premise, hypothesis, relations[i].name, template
    raise AssertionError(f"no {label} for {hypothesis}")  # every kind of row has a relation that always applies


# ---- scenes: drawing them, adding details, leaving details out


def _draw_scene(rng: np.random.Generator) -> Scene:
    """A scene with up to three details, seldom with none."""
    noun = PERSON if _chance(0.1, rng) else _pick(_pick(tuple(AGENTS.values()), rng), rng)
    act, direct_object = _draw_act(rng)
    way = _below(len(act.ways), rng)
    passive = direct_object is not None and act.ways[way][1] != "" and _chance(0.2, rng)
    subject = Party(_draw_determiner(rng, ("a", "the")), noun)
    scene = Scene(subject, act, way, direct_object, voice="passive" if passive else "active")
    return _with_details(scene, 0 if _chance(0.1, rng) else 1 + _below(_MOST_DETAILS, rng), rng)


def _draw_act(rng: np.random.Generator) -> tuple[Act, Party | None]:
    if _chance(0.65, rng):
        act = _pick(tuple(scenes.TRANSITIVE.values()), rng)
        return act, Party(_draw_determiner(rng, ("a",)), _pick(THINGS[_pick(act.takes, rng)], rng))
    if _chance(0.15, rng):
        return _pick(tuple(scenes.ASLEEP.values()), rng), None
    return _pick(tuple(scenes.AWAKE.values()), rng), None


def _draw_determiner(rng: np.random.Generator, singular: Sequence[str]) -> str:
    return _pick(scenes.NUMBERS, rng) if _chance(0.3, rng) else _pick(singular, rng)


Detail = Literal["adjective", "garment", "thing adjective", "place", "when"]


def _details(scene: Scene) -> list[Detail]:
    """The details that the scene has."""
    present: dict[Detail, bool] = {
        "adjective": scene.subject.adjective is not None,
        "garment": scene.subject.garment is not None,
        "thing adjective": scene.direct_object is not None and scene.direct_object.adjective is not None,
        "place": scene.place is not None,
        "when": scene.time is not None,
    }
    return [detail for detail, is_present in present.items() if is_present]


def _with_details(scene: Scene, count: int, rng: np.random.Generator, *, but: Sequence[Detail] = ()) -> Scene:
    """The scene with up to `count` details more, none of them among `but`."""
    possible: tuple[Detail, ...] = ("adjective", "garment", "place", "when", "thing adjective")
    unavailable = [*_details(scene), *but, *(() if scene.direct_object else ("thing adjective",))]
    free = [detail for detail in possible if detail not in unavailable]
    for i in rng.permutation(len(free))[:count]:
        scene = _with_detail(scene, free[i], rng)
    return scene


def _with_detail(scene: Scene, detail: Detail, rng: np.random.Generator) -> Scene:
    if detail == "adjective":
        adjective = _pick(tuple(_adjectives(scene.subject.noun)), rng)
        return replace(scene, subject=replace(scene.subject, adjective=adjective))
    if detail == "garment":
        colour, garment = _pick(scenes.COLOURS, rng), _pick(scenes.GARMENTS, rng)
        return replace(scene, subject=replace(scene.subject, colour=colour, garment=garment))
    if detail == "thing adjective":
        assert scene.direct_object is not None
        opposites = tuple(_adjectives(scene.direct_object.noun))
        coloured = len(opposites) > 4 and _chance(0.5, rng)
        return replace(
            scene,
            direct_object=replace(scene.direct_object, adjective=_pick(scenes.COLOURS if coloured else opposites, rng)),
        )
    if detail == "place":
        general = _chance(0.25, rng)
        return replace(scene, place=_pick(scenes.INSIDE + scenes.OUTSIDE if general else _places(scene), rng))
    times = (scenes.DAYTIMES, scenes.DAYS, tuple(scenes.WEATHER), scenes.SEASONS)
    return replace(scene, time=_pick(_pick(times, rng), rng))


def _without(scene: Scene, details: Sequence[Detail]) -> Scene:
    for detail in details:
        if detail == "adjective":
            scene = replace(scene, subject=replace(scene.subject, adjective=None))
        elif detail == "garment":
            scene = replace(scene, subject=replace(scene.subject, colour=None, garment=None))
        elif detail == "thing adjective" and scene.direct_object is not None:
            scene = replace(scene, direct_object=replace(scene.direct_object, adjective=None))
        elif detail == "place":
            scene = replace(scene, place=None)
        elif detail == "when":
            scene = replace(scene, time=None)
    return scene


def _adjectives(noun: Noun) -> Mapping[str, str]:
    if noun is PERSON or noun.group in AGENTS:
        return scenes.ADJECTIVES["child" if noun.group == "child" else "adult"]
    return scenes.ADJECTIVES["thing" if noun.group in ("fruit", "vegetable", "animal") else "made thing"]


def _places(scene: Scene) -> tuple[str, ...]:
    """Places where the scene may be."""
    if scene.direct_object is not None and scene.direct_object.noun.group == "vehicle":
        return scenes.ROOMY
    return scenes.INDOORS + scenes.OUTDOORS


def _narrower(noun: Noun) -> tuple[Noun, ...]:
    """Nouns for what is a kind of this one."""
    if noun is PERSON:
        return tuple(member for group, members in AGENTS.items() if group != "child" for member in members)
    members = {**AGENTS, **THINGS}[noun.group]
    return members[1:] if noun == members[0] else ()


def _wider(noun: Noun) -> tuple[Noun, ...]:
    """Nouns for what this one is a kind of."""
    if noun is PERSON:
        return ()
    group_noun = {**AGENTS, **THINGS}[noun.group][0]
    adult = noun.group in AGENTS and noun.group != "child"
    return (*((group_noun,) if noun != group_noun else ()), *((PERSON,) if adult else ()))


# ---- sentences


def _sentence(scene: Scene, rng: np.random.Generator, *, tail: bool = False) -> str:
    """The scene as a sentence: sometimes with its time or place in front; with `tail`, sometimes with more behind."""
    around = scene.where_and_when()
    if around and _chance(0.2, rng):
        text = f"{around[-1]} {_without(scene, ['when' if scene.time else 'place']).clause()}"
    else:
        text = scene.clause()
    return _finished(text + (_tail(scene, rng) if tail and _chance(0.35, rng) else ""))


def _tail(scene: Scene, rng: np.random.Generator) -> str:
    """What somebody else does, doesn't, may do or is said to do, so that "not" or "perhaps" alone gives no label away."""
    bystander, witness = _outsider(scene, rng), _someone(scene, rng)
    if bystander is None:
        return ""
    doing = _pick(_pick(tuple((scenes.AWAKE | scenes.ASLEEP).values()), rng).ways, rng)[0]
    subject_words, reported = f"{bystander.say()} {bystander.aux}", _pick(_REPORTING, rng)
    tails = (
        f" while {subject_words} {doing}",
        f" while {subject_words} not {doing}",
        f", and {_pick(_PERHAPS, rng)} {subject_words} {doing}",
        f", and {witness.say()} {reported if witness.plural else reported + 's'} that {subject_words} {doing}",
    )
    return _pick(tails, rng)


def _finished(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _someone(scene: Scene, rng: np.random.Generator) -> Party:
    """Another person, or as many as there are subjects, so that verbs agree alike."""
    noun = _pick([noun for members in AGENTS.values() for noun in members[1:] if noun != scene.subject.noun], rng)
    return Party(_pick(scenes.NUMBERS, rng) if scene.subject.plural else _pick(("a", "the"), rng), noun)


def _outsider(scene: Scene, rng: np.random.Generator) -> Party | None:
    """Someone of whom the subject's noun isn't true: what a pianist does, a musician does, too. None for a person."""
    if scene.subject.noun is PERSON:
        return None
    party = _someone(scene, rng)
    while party.noun in _narrower(scene.subject.noun):
        party = _someone(scene, rng)
    return party


def _elaborated(scene: Scene, rng: np.random.Generator, *, but: Sequence[Detail] = ()) -> str:
    """A premise: the scene, one or two details more, perhaps a tail."""
    return _sentence(_with_details(scene, 1 + _below(2, rng), rng, but=but), rng, tail=True)


# ---- relations: from a hypothesis's scene to a premise, or None where the relation doesn't apply


def _more_details(scene: Scene, rng: np.random.Generator) -> str | None:
    return _elaborated(scene, rng)


def _synonym(scene: Scene, rng: np.random.Generator, *, negated: bool = False) -> str | None:
    ways = [
        way
        for way, (_, participle) in enumerate(scene.act.ways)
        if way != scene.way and (scene.voice == "active" or participle)
    ]
    if not ways:
        return None
    rephrased = replace(scene, way=_pick(ways, rng))
    return _negated(rephrased, rng) if negated else _elaborated(rephrased, rng)


def _narrower_agent(scene: Scene, rng: np.random.Generator) -> str | None:
    return _with_nouns(scene, "subject", _narrower(scene.subject.noun), rng)


def _wider_agent(scene: Scene, rng: np.random.Generator) -> str | None:
    return _with_nouns(scene, "subject", _wider(scene.subject.noun), rng)


def _narrower_thing(scene: Scene, rng: np.random.Generator) -> str | None:
    return _with_nouns(scene, "thing", _narrower(scene.direct_object.noun) if scene.direct_object else (), rng)


def _wider_thing(scene: Scene, rng: np.random.Generator) -> str | None:
    return _with_nouns(scene, "thing", _wider(scene.direct_object.noun) if scene.direct_object else (), rng)


def _with_nouns(
    scene: Scene, part: Literal["subject", "thing"], nouns: Sequence[Noun], rng: np.random.Generator
) -> str | None:
    party = scene.subject if part == "subject" else scene.direct_object
    if not nouns or party is None:
        return None
    changed = replace(party, noun=_pick(nouns, rng))
    return _elaborated(
        replace(scene, subject=changed) if part == "subject" else replace(scene, direct_object=changed), rng
    )


def _narrower_place(scene: Scene, rng: np.random.Generator) -> str | None:
    if scene.place in scenes.INSIDE:
        return _elaborated(replace(scene, place=_pick([p for p in _places(scene) if p in scenes.INDOORS], rng)), rng)
    if scene.place in scenes.OUTSIDE:
        return _elaborated(replace(scene, place=_pick(scenes.OUTDOORS, rng)), rng)
    return None


def _wider_place(scene: Scene, rng: np.random.Generator) -> str | None:
    if scene.place in scenes.INDOORS:
        return _elaborated(replace(scene, place=_pick(scenes.INSIDE, rng)), rng)
    if scene.place in scenes.OUTDOORS:
        return _elaborated(replace(scene, place=_pick(scenes.OUTSIDE, rng)), rng)
    return None


def _other_voice(scene: Scene, rng: np.random.Generator) -> str | None:
    if scene.direct_object is None or not scene.act.ways[scene.way][1]:
        return None
    return _elaborated(replace(scene, voice="active" if scene.voice == "passive" else "passive"), rng)


def _unstated_detail(scene: Scene, rng: np.random.Generator) -> str | None:
    details = _details(scene)
    if not details:
        return None
    removed = [details[i] for i in rng.permutation(len(details))[: 1 + _below(len(details), rng)]]
    return _elaborated(_without(scene, removed), rng, but=removed)


def _unstated_act(scene: Scene, rng: np.random.Generator) -> str | None:
    placed = scene if scene.place else _with_detail(scene, "place", rng)
    placed = _with_details(placed, _below(2, rng), rng, but=["thing adjective"])
    return _finished(" ".join([placed.subject.say(), placed.subject.aux, *placed.where_and_when()]))


def _reported(scene: Scene, rng: np.random.Generator) -> str | None:
    verb = _pick(_REPORTING, rng)
    reporter = _someone(scene, rng)
    scene = _with_details(scene, _below(2, rng), rng)
    return _finished(f"{reporter.say()} {verb if reporter.plural else verb + 's'} that {scene.clause()}")


def _perhaps(scene: Scene, rng: np.random.Generator) -> str | None:
    scene = _with_details(scene, _below(3, rng), rng)
    return _finished(f"{_pick(_PERHAPS, rng)} {scene.clause()}")


def _neighbour(scene: Scene, rng: np.random.Generator) -> str | None:
    neighbour = _outsider(scene, rng)
    if neighbour is None:
        return None
    beside = _pick(("next to", "beside", "behind", "in front of", "near"), rng)
    scene = _with_details(scene, _below(2, rng), rng)
    return _finished(scene.clause(subject=f"{neighbour.say()} {beside} {scene.subject.say()}"))


def _other_value(scene: Scene, rng: np.random.Generator, *, detail: str) -> str | None:
    """The same scene with one value changed to another that excludes it."""
    subject, direct_object = scene.subject, scene.direct_object
    changed: Scene | None = None
    if detail == "number" and subject.plural:
        changed = replace(
            scene, subject=replace(subject, determiner=_pick_other(scenes.NUMBERS, subject.determiner, rng))
        )
    elif detail == "thing number" and direct_object is not None and direct_object.plural:
        changed = replace(
            scene,
            direct_object=replace(direct_object, determiner=_pick_other(scenes.NUMBERS, direct_object.determiner, rng)),
        )
    elif detail == "adjective" and subject.adjective:
        changed = replace(scene, subject=replace(subject, adjective=_adjectives(subject.noun)[subject.adjective]))
    elif detail == "garment colour" and subject.colour:
        changed = replace(scene, subject=replace(subject, colour=_pick_other(scenes.COLOURS, subject.colour, rng)))
    elif detail == "thing adjective" and direct_object is not None and direct_object.adjective:
        opposite = _adjectives(direct_object.noun).get(direct_object.adjective)
        replacement = opposite or _pick_other(scenes.COLOURS, direct_object.adjective, rng)
        changed = replace(scene, direct_object=replace(direct_object, adjective=replacement))
    elif detail == "place" and scene.place:
        changed = replace(
            scene, place=_pick([p for p in _places(scene) if _is_indoors(p) != _is_indoors(scene.place)], rng)
        )
    elif detail == "when" and scene.time:
        changed = replace(scene, time=_other_time(scene.time, rng))
    return _elaborated(changed, rng) if changed else None


def _is_indoors(place: str) -> bool:
    return place in scenes.INDOORS or place in scenes.INSIDE


def _other_time(time: str, rng: np.random.Generator) -> str:
    for times in (scenes.DAYTIMES, scenes.DAYS, scenes.SEASONS):
        if time in times:
            return _pick_other(times, time, rng)
    return scenes.WEATHER[time]


def _opposite_act(scene: Scene, rng: np.random.Generator) -> str | None:
    if not scene.act.opposite:
        return None
    act = ACTS[scene.act.opposite]
    ways = [way for way, (_, participle) in enumerate(act.ways) if participle or scene.voice == "active"]
    return _elaborated(replace(scene, act=act, way=_pick(ways, rng)), rng)


def _asleep_or_awake(scene: Scene, rng: np.random.Generator) -> str | None:
    """Sleeping, and with nothing of what was done; or doing something, if the hypothesis says sleeping."""
    scene = replace(scene, direct_object=None, voice="active")
    if scene.act in scenes.ASLEEP.values():
        act, direct_object = _draw_act(rng)
        while act in scenes.ASLEEP.values():
            act, direct_object = _draw_act(rng)
        scene = replace(scene, direct_object=direct_object)
    else:
        act = _pick(tuple(scenes.ASLEEP.values()), rng)
    return _elaborated(replace(scene, act=act, way=_below(len(act.ways), rng)), rng)


def _negated(scene: Scene, rng: np.random.Generator) -> str | None:
    """Not so. Only the subject may get details, or the premise would deny less than the hypothesis says."""
    return _finished(
        _with_details(scene, _below(3, rng), rng, but=["thing adjective", "place", "when"]).clause(negated=True)
    )


def _someone_else_did(scene: Scene, rng: np.random.Generator) -> str | None:
    """The subject is asleep while another does it (or the other way round)."""
    bystander = _outsider(scene, rng)
    if bystander is None:
        return None
    acts = scenes.AWAKE if scene.act in scenes.ASLEEP.values() else scenes.ASLEEP
    doing = _pick(_pick(tuple(acts.values()), rng).ways, rng)[0]
    subject = _with_details(scene, _below(2, rng), rng, but=["thing adjective", "place", "when"]).subject
    return _finished(f"{subject.say()} {subject.aux} {doing} while {scene.clause(subject=bystander.say())}")


@dataclass(frozen=True, slots=True)
class Relation:
    """How a premise is built from a hypothesis: the label it makes true, and whether all words of the hypothesis stay.

    A light `weight` marks a relation that almost always applies but shows in the premise alone: a last resort.
    """

    name: str
    label: Label
    overlap: bool
    write: Callable[[Scene, np.random.Generator], str | None]
    weight: float = 1.0


RELATIONS: tuple[Relation, ...] = (
    Relation("modifier dropped", "entailment", True, _more_details),
    Relation("verb synonym", "entailment", False, _synonym),
    Relation("agent hypernym", "entailment", False, _narrower_agent),
    Relation("thing hypernym", "entailment", False, _narrower_thing),
    Relation("place hypernym", "entailment", False, _narrower_place),
    Relation("voice", "entailment", False, _other_voice),
    Relation("unstated detail", "neutral", False, _unstated_detail),
    Relation("unstated act", "neutral", False, _unstated_act, weight=0.2),
    Relation("agent hyponym", "neutral", False, _wider_agent),
    Relation("thing hyponym", "neutral", False, _wider_thing),
    Relation("place hyponym", "neutral", False, _wider_place),
    Relation("reported", "neutral", True, _reported),
    Relation("possible", "neutral", True, _perhaps),
    Relation("neighbour", "neutral", True, _neighbour),
    *(
        Relation(f"other {detail}", "contradiction", False, partial(_other_value, detail=detail))
        for detail in ("number", "thing number", "adjective", "garment colour", "thing adjective", "place", "when")
    ),
    Relation("opposite act", "contradiction", False, _opposite_act),
    Relation("asleep or awake", "contradiction", False, _asleep_or_awake, weight=0.2),
    Relation("synonym negated", "contradiction", False, partial(_synonym, negated=True), weight=0.2),
    Relation("negated", "contradiction", True, _negated),
    Relation("someone else did", "contradiction", True, _someone_else_did),
)


# ---- small tools


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", text.lower()))


def _below(bound: int, rng: np.random.Generator) -> int:
    return int(rng.random() * bound)


def _chance(probability: float, rng: np.random.Generator) -> bool:
    return bool(rng.random() < probability)


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[_below(len(options), rng)]


def _pick_other(options: Sequence[T], but: T, rng: np.random.Generator) -> T:
    return _pick([option for option in options if option != but], rng)
