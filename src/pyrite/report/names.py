"""What a run's subjects and files are called in a report, whichever version wrote the run: without folders, no two alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyrite.names import paths_in, redact_path, replaced, unlike
from pyrite.runs import Run

Told = Mapping[str, Any]


def subjects(told: Told) -> dict[str, str]:
    """Every subject of a probe's or repair's scorecards, as the run's tables name it: what it is called.

    >>> subjects({"models": ["/one/a", "/two/a"], "scorecards": []})
    {'/one/a': 'a (1)', '/two/a': 'a (2)'}
    """
    cards = [*told.get("scorecards", ()), *(card for one in told.get("proofs", ()) for card in one["scorecards"])]
    names = list(dict.fromkeys(map(str, [*told.get("models", ()), *(card["about"] for card in cards)])))
    return dict(zip(names, unlike([redact_path(name) for name in names]), strict=True))


def of_probe(run: Run) -> Run:
    """A probe as it is shown: subjects and sources by their names, in sentences too. Not for looking its tables up."""
    told, called = run.told, subjects(run.told)
    cards = [
        {**card, "about": called[str(card["about"])], "source": redact_path(card["source"])}
        for card in told["scorecards"]
    ]
    models = [called[str(name)] for name in told["models"]]
    compared = [of_change(one, called) for one in told["compared"]]
    return replace(run, told={**told, "scorecards": cards, "models": models, "compared": compared})


def of_change(one: Told, called: Mapping[str, str]) -> dict[str, Any]:
    """A comparison of two subjects, by their names."""
    lines = [
        {**line, "sentence": replaced(line["sentence"], called)} if line.get("sentence") else line
        for line in one["contrasts"]
    ]
    sides = {side: called.get(one[side], one[side]) for side in ("first", "second") if side in one}
    return {**one, **sides, "contrasts": lines}


def of_study(run: Run) -> Run:
    """A study as it is shown: its sentences and notes without the folders that its specification names."""
    told = run.told
    called = {path: redact_path(path) for path in paths_in(told["spec"])}
    primary = [{**one, "sentence": replaced(one["sentence"], called)} for one in told["primary"]]
    return replace(run, told={**told, "primary": primary, "notes": [replaced(note, called) for note in told["notes"]]})
