"""Sampling: what a sequence draws depends on its own seed only; `pyrite synth` writes rows with provenance."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrite.cli import run
from pyrite.io import read_all
from pyrite.models import load
from pyrite.models.generate import sample
from pyrite.models.hardware import Compute
from pyrite.models.sampling import Drawing, draw_tokens
from pyrite.synth.sample import SENTENCE

from conftest import review_rows, write_jsonl  # isort: skip

CPU = Compute("cpu", "fp32")


def test_a_sequence_does_not_depend_on_its_batch(tiny_causal: Path) -> None:
    model = load.load_causal(tiny_causal, CPU)
    options = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9, "end_ids": [2], "compute": CPU}
    seeds = [[3, at] for at in range(7)]
    together = sample(model, [[1, 50, 60]] * 7, seeds=seeds, **options)
    alone = [sample(model, [[1, 50, 60]], seeds=[seed], **options)[0] for seed in seeds]
    assert [text.ids for text in together] == [text.ids for text in alone]
    assert len({tuple(text.ids) for text in together}) > 1
    for batched, single in zip(together, alone, strict=True):
        assert batched.mean_logprob == pytest.approx(single.mean_logprob, abs=1e-5)


def test_greedy_sampling_is_the_librarys(tiny_causal: Path) -> None:
    model = load.load_causal(tiny_causal, CPU)
    prompt = [1, 50, 60, 70]
    ours = sample(model, [prompt], seeds=[[0]], max_new_tokens=10, temperature=0, top_p=1, end_ids=[2], compute=CPU)[0]
    theirs = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, pad_token_id=0)[0].tolist()
    assert prompt + ours.ids == [token for token in theirs if token != 2]


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).expand(30_000, -1)
    uniform = np.random.default_rng(0).random(30_000)
    drawn, logp = draw_tokens(logits, uniform, Drawing(1.0, 1.0, logprobs=True))
    tokens = torch.tensor(drawn)
    shares = torch.bincount(tokens, minlength=3) / 30_000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.01)
    assert torch.allclose(torch.tensor(logp).exp(), torch.tensor([0.5, 0.3, 0.2])[tokens], atol=1e-5)
    tokens = torch.tensor(
        draw_tokens(logits, uniform, Drawing(1.0, 0.75))[0]
    )  # the nucleus is the first two: 0.5 < 0.75 <= 0.8
    shares = torch.bincount(tokens, minlength=3) / 30_000
    assert torch.allclose(shares, torch.tensor([0.625, 0.375, 0.0]), atol=0.01)


RECIPE = """
labels: [positive, negative]
fields: [text]
rows: reviews.jsonl
columns: {{label: sentiment}}
synth:
  model: {causal}
  raw: {{positive: 24, negative: 16}}
  training: {{epochs: 20, batch_size: 16, learning_rate: 1.0e-2, max_tokens: 96}}
  sampling: {{temperature: 0.5, max_new_tokens: 48, batch_size: 16}}
  select: {{near_duplicates: null}}
"""


def test_the_command_writes_rows_with_provenance(
    tmp_path: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(review_rows(120, 4), tmp_path / "reviews.jsonl")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(causal=tiny_causal))
    out = tmp_path / "synthetic.jsonl"
    line = ["synth", str(tmp_path / "recipe.yaml"), "--out", str(out), "--store", str(tmp_path / "store"), "--json"]
    assert run(line) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["counts"]["read"] == 40 == record["counts"]["kept"] + sum(record["counts"]["dropped"].values())
    assert record["rows"] == record["counts"]["kept"] > 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == record["rows"]
    provenance = rows[0].get("meta", rows[0])
    assert {"model", "prompt", "seed", "mean_logprob"} <= set(provenance)
    assert provenance["model"].startswith("sha256:")
    records, counts = read_all(out)
    assert counts.kept == len(rows) == len(records)
    # sampled again from nothing, the file is the same, byte by byte
    again = [
        str(tmp_path / f"{Path(word).stem}_again{Path(word).suffix}") if word in line[3:6:2] else word for word in line
    ]
    assert run(again) == 0
    assert (tmp_path / "synthetic_again.jsonl").read_bytes() == out.read_bytes()


def test_rows_are_never_written_over_what_they_are_made_from(
    tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(review_rows(120, 4), tmp_path / "reviews.jsonl")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(causal=tiny_causal))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name in ("reviews.jsonl", "recipe.yaml"):
        line = ["synth", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / name), "--store", str(tmp_path / "s")]
        assert run(line) == 2
        assert "written over" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_recipe_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["synth", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "o.jsonl")]) == 2
    (tmp_path / "r.yaml").write_text("labels: [a]\nrow: x\n")
    assert run(["synth", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "o.jsonl")]) == 2
    assert "row" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


CONTINUED = """
labels: [positive, negative]
fields: [text]
rows: reviews.jsonl
columns: {{label: sentiment}}
synth:
  model: {causal}
  mode: continued
  raw: {{positive: 30, negative: 10}}
  sampling: {{temperature: 1.0, max_new_tokens: 12, batch_size: 8}}
  select: {{near_duplicates: null, unended: keep}}
"""


def test_a_continued_row_begins_with_a_row_and_keeps_its_label(
    tmp_path: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    human_rows = review_rows(24, 4)
    for row in human_rows:
        row["text"] = row["text"].capitalize() + ". A second sentence, which goes."
    write_jsonl(human_rows, tmp_path / "reviews.jsonl")
    (tmp_path / "recipe.yaml").write_text(CONTINUED.format(causal=tiny_causal))
    out = tmp_path / "made.jsonl"
    line = ["synth", str(tmp_path / "recipe.yaml"), "--out", str(out), "--store", str(tmp_path / "store"), "--json"]
    assert run(line) == 0
    counts = json.loads(capfd.readouterr().out)["counts"]
    assert counts["read"] == 40 == counts["kept"] + sum(counts["dropped"].values())
    labels = {row["text"].partition(".")[0] + ".": row["sentiment"] for row in human_rows}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows
    begun = set()
    for row in rows:
        text, meta = row["fields"]["text"], row.get("meta", row)
        assert "second sentence" not in text
        assert text.startswith(meta["prompt"])
        assert len(text) > len(meta["prompt"])  # something was written
        assert labels[meta["prompt"]] == row["label"]
        begun.add(meta["row"])
    assert len(begun) > 12


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It was dull. And long.", "It was dull."),
        ("No end here", "No end here"),
        ("“Really?” he said. Then he left.", "“Really?”"),
        ("すばらしい。また来る。", "すばらしい。"),
        ("Costs 3.5 euros. Cheap!", "Costs 3.5 euros."),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    match = SENTENCE.match(text)
    assert (match.group(0) if match else text) == first


def test_jobs_share_a_recipe(
    tmp_path: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts in parts are the texts of one step; each job samples its own, and the last one writes the rows."""
    write_jsonl(review_rows(120, 4), tmp_path / "reviews.jsonl")
    recipe, whole, parts = tmp_path / "recipe.yaml", tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    recipe.write_text(RECIPE.format(causal=tiny_causal))
    line = ["synth", str(recipe), "--json", "--store", str(tmp_path / "store"), "--out"]
    assert run([*line, str(whole)]) == 0
    alone = json.loads(capfd.readouterr().out)
    monkeypatch.setattr("pyrite.synth.run.PART_TEXTS", 16)
    left = []
    for number in (3, 1):
        assert run([*line, str(parts), "--shard", f"{number}/3"]) == 0
        part = json.loads(capfd.readouterr().out)
        assert (part["synth"], part["shard"]) == ("recipe", f"{number}/3")
        left.append(part["steps_left"])
    assert left == [2, 1]
    assert not parts.exists()
    assert run([*line, str(parts), "--shard", "2/3"]) == 0
    assert json.loads(capfd.readouterr().out)["counts"] == alone["counts"]
    assert parts.read_bytes() == whole.read_bytes()
    assert run([*line[:2], *line[3:], str(tmp_path / "again.jsonl")]) == 0
    assert "steps to run" not in capfd.readouterr().err
    assert (tmp_path / "again.jsonl").read_bytes() == whole.read_bytes()
