"""What a reader must know before believing the verdicts of a study: too few seeds, what no seed draws anew, earlier looks."""

from collections.abc import Sequence

from pyrite.runs.pilot import PilotRecord
from pyrite.study.cells import CellKey
from pyrite.study.looks import Look
from pyrite.study.looks import remarks as remarks_on_looks
from pyrite.study.pilot import picked_seeds
from pyrite.study.scores import Scores, by_seed
from pyrite.study.spec import StudySpec
from pyrite.tasks import NLI


def study_notes(spec: StudySpec, looks: list[Look], pilot: PilotRecord | None) -> list[str]:
    """What a reader must know before believing the verdicts."""
    notes, picked = [], picked_seeds(spec, pilot)
    judged = len(spec.seeds) - len(picked)
    for seed in picked:
        notes.append(
            f"the verdicts leave out seed {seed}: the pilot chose the damage {spec.damage} on the result of that very model, "
            "and a choice among several makes it look worse than another training would; the tables and the figure "
            "hold it. `--seeds +1` trains another in its place"
        )
    if judged < 2:
        over = " over seeds" * (not spec.has_grid)
        notes.append(f"one seed: no interval{over} and no verdict can be given")
    elif judged < 5 and not spec.has_grid:
        notes.append(
            f"{judged} seeds give wide t intervals; those over items are narrower because they speak of these "
            "models only, not of training others alike"
        )
    grammars = {name for name, source in spec.data.items() if source.grammar}
    arms = spec.all_arms()
    if spec.human_arm in arms and {name.partition(".")[0] for name in arms[spec.human_arm].mix} & grammars:
        notes.append("the human arm is a grammar stand-in, not text that people wrote")
    if len(spec.seeds) > 1 and (fixed := drawn_once(spec)):
        these = "these rows" if not spec.has_grid else "these"
        notes.append(f"drawn once, whatever the seed: {'; '.join(fixed)}; the verdicts speak of {these}")
    if NLI.is_merged(spec.labels) and any(probe.task == NLI.name for probe in spec.probes.values()):
        notes.append("the labels are two, so nli is read as two-way: gold neutral and contradiction are not_entailment")
    notes += remarks_on_looks(looks)
    if spec.pilot and spec.damage in spec.pilot.grid:
        of_damage = (
            f"the damage {spec.damage} was chosen on {spec.pilot.probe.items} items that this study does not ask"
        )
        if pilot is None:
            of_damage = f"the damage {spec.damage} is of the pilot's grid, but no pilot.json is in the run folder"
        elif pilot.chosen != spec.damage:
            of_damage = f"the damage {spec.damage} is not what the pilot found ({pilot.chosen or 'none'})"
        notes.append(of_damage)
    return notes


def drawn_once(spec: StudySpec) -> list[str]:
    """What the seeds of a study do not draw anew, with the option that lets them."""
    fixed = []
    if not spec.has_grid:
        return ["the division of the data into pools"]
    if not spec.pools_vary and any(source.pools for source in spec.data.values()):
        labelled = any(spec.holds(name) == "labelled" and source.pools for name, source in spec.data.items())
        fixed.append("the division of the data into pools" + " (pools_vary)" * labelled)
    if not spec.arm_rows_vary:
        fixed.append("the rows of an arm (arm_rows_vary)")
    shared = [name for name, start in spec.starts.items() if start.seeds == "one" and start.rows]
    if shared:
        fixed.append(f"the model of start {', '.join(shared)} (seeds: each)")
    written = [name for name, source in spec.data.items() if source.synth]
    if written and not spec.texts_vary:
        fixed.append(f"the raw texts of {', '.join(written)} (texts_vary)")
    return fixed


def missing_items(results: Sequence[Scores], spec: StudySpec) -> list[str]:
    """Of each cell and metric that a primary contrast between cells reads: the items that its mean leaves out."""
    table = by_seed([model.of_headline() for model in results], unknown=True)
    notes: dict[str, None] = {}
    for contrast in spec.primary():
        if contrast.arm:
            continue
        first = next((model.metric.name for model in results if model.probe == contrast.probe_name), "")
        for cell in (contrast.cell, contrast.against):
            key = (CellKey(cell), contrast.probe_name, contrast.metric or first)
            seeds = sorted(table.get(key, {}).items())
            lost = [
                f"{len(model.missing)} of {len(model.items)} (seed {seed})" for seed, model in seeds if model.missing
            ]
            if lost:
                note = (
                    f"{cell} on {contrast.probe}: items without a value, which its mean leaves out: {', '.join(lost)}"
                )
                notes[note] = None
    return list(notes)
