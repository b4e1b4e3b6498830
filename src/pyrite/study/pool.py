"""The task `perplexity` on a pool of the study: its rows are made by a step, so they need not be there to plan."""

from dataclasses import dataclass, replace
from typing import Any

from pyrite.models import hardware
from pyrite.probe.perplexity import Perplexity, perplexity_step
from pyrite.probe.probe_task import ModelUnderTest, model_input
from pyrite.steps import Context, Source, Step, StepType


def pool_perplexity_step(context: Context) -> None:
    """Step: a model and a pool → what `perplexity_step` writes."""
    file = context.inputs["rows"] / context.config["name"]
    perplexity_step(replace(context, inputs={**context.inputs, "file": file}))


POOL_PERPLEXITY = StepType("probe.perplexity_of_pool", 2, pool_perplexity_step)


@dataclass(frozen=True)
class PoolPerplexity(Perplexity):
    """Perplexity of a pool; `source` is the pool's file name below the step `rows`."""

    rows: Step | None = None

    def step(self, subject: ModelUnderTest) -> Step:
        """The step that reads the pool with the model."""
        assert self.rows is not None
        chosen: dict[str, Any] = {
            "part": self.config.part,
            "items": self.config.items,
            "skip": self.config.skip,
            "seed": self.config.seed,
            "name": self.source,
            "hub": None,
            "columns": None,
            "on_bad_row": "stop",
            "max_tokens": self.config.max_tokens,
            "compute": hardware.choose(self.config.precision).as_config(),
        }
        inputs: dict[str, Step | Source] = {"base": model_input(subject, "perplexity"), "rows": self.rows}
        return Step(POOL_PERPLEXITY, chosen, inputs, label=f"{subject.name}: perplexity of {self.source}")
