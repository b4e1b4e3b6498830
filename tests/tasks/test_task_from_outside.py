"""A task is one file and one entry: a toy one from outside is probed, gated and asked by a study, in other processes too."""

import json
import os
from pathlib import Path

import pytest

import pyrite
from pyrite.errors import UserError
from pyrite.tasks.generative import GenerativeTask
from pyrite.tasks.generative_tasks import GENERATIVE, register_generative_task

STUDY = """\
study: toy
model: {causal}
precision: fp32
data: {{rows: {{files: [rows.jsonl], pools: {{some: 8}}}}}}
trainings: {{more: {{on: rows.some, settings: {{epochs: 1, batch_size: 4, max_tokens: 64}}}}}}
cells: {{start: [], trained: [more]}}
probes: {{words: {{task: toy_words, file: words.jsonl}}}}
contrasts: [{{cell: trained, against: start, probe: words.holds}}]
seeds: [0, 1]
workers: 2
"""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    import toy_task  # noqa: F401

    return folder


def test_a_toy_task_is_probed_gated_and_asked_by_a_study(plugin: str, tmp_path: Path, tiny_causal: Path) -> None:
    words = [{"ask": f"say the word number {at}", "word": "aeiou"[at % 5]} for at in range(12)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    rows = [{"prompt": f"say {at}", "completion": f"it is {at}"} for at in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = f"toy_words={tmp_path / 'words.jsonl'}"
    store = tmp_path / "store"
    probed = pyrite.probe(
        pyrite.ProbeConfig(
            model=str(tiny_causal), task=(task,), gate=("toy_words.holds >= 0",), store=store, quiet=True
        )
    )
    assert probed.as_json()["overall"]["n"] == 12
    assert [outcome.outcome for outcome in probed.gates] == ["passed"]
    (tmp_path / "toy.yaml").write_text(STUDY.format(causal=tiny_causal))
    study = pyrite.study(
        pyrite.StudyConfig(
            spec=str(tmp_path / "toy.yaml"), data=tmp_path, store=store, out=tmp_path / "runs", quiet=True
        )
    )
    assert {row["cell"] for row in study.as_json()["summary"]} == {"start", "trained"}
    assert study.as_json()["primary"][0]["contrast"]["probe"] == "words.holds"


def test_a_task_cannot_take_anothers_name() -> None:
    ifeval = GENERATIVE["ifeval"]
    with pytest.raises(UserError, match="there already"):
        register_generative_task(
            GenerativeTask("ifeval", ifeval.read, 8, ifeval.metrics, (1, 1), "prompts", plugin="x")
        )
    with pytest.raises(UserError, match="names its module"):
        register_generative_task(GenerativeTask("new", ifeval.read, 8, ifeval.metrics, (1, 1), "prompts"))
