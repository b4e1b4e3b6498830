"""How surprising answers are to the model: densities of the data and of the references over each other."""

from typing import Any

from pyrite.audit.drawing import Curves, densities, density_curves, density_text
from pyrite.audit.flaw import EvidenceValues, Figure
from pyrite.audit.flaws.perplexity.statistics import DIFFICULTY
from pyrite.charts import Palette

CHART, AXIS = "perplexity", "nats per token"


def nats_curves(values: EvidenceValues) -> Curves:
    """Densities over nats per token; those of instruction difficulty, a ratio, are left out."""
    return density_curves([value for value in values if value.get("compared") != DIFFICULTY.name])


def charts(values: EvidenceValues, palette: Palette, points: int) -> dict[str, Any]:
    """The densities, where the model read the answers."""
    curves = nats_curves(values)
    title = "How surprising the answers are to the model"
    return {CHART: densities(curves, title, AXIS, "nat", palette)} if curves else {}


def alt_text(values: EvidenceValues, name: str) -> str:
    """Where each density is highest."""
    return density_text(nats_curves(values), AXIS)


FIGURE = Figure((CHART,), charts, alt_text)
"""`grid` (nats per token), `data`, `references`: densities at the grid."""
