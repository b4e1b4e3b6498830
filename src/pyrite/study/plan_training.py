"""The trainings of a study as steps: starts, and what classifiers and language models learn further; and the judge of a
generator's labels, which is a start's model.
"""

from typing import Any

from pyrite.errors import UserError
from pyrite.models.load import WEIGHTS
from pyrite.models.template import for_step
from pyrite.steps import Source, Step
from pyrite.study.labelled_steps import QUALITY
from pyrite.study.labelled_uses import rows_of_judge
from pyrite.study.plan_chats import Chats
from pyrite.study.plan_graph import StepGraph, left_out_if_bad
from pyrite.study.plan_labelled import LabelledRows
from pyrite.study.plan_lower import FrozenLayers
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.language import TRAIN_LANGUAGE
from pyrite.train.settings import ClassifierSettings, TrainSettings


class Trainings:
    """Every method returns the step that makes what it is named after."""

    def __init__(self, graph: StepGraph, labelled: LabelledRows, chats: Chats, frozen: FrozenLayers) -> None:
        self.graph, self.labelled, self.chats, self.frozen = graph, labelled, chats, frozen
        self.spec = graph.spec

    def start(self, name: str, seed: int) -> Step | None:
        """A start's model for one seed; None where it is the model as given."""
        start = self.spec.starts[name]
        seed = self.spec.seed_of_start(name, seed)
        before = self.start(start.after, seed) if start.after else None
        if start.is_given:
            return before
        settings, label = start.training or self.spec.training.start, f"start {name}, seed {seed}"
        if not self.spec.labels:
            pool, count = next(iter(start.rows.items()))
            rows, each = self.chats.size(pool)
            first = None if count == "all" else int(count)
            tokens = min(rows, first or rows) * each
            return self.on_chats(
                self.chats.pool(pool), tokens, settings, first=first, start=before, seed=seed, label=label
            )
        drawn, drawn_count = self.labelled.start_rows(name, seed)
        self.graph.plan.rows.setdefault(f"start {name}", (drawn, "rows.jsonl"))
        return self.classifier(drawn, settings, start=before, seed=seed, count=drawn_count, label=label)

    def reading(self, seed: int) -> dict[str, Any]:
        """How a classifier is asked, for the steps that ask it."""
        settings = self.spec.training.arm
        return {
            "labels": list(self.spec.labels),
            "by": "head",
            "reads": self.graph.reads,
            "compute": self.graph.compute.as_config(),
            "max_tokens": settings.max_tokens,
            "four_bit": settings.method == "qlora",
            "seed": seed,
        }

    def classifier(
        self, rows: Step, settings: ClassifierSettings, *, start: Step | None, seed: int, count: float, label: str
    ) -> Step:
        """A classifier trained on labelled rows, from the model as given or further from a start."""
        config = {
            "labels": list(self.spec.labels),
            "rows_file": "rows.jsonl",
            "reads": self.graph.reads,
            "settings": settings.as_config(),
            "compute": self.graph.compute.as_config(),
            "seed": seed,
            "base_name": self.graph.base_name,
        }
        inputs: dict[str, Step | Source] = {"base": self.graph.base, "rows": rows}
        if start is not None:
            inputs["start"] = start
        lower = self.frozen.lower_of(start, settings.freeze)
        if lower is not None:
            inputs |= {
                f"lower{at}": step for at, step in enumerate(self.frozen.stored_of(rows, lower, settings.max_tokens))
            }
        tokens = count * settings.epochs * self.spec.tokens_per_row
        model = self.spec.given.model
        tokens *= self.frozen.share_trained(settings.freeze)
        cost = self.graph.storing(self.graph.cost_of(model, tokens, training=True), model, settings, merged=False)
        trained = self.graph.keep(Step(TRAIN_CLASSIFIER, config, inputs, label=label, cost=cost, weights=WEIGHTS))
        if lower is not None:
            self.frozen.note(trained, lower)
        return trained

    def on_chats(
        self, rows: tuple[Step, str], tokens: float, settings: ClassifierSettings, *, first: int | None,
        start: Step | None, seed: int, label: str,
    ) -> Step:  # fmt: skip
        """A language model trained further on chats as a start or an arm."""
        plain = settings.model_dump(mode="json", exclude={"freeze"})
        config: dict[str, Any] = {
            "trains": "chat",
            "rows_file": rows[1],
            "first": first,
            "settings": plain,
            "pack_tokens": 0,
        }
        return self.language(config, rows[0], start or self.graph.base, tokens * settings.epochs, seed, label)

    def language(
        self, config: dict[str, Any], rows: Step, base: Step | Source, tokens: float, seed: int, label: str
    ) -> Step:
        """The step that trains a language model on the tokens of its rows."""
        config |= {"compute": self.graph.compute.as_config(), "seed": seed, "base_name": self.graph.base_name}
        config |= {**for_step(self.spec.chat_template_kwargs), **left_out_if_bad(rows)}
        flops = 6 * self.graph.parameters * tokens
        inputs: dict[str, Step | Source] = {"base": base, "rows": rows}
        settings = TrainSettings.model_validate(config["settings"])
        cost = self.graph.storing(self.graph.cost(flops, tokens), self.spec.given.model, settings, merged=True)
        step = Step(TRAIN_LANGUAGE, config, inputs, label=label, cost=cost, weights=WEIGHTS)
        return self.graph.keep(step, flops=flops)

    def label_quality(self, name: str, seed: int) -> Step:
        """How good the labels of a generator's rows of one seed are, by its judge: the model of a start, first seed.

        Raises:
            UserError: there are no held-out rows that the judge can be tried on.
        """
        spec, rows = self.spec.data[name], self.labelled.source(name, seed)
        assert spec.synth is not None
        assert spec.judge is not None
        judge = self.start(spec.judge, self.spec.seeds[0])
        held_out = rows_of_judge(self.spec, spec.train_on)
        if held_out is None:
            fix = "add one to the human source's pools"
            raise UserError("A judge needs held-out human rows.", "no pool named validation", fix)
        human, human_file = self.labelled.data(held_out)
        config = {**self.reading(self.spec.seeds[0]), "human_file": human_file}
        inputs: dict[str, Step | Source] = {"base": self.graph.base, "rows": rows, "human": human}
        if judge is not None:
            inputs["model"] = judge
        texts = sum(spec.synth.raw_per_label(list(self.spec.labels)).values())
        cost = self.graph.cost_of(self.spec.given.model, texts * self.spec.tokens_per_row, training=False)
        label = f"{rows.label.partition(':')[0]}: judge the labels"
        return self.graph.keep(Step(QUALITY, config, inputs, label=label, cost=cost))
