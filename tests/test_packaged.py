"""The two models that install from PyPI, and real files: what the demo stands on."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyrite.cli import run
from pyrite.models import load, packaged
from pyrite.models.generate import sample
from pyrite.models.hardware import Compute, choose

pytestmark = pytest.mark.packaged


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    for name in packaged.PACKAGED:
        if not packaged.is_fetched(name):
            pytest.skip(f"packaged:{name} is not fetched: run pyrite models fetch")


def test_the_chat_model_says_what_it_should() -> None:
    """The de-quantised model continues a prompt sensibly: the capital of France, greedily, in fp32."""
    found = load.resolve("packaged:smollm2-135m-instruct")
    assert found.identity == packaged.package_identity("packaged:smollm2-135m-instruct")
    tokenizer = load.load_tokenizer(found.folder)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    model = load.load_causal(found.folder, Compute("cpu", "fp32"))
    messages = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    text = sample(
        model, [prompt], seeds=[[0]], max_new_tokens=12, temperature=0, top_p=1,
        end_ids=[tokenizer.eos_token_id], compute=Compute("cpu", "fp32"),
    )[0]  # fmt: skip
    assert "Paris" in tokenizer.decode(text.ids)


RECIPE = """
labels: [entailment, neutral, contradiction]
rows: rows.jsonl
synth:
  model: packaged:smollm2-135m-instruct
  mode: few_shot
  shots: 2
  raw: 24
  sampling: {temperature: 0.8, top_p: 0.95, max_new_tokens: 60, batch_size: 8}
"""


def test_few_shot_rows_from_the_chat_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from pyrite.io import write_jsonl
    from pyrite.tasks.grammar import generate_general

    write_jsonl(generate_general(30, seed=3), tmp_path / "rows.jsonl")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    out = tmp_path / "out.jsonl"
    line = [
        "synth",
        str(tmp_path / "recipe.yaml"),
        "--out",
        str(out),
        "--store",
        str(tmp_path / "s"),
        "--json",
        "--quiet",
    ]
    assert run(line) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["counts"]["read"] == 24
    assert told["counts"]["kept"] >= 12  # the answer is made to begin in the layout


def test_the_packaged_encoder_takes_a_fresh_head() -> None:
    """It loads as an encoder of its known width, with a new classification head in the order of the labels."""
    found = load.resolve("packaged:minilm-l6")
    model, order = load.load_classifier(found.folder, ["a", "b"], choose("fp32"), seed=0)
    assert order == [0, 1]
    assert model.config.hidden_size == 384
    assert not load.is_causal(found.folder)


@pytest.mark.slow
@pytest.mark.real
def test_fresh_pairs_rank_subcases_as_hans_does(data_folder: Path, tmp_path: Path) -> None:
    """Over three models of different robustness, subcase accuracies on our grammar correlate with those on HANS."""
    from pyrite.study.config import StudyConfig
    from pyrite.study.run import study

    spec = tmp_path / "three.yaml"
    bundled = Path(__file__).resolve().parents[1] / "studies" / "nli_small.yaml"
    text = (
        bundled.read_text().replace("study: nli_small", "study: three").replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]")
    )
    text = text.replace("sizes: [600, 1800]", "sizes: [600]")
    for name in ("synthetic", "biased"):  # human rows only: no generator is needed
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"  {name}: {{mix"))
    text = text[: text.index("contrasts:")] + "contrasts: [{arm: human, against: start}]\nmargin: 0.05\n"
    begin, end = text.index("  synthetic:\n"), text.index("starts:")
    spec.write_text(text[:begin] + "\n" + text[end:])
    made = study(StudyConfig(spec=str(spec), data=data_folder, store=tmp_path / "store", out=tmp_path, quiet=True))
    correlations = {}
    for cell in {(row["start"], row["arm"]) for row in made.summary}:
        scores = {
            probe: {
                r["name"]: r["mean"]
                for r in made.summary
                if (r["start"], r["arm"], r["probe"], r["by"]) == (*cell, probe, "subcase")
            }
            for probe in ("blind_spot", "fresh")
        }
        names = sorted(scores["fresh"])
        correlations[cell] = np.corrcoef([scores["blind_spot"][n] for n in names], [scores["fresh"][n] for n in names])[
            0, 1
        ]
    assert len(correlations) == 4
    assert min(correlations.values()) > 0.5, correlations
