"""Does lm-evaluation-harness, run as its users run it, give the verdicts that `ifeval.measure` gives?

    python -m tests.tasks.ifeval_replay --data input_data.jsonl --answers answers.jsonl

The harness's own task (its `ifeval.yaml`, with the data set read from a local file) is run by its `simple_evaluate` on
a model that replays stored answers. Chance is fixed as `measure` fixes it: the seed of the language detector, and the
letter that a checker draws where it cannot count the one it was given.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pyrite.models.answers import read_answers
from pyrite.records import Chat
from pyrite.tasks import ifeval

NAMES = {
    "prompt_strict": "prompt_level_strict_acc",
    "instruction_strict": "inst_level_strict_acc",
    "prompt_loose": "prompt_level_loose_acc",
    "instruction_loose": "inst_level_loose_acc",
}


class FirstDraw:
    """Stands for `random` where the harness's checkers use it: every draw is the first one after the seed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(random.Random(ifeval.SEED), name)


def run_harness(data: Path, answers: Mapping[str, str | None], scratch: Path) -> dict[str, Any]:
    """The harness's results on a file in the published layout, with its samples; a missing answer is replayed as ''."""
    ifeval.checkers()
    import langdetect
    import yaml
    from lm_eval import evaluator
    from lm_eval.api.model import LM
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks.ifeval import instructions, utils

    class Stored(LM):
        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            for request in requests:
                assert request.args[0] == request.doc["prompt"], request.doc["key"]
            return [answers.get(str(request.doc["key"])) or "" for request in requests]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    class Loader(yaml.SafeLoader):
        """Reads `!function utils.name` as that function of the harness."""

    Loader.add_constructor(
        "!function", lambda loader, node: getattr(utils, loader.construct_scalar(node).removeprefix("utils."))
    )
    config = yaml.load((Path(utils.__file__).parent / "ifeval.yaml").read_text(), Loader)
    config["dataset_path"] = "json"
    config["dataset_kwargs"] = {"data_files": {"train": str(data)}, "cache_dir": str(scratch)}
    seeded = mock.patch.object(langdetect.DetectorFactory, "seed", ifeval.SEED)
    with seeded, mock.patch.object(instructions, "random", FirstDraw()):
        task = ConfigurableTask(config=config)
        return evaluator.simple_evaluate(model=Stored(), tasks=[task], bootstrap_iters=0, log_samples=True)


def write_items(items: Sequence[Chat], path: Path) -> Path:
    """The prompts in the published layout."""
    with path.open("w") as sink:
        for item in items:
            row = {"key": int(item.id), "prompt": item.messages[-1].content, **item.meta}
            sink.write(json.dumps(row) + "\n")
    return path


def replay(items: Sequence[Chat], answers: Mapping[str, str | None], data: Path | None = None) -> dict[str, Any]:
    """Compare item by item; `data` is the published file, without it the harness reads the items written out.

    Returns for each metric the number of verdicts compared, how many were true and the harness's own mean; `different`
    lists (metric, item, ours, theirs); `missing` are the verdicts that `measure` left open, which are not compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = data or write_items(items, Path(folder) / "input_data.jsonl")
        result = run_harness(data, answers, Path(folder) / "cache")
    theirs: dict[tuple[str, str], bool] = {}
    for sample in result["samples"]["ifeval"]:
        key = str(sample["doc"]["key"])
        for metric, name in NAMES.items():
            verdicts = sample[name] if isinstance(sample[name], list) else [sample[name]]
            for at, verdict in enumerate(verdicts):
                theirs[metric, f"{key}#{at}" if metric.startswith("instruction") else key] = verdict
    report: dict[str, Any] = {"different": [], "missing": 0, "metrics": {}}
    for metric, name in NAMES.items():
        mean = float(result["results"]["ifeval"][f"{name},none"])
        report["metrics"][metric] = {"compared": 0, "true": 0, "harness": mean}
    measured = ifeval.measure(items, answers)
    assert len(measured) == len(theirs), (len(measured), len(theirs))
    for row in measured:
        verdict = theirs[row.metric, row.item]
        if row.value is None:
            report["missing"] += 1
            continue
        report["metrics"][row.metric]["compared"] += 1
        report["metrics"][row.metric]["true"] += verdict
        if row.value != float(verdict):
            report["different"].append((row.metric, row.item, row.value, verdict))
    return report


def main() -> int:
    """Print the comparison as JSON; the exit status is 1 where a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="IFEval's input_data.jsonl")
    parser.add_argument("--answers", type=Path, required=True, help="answers as a probe stores them")
    options = parser.parse_args()
    answers = {answer.id: answer.text for answer in read_answers(options.answers) if answer.attempt == 0}
    report = replay(ifeval.read(options.data), answers, options.data)
    json.dump(report, sys.stdout, indent=2)
    print()
    return 1 if report["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
