"""Data sets of the hub, from a cache as the hub's library lays it out; no network is touched."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, describe_reader, file_hash, open_records, read_all, resolve_dataset
from pyrite.records import Pair, Text

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hub = tmp_path / "home" / "hub"
    hub.mkdir(parents=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return hub


def put(cache: Path, files: Mapping[str, bytes], repo: str = "org/name") -> Path:
    """A snapshot whose files are links into blobs, as the hub's library makes it."""
    root = cache / f"datasets--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(SHA)
    for index, (name, content) in enumerate(files.items()):
        blob = root / "blobs" / f"{index:040x}"
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(content)
        link = root / "snapshots" / SHA / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return root / "snapshots" / SHA


def table(rows: Sequence[dict[str, Any]], names: Sequence[str] | None = None) -> bytes:
    columns = pyarrow.Table.from_pylist(list(rows))
    if names:
        note = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        columns = columns.replace_schema_metadata({"huggingface": json.dumps(note)})
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(columns, sink)
    return sink.getvalue().to_pybytes()


def nli(premise: str, label: int) -> dict[str, Any]:
    return {"premise": premise, "hypothesis": "h", "label": label}


CARD = b"""---
language:
- en
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
- config_name: hard
  data_files: hard/*.jsonl
dataset_info:
- config_name: default
  features:
  - name: premise
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': contradiction
          '1': entailment
---
# A data set
"""


def test_a_card_with_configurations_and_shards(cache: Path) -> None:
    folder = put(
        cache,
        {
            "README.md": CARD,
            "data/train-00000-of-00002.parquet": table([nli("a", 0), nli("b", 1)]),
            "data/train-00001-of-00002.parquet": table([nli("c", -1)]),
            "data/test-00000-of-00001.parquet": table([nli("d", 1)], ["entailment", "contradiction"]),
            "hard/x.jsonl": b'{"text": "t"}\n',
            "run_me.py": b"raise SystemExit('never run')",
        },
    )
    dataset = resolve_dataset("hf://org/name@train")
    assert (dataset.folder, dataset.commit, dataset.config, dataset.split) == (folder, SHA, "default", "train")
    reader = open_records("hf://org/name@train")
    expected = [("a", "contradiction"), ("b", "entailment"), ("c", "-")]
    records = [record for record in reader if isinstance(record, Pair)]
    assert [(record.premise, record.label) for record in records] == expected
    assert [record.id for record in records] == ["train:1", "train:2", "train:3"]
    assert reader.counts == Counts(3, 3, {})
    assert file_hash("hf://org/name@train") == SHA

    manifest = describe_reader(reader)
    assert manifest["revision"] == SHA
    assert manifest["sha256"] is None
    assert manifest["files"] == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]

    own_names = read_all("hf://org/name:default", ReadOptions(split="test"))[0]
    assert [r.label for r in own_names if isinstance(r, Pair)] == ["contradiction"], (
        "the file knows better than the card"
    )
    assert (
        read_all("hf://org/name:hard")[0] == [Text("t", "x:1")] or read_all("hf://org/name:hard")[0][0].id == "train:1"
    )
    assert resolve_dataset("org/name:hard", SHA).split == "train"


def test_what_was_not_said_is_asked_for(cache: Path) -> None:
    put(cache, {"README.md": CARD, "data/train-00000-of-00001.parquet": table([nli("a", 0)])})
    with pytest.raises(UserError, match="its splits: train, test"):
        resolve_dataset("hf://org/name")
    with pytest.raises(UserError, match="there is no such split"):
        resolve_dataset("hf://org/name@dev")
    with pytest.raises(UserError, match="its configurations: default, hard"):
        resolve_dataset("hf://org/name:easy")
    with pytest.raises(UserError, match="two splits are named"):
        open_records("hf://org/name@train", ReadOptions(split="test"))
    with pytest.raises(UserError, match="write hf://"):
        resolve_dataset("hf://name")


def test_a_missing_shard_is_never_passed_over(cache: Path) -> None:
    put(cache, {"README.md": CARD, "data/train-00001-of-00003.parquet": table([nli("a", 0)])})
    with pytest.raises(UserError, match=r"1 of 3 files(.|\n)*hf download --repo-type dataset org/name"):
        open_records("hf://org/name@train")
    with pytest.raises(UserError, match=r"not in the local cache(.|\n)*hf download --repo-type dataset org/name"):
        open_records("hf://org/name@test")


def test_a_data_set_that_is_not_in_the_cache(cache: Path) -> None:
    with pytest.raises(UserError, match=r"offline(.|\n)*`hf download --repo-type dataset org/absent`"):
        open_records("hf://org/absent")
    with pytest.raises(UserError, match=r"--revision v2`"):
        open_records("hf://org/absent", ReadOptions(revision="v2"))


def test_splits_by_file_names_without_a_card(cache: Path) -> None:
    put(cache, {"train.jsonl": b'{"text": "a"}\n', "test.jsonl": b'{"text": "b"}\n', "LICENSE.txt": b"free"})
    assert read_all("hf://org/name@test")[0] == [Text("b", "test:1")]
    put(cache, {"facts.jsonl.gz": gzip.compress(b'{"text": "a"}\n')}, repo="org/one")
    assert read_all("hf://org/one")[0] == [Text("a", "train:1")]
    put(cache, {"a.jsonl": b'{"text": "a"}\n', "b.jsonl": b'{"text": "b"}\n', "NOTES.txt": b"x"}, repo="org/all")
    assert len(read_all("hf://org/all")[0]) == 2
    put(cache, {"cola/train/0.parquet": table([nli("a", 0)], ["x"])}, repo="org/converted")
    assert resolve_dataset("hf://org/converted:cola").split == "train"


def test_a_loading_script_is_refused_by_name(cache: Path) -> None:
    put(cache, {"README.md": b"# no yaml", "name.py": b"raise SystemExit('never run')", "data.zip": b"PK"})
    with pytest.raises(UserError, match=r"runs no code(.|\n)*name\.py(.|\n)*refs/convert/parquet"):
        open_records("hf://org/name")


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../../other/*.jsonl", "https://example.org/x.jsonl", "zip://a::b"])
def test_a_card_cannot_point_outside_its_data_set(pattern: str, cache: Path) -> None:
    card = f"---\nconfigs:\n- config_name: default\n  data_files: '{pattern}'\n---\n"
    put(cache, {"README.md": card.encode(), "a.jsonl": b'{"text": "a"}\n'})
    with pytest.raises(UserError, match="points outside"):
        open_records("hf://org/name")


@pytest.mark.parametrize("head", ["configs: [", "configs: !!python/object/apply:os.system ['true']"])
def test_a_card_that_is_no_plain_yaml_is_refused(head: str, cache: Path) -> None:
    put(cache, {"README.md": f"---\n{head}\n---\n".encode(), "train.jsonl": b'{"text": "a"}\n'})
    with pytest.raises(UserError, match="card is not valid YAML"):
        read_all("hf://org/name")


@pytest.mark.parametrize("readme", ["---\n- a\n- b\n---\n", "---\n---\n", "no head", "text\n---\nconfigs: 3\n---\n"])
def test_a_card_without_a_head_says_nothing(readme: str, cache: Path) -> None:
    put(cache, {"README.md": readme.encode(), "train.jsonl": b'{"text": "a"}\n'})
    assert len(read_all("hf://org/name")[0]) == 1
