"""Which question was a study asked when its verdicts were looked at, and was the question changed after that?

A verdict holds for a question that was fixed before anybody saw results. So `run.json` records each *look*: when, with
which seeds, a digest of the whole question, and every key of the study file that is not as it was at the look before.
The looks stay in each later `run.json` of that folder, also where a change was taken back.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from pyrite.errors import UserError
from pyrite.redact import redact_outside_paths
from pyrite.steps import digest
from pyrite.study.spec import StudySpec

Look = dict[str, Any]
"""`at` (local time), `seeds` (a list; their number in older runs), `asked` (digest of the primary contrasts), `question`
(digest of the whole question; not in older runs), `changed` (the keys that changed since the look before, in words)."""

NOT_THE_QUESTION = (
    "about",  # says nothing that labels do not say
    "study",  # the name of the run folder: another name is another folder
    "says",  # prose
    "seeds",  # each look records its own
    "workers",  # how it runs: steps have the same bytes with any number
    "keep",  # what stays on the disk of what was made
    "parameters",  # for plans, as the next four
    "task_model.parameters",
    "tokens_per_row",
    "data.*.tokens_per_row",
    "data.*.expected_rows",
)
"""Keys of a study file that can change no answer and no verdict. Every other key is part of the question, so that one
that is added to study files is, too, unless it is listed here."""

NAMED = 4
"""So many changed keys of a look are named in its note; all are in `run.json`."""
SHORT = 60
"""Longer values are cut to so many characters."""
ABSENT = "absent"


def question_of(spec: StudySpec, *, defaults: bool = True) -> dict[str, Any]:
    """The question that a study asks: its file as it was resolved, contrasts written out, without what changes no answer.

    Without `defaults`, keys at their defaults are left out: a digest of the rest stays as it was where a newer version of
    Pyrite knows more keys.
    """
    keys = spec.model_dump(mode="json", exclude_defaults=not defaults)
    keys["contrasts"] = [contrast.model_dump(mode="json", exclude_defaults=not defaults) for contrast in spec.primary()]
    if defaults:
        resolve_defaults(keys, spec)
    return question_in(keys)


def resolve_defaults(keys: dict[str, Any], spec: StudySpec) -> None:
    """Write out what defaults stand for, in a study's plain values: older versions had the meaning itself as the default."""
    for name, source in keys["data"].items():
        copies = "drop" if spec.holds(name) == "chats" else "drop_repeats"
        source["duplicates"] = copies if source["duplicates"] in (None, "drop") else source["duplicates"]
    for name, repair in keys["repairs"].items():
        repair["forget"] = spec.forgets(spec.repairs[name])


def question_in(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A study file, as plain values, without what changes no answer."""
    question: dict[str, Any] = dict(keys)
    for key in NOT_THE_QUESTION:
        question = without(question, key.split("."))
    return question


def without(values: Any, path: Sequence[str]) -> Any:
    """Plain values without what a path leads to; `*` stands for any key."""
    if not isinstance(values, Mapping):
        return values
    first, rest = path[0], path[1:]
    if not rest:
        return {key: value for key, value in values.items() if key != first}
    return {key: without(value, rest) if first in (key, "*") else value for key, value in values.items()}


def changes(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """Every key whose value differs, in words: `margin: 0.03 → 0.05`, `probes.hans.headline: {} → {"gold": "no"}`.

    Mappings are compared key by key, lists of mappings place by place, anything else as a whole.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping) and (not at or (before and now)):
        pairs = {key: (before.get(key, ABSENT), now.get(key, ABSENT)) for key in [*now, *before]}
    elif are_mappings(before) and are_mappings(now):
        pairs = {str(n): pair for n, pair in enumerate(zip_longest(before, now, fillvalue=ABSENT))}
    else:
        if before != now:
            old, new = shortened(before), shortened(now)
            yield f"{at}: {old} → {new}" + " (they differ in what is cut here)" * (old == new)
        return
    for key, (old_value, new_value) in pairs.items():
        yield from changes(old_value, new_value, f"{at}.{key}".lstrip("."))


def are_mappings(value: Any) -> bool:
    """Is this a list of mappings, and not an empty one?"""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def shortened(value: Any) -> str:
    """A value in words, cut where it is long; of a path that leads out of the data's folder, the last part."""
    plain = redact_outside_paths(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def looks_at(spec: StudySpec, folder: Path, seeds: Sequence[int] | None = None) -> list[Look]:
    """Every look at this folder's verdicts, this one last. It is none where question and seeds are as at the last one.

    `seeds` are those that the verdicts rest on, by default the study's.

    Raises:
        UserError: the folder's run.json is broken.
    """
    record = last_run(folder)
    before: list[Look] = list(record.get("looks", []))
    judged = list(spec.seeds if seeds is None else seeds)
    changed = changed_since(record, spec, judged)
    if before and not changed and seeds_seen(record) == judged:
        return before
    look: Look = {
        "seeds": judged,
        "asked": digest([contrast.as_json() for contrast in spec.primary()]),
        "question": digest(question_of(spec, defaults=False)),
        "changed": changed,
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    return [*before, look]


def last_run(folder: Path) -> dict[str, Any]:
    """The run.json of a run folder; empty where there is none."""
    return read_study_json(folder / "run.json", "move it away, or choose another --out") or {}


def read_study_json(file: Path, fix: str) -> dict[str, Any] | None:
    """A JSON file that a study wrote into its run folder; None where it is not there.

    Raises:
        UserError: it is broken; `fix` says what to do.
    """
    if not file.is_file():
        return None
    try:
        record: dict[str, Any] = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(f"The run folder holds a broken {file.name}.", f"{file}: {error}", fix) from error
    return record


def seeds_seen(record: Mapping[str, Any]) -> list[int]:
    """The seeds of the last look; of an older one, which has their number only, those of its study file."""
    looks = record.get("looks") or [{}]
    seeds = looks[-1].get("seeds")
    return list(seeds if isinstance(seeds, list) else record.get("spec", {}).get("seeds", []))


def changed_since(record: Mapping[str, Any], spec: StudySpec, seeds: Sequence[int]) -> list[str]:
    """What is not as it was at the last look: keys of the question, and seeds if one that was looked at is left out.

    Keys that the older file does not have count as their defaults.
    """
    former = record.get("spec")
    if former is None:
        return []
    try:
        pair = question_of(StudySpec.model_validate(former)), question_of(spec)
    except ValidationError:  # a file that this version refuses, or of the other sort of study
        pair = question_in(former), question_in(spec.model_dump(mode="json"))
    changed = list(changes(*pair))
    earlier_seeds = seeds_seen(record)
    if set(earlier_seeds) - set(seeds):
        changed.append(f"seeds: {shortened(earlier_seeds)} → {shortened(list(seeds))}")
    return changed


def remarks(looks: Sequence[Look]) -> list[str]:
    """What a reader must know of the looks: earlier ones at the same question, and what was changed after the first."""
    if not looks:
        return []
    sentences = []
    earlier = [look for number, look in enumerate(looks[:-1]) if same_question(looks, number)]
    if earlier:
        counts = ", ".join(str(seed_count(look)) for look in earlier)
        sentences.append(
            f"interim looks: the verdicts were looked at before, with {counts} seeds; the p-values do not know it"
        )
    events = [(number, look) for number, look in enumerate(looks) if look.get("changed")]
    if events:
        all_changes = "; ".join(one_change(look, number) for number, look in events)
        sentences.append(
            f"the question was changed after results were seen: {all_changes}; the p-values do not know it"
        )
    return sentences


def same_question(looks: Sequence[Look], number: int) -> bool:
    """Did this look ask what the last one asks? So where nothing was changed since, or all changes were taken back. Of older
    looks only the contrasts are known."""
    look, last = looks[number], looks[-1]
    key = "question" if "question" in look else "asked"
    unchanged = "question" in look and not any(later.get("changed") for later in looks[number + 1 :])
    return unchanged or bool(look[key] == last.get(key))


def seed_count(look: Look) -> int:
    """With how many seeds?"""
    seeds = look["seeds"]
    return len(seeds) if isinstance(seeds, list) else int(seeds)


def one_change(look: Look, before: int) -> str:
    """'margin: 0.03 → 0.05 (on 2026-11-30, after 2 looks)'."""
    changed: list[str] = look["changed"]
    more = f" and {len(changed) - NAMED} keys more" * (len(changed) > NAMED)
    looks = f"after {max(before, 1)} look{'s' * (before > 1)}"
    return f"{', '.join(changed[:NAMED])}{more} (on {look['at'][:10]}, {looks})"
