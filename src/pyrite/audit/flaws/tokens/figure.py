"""Which token ids the data and the references use: densities over each other."""

from typing import Any

from pyrite.audit.drawing import Curves, densities, density_curves, density_text
from pyrite.audit.flaw import EvidenceValues, Figure
from pyrite.charts import Palette

CHART, AXIS = "tokens", "token id"


def id_curves(values: EvidenceValues) -> Curves:
    """Densities over token ids of the whole sets."""
    return density_curves([value["density"] for value in values if value.get("density")])


def charts(values: EvidenceValues, palette: Palette, points: int) -> dict[str, Any]:
    """The densities, where the whole sets were counted."""
    curves = id_curves(values)
    return {CHART: densities(curves, "Which tokens are used", AXIS, AXIS, palette)} if curves else {}


def alt_text(values: EvidenceValues, name: str) -> str:
    """Where each density is highest."""
    return density_text(id_curves(values), AXIS)


FIGURE = Figure((CHART,), charts, alt_text)
"""{`grid` (token ids), `data`, `reference`} under `density`: densities at the grid."""
