"""A study whose rows lie on the hub: pinned to a commit, read with no network from a cache in the hub's layout."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq
import pytest

from pyrite.models.hardware import Compute
from pyrite.steps import Progress, RunOptions, Store, run_steps
from pyrite.study.load import load_spec, parse_spec
from pyrite.study.plan import make_plan
from pyrite.tasks.rows import read_rows

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
CPU = Compute("cpu", "fp32")


def put_multi_nli(hub: Path) -> None:
    """Ten rows as the hub holds MultiNLI: integer labels with names in the file's features, -1 where there is none."""
    root = hub / "datasets--nyu-mll--multi_nli"
    data = root / "snapshots" / COMMIT / "data"
    data.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    rows = [{"premise": f"p {at}", "hypothesis": f"h {at % 9}", "label": at % 4 - 1, "genre": "x"} for at in range(10)]
    note = {
        "info": {"features": {"label": {"names": ["entailment", "neutral", "contradiction"], "_type": "ClassLabel"}}}
    }
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(note)})
    for split in ("train", "validation_matched", "validation_mismatched"):
        pq.write_table(table, data / f"{split}-00000-of-00001.parquet")


def test_the_papers_data_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec, _ = load_spec("zhang_pavlick_2025")
    before = make_plan(spec, tmp_path, CPU, only_plan=True)
    assert "data hf://nyu-mll/multi_nli@train" in before.absent
    put_multi_nli(hub)
    plan = make_plan(spec, tmp_path, CPU, only_plan=True)
    assert not any("multi_nli" in name for name in plan.absent)
    read = plan.counts["mnli"]
    assert read.inputs["file0"].identity == COMMIT  # type: ignore[union-attr]
    assert read.key != before.counts["mnli"].key
    store = Store(tmp_path / "store")
    run_steps([read, plan.items["general"]], store, RunOptions(), Progress(quiet=True))
    rows = read_rows(store.path(read.key) / "rows.jsonl")
    assert [row.label for row in rows[:3]] == ["entailment", "neutral", "contradiction"]
    counts = json.loads((store.path(read.key) / "counts.json").read_text())
    assert (counts["read"], counts["dropped"]["no gold label"]) == (10, 3)
    items = read_rows(store.path(plan.items["general"].key) / "items.jsonl")
    assert len(items) == 7


def test_a_study_names_what_is_absent_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyrite.errors import UserError

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec, _ = load_spec("nli_small")
    text = Path(__file__).resolve().parents[2].joinpath("studies", "nli_small.yaml").read_text()
    hub = parse_spec(text.replace("nli/mnli_dev_matched_part.jsonl", "hf://nyu-mll/multi_nli@train"), "s.yaml")
    with pytest.raises(UserError, match="hf download --repo-type dataset nyu-mll/multi_nli"):
        make_plan(hub, tmp_path, CPU)
    with pytest.raises(UserError):
        make_plan(spec, tmp_path, CPU)
