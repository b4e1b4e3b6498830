"""What a run's models and files are called in a report: without folders, no two alike, whichever version wrote the run."""

from collections.abc import Mapping, Sequence

from pyrite.redact import paths_in, redact_path, replaced, unlike
from pyrite.runs.probe import ProbeRecord
from pyrite.runs.schema import Comparison
from pyrite.runs.study import StudyRecord


def display_names(models: Sequence[str]) -> dict[str, str]:
    """Models as a run's tables name them: what each is called.

    >>> display_names(["/one/a", "/two/a"])
    {'/one/a': 'a (1)', '/two/a': 'a (2)'}
    """
    return dict(zip(models, unlike([redact_path(name) for name in models]), strict=True))


def displayed_probe(record: ProbeRecord) -> ProbeRecord:
    """A probe as it is shown: models and sources by their names, in sentences too. Not for looking its tables up."""
    names = display_names(record.subjects())
    cards = [card.replaced_by(about=names[card.about], source=redact_path(card.source)) for card in record.scorecards]
    models = [names[model] for model in record.models]
    compared = [displayed_comparison(comparison, names) for comparison in record.compared]
    return record.replaced_by(scorecards=cards, models=models, compared=compared)


def displayed_comparison(comparison: Comparison, names: Mapping[str, str]) -> Comparison:
    """A comparison of two models, by their names."""
    contrasts = [line.replaced_by(sentence=replaced(line.sentence, names)) for line in comparison.contrasts]
    first, second = (names.get(model, model) for model in (comparison.first, comparison.second))
    return comparison.replaced_by(first=first, second=second, contrasts=contrasts)


def displayed_study(record: StudyRecord) -> StudyRecord:
    """A study as it is shown: its sentences and notes without the folders that its specification names."""
    names = {path: redact_path(path) for path in paths_in(record.spec.as_json())}
    primary = [contrast.replaced_by(sentence=replaced(contrast.sentence, names)) for contrast in record.primary]
    return record.replaced_by(primary=primary, notes=[replaced(note, names) for note in record.notes])
