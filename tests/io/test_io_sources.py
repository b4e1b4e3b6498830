"""Folders, patterns, clones of data sets, standard input and splits are read by one function, in a stated order."""

import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.audit.config import AuditConfig
from pyrite.audit.input_files import check_references, file_input, reference_files
from pyrite.audit.run import data_files
from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, describe_reader, expand, file_hash, open_records, read_all, with_split
from pyrite.io.sources import spooled
from pyrite.records import Text


def rows(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({"text": list(texts)}), path)
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def texts(source: Any, options: ReadOptions | None = None) -> list[str]:
    return [record.text for record in open_records(source, options or ReadOptions()) if isinstance(record, Text)]


def clone(folder: Path, card: str = "") -> Path:
    for split, names in {"train": ("a", "b"), "test": ("c",), "validation": ("d",)}.items():
        for at, text in enumerate(names):
            rows(folder / "data" / f"{split}-{at:05}-of-{len(names):05}.parquet", text)
    (folder / "README.md").write_text(f"{card}# A data set\n")
    (folder / "LICENSE.txt").write_text("Permission is hereby granted")
    rows(folder / ".git" / "lfs" / "x.jsonl", "hidden")
    return folder


CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
"""


@pytest.mark.parametrize("card", ["", CARD])
def test_a_clone_of_a_data_set(card: str, tmp_path: Path) -> None:
    folder = clone(tmp_path / "set", card)
    with pytest.raises(UserError, match=r"say which split(.|\n)*`--split train` or `--split (test|validation)`"):
        open_records(folder)
    assert texts(folder, ReadOptions(split="train")) == ["a", "b"]
    assert texts(f"{folder}@test") == ["c"]
    assert expand(f"{folder}@train") == [str(folder / "data" / f"train-0000{at}-of-00002.parquet") for at in range(2)]
    with pytest.raises(UserError, match="no such split"):
        texts(f"{folder}@trian")
    with pytest.raises(UserError, match="two splits are named"):
        with_split(f"{folder}@test", "train")
    if card:
        (folder / "data" / "train-00001-of-00002.parquet").unlink()
        with pytest.raises(UserError, match="a part of the data set is missing"):
            texts(f"{folder}@train")


def test_configurations_of_a_clone(tmp_path: Path) -> None:
    card = (
        "---\nconfigs:\n- config_name: en\n  data_files: en/*.jsonl\n- config_name: de\n  data_files: de/*.jsonl\n---\n"
    )
    for name in ("en", "de"):
        rows(tmp_path / name / "a.jsonl", name)
    (tmp_path / "README.md").write_text(card)
    with pytest.raises(UserError, match="say which configuration"):
        open_records(tmp_path)
    assert texts(f"{tmp_path}:de") == ["de"]
    assert texts(f"{tmp_path}:de@train") == ["de"]


def test_a_folder_is_its_data_files_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/2.jsonl", "a/10.jsonl", "c.parquet", ".hidden.jsonl", ".cache/d.jsonl"):
        rows(tmp_path / name, name)
    (tmp_path / "README.txt").write_text("read me")
    (tmp_path / "dataset_infos.json").write_text("{}")
    reader = open_records(tmp_path)
    assert [record.text for record in reader if isinstance(record, Text)] == ["a/10.jsonl", "a/2.jsonl", "b.jsonl", "c.parquet"]  # fmt: skip
    assert expand(str(tmp_path)) == [str(tmp_path / name) for name in ("a/10.jsonl", "a/2.jsonl", "b.jsonl", "c.parquet")]  # fmt: skip
    assert describe_reader(reader)["rows"] == {"read": 4, "kept": 4, "dropped": {}}
    before = file_hash(tmp_path)
    rows(tmp_path / ".git" / "index.jsonl", "x")
    assert file_hash(tmp_path) == before
    rows(tmp_path / "d.jsonl", "new")
    assert file_hash(tmp_path) != before


def test_a_pattern_is_its_files_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.ndjson", "x/c.jsonl", "note.md"):
        rows(tmp_path / name, name)
    assert texts(f"{tmp_path}/*son*") == ["a.ndjson", "b.jsonl"]
    assert texts(f"{tmp_path}/**/*.jsonl") == ["b.jsonl", "x/c.jsonl"]
    assert file_hash(f"{tmp_path}/*.jsonl") != file_hash(f"{tmp_path}/*son")
    with pytest.raises(UserError, match="quote it in the shell"):
        open_records(f"{tmp_path}/*.csv")


def test_signs_in_a_file_s_name_are_its_name(tmp_path: Path) -> None:
    for name in ("a#b.jsonl", "a@b.jsonl", "a[1].jsonl", "a*.jsonl", "a:b@c.jsonl"):
        assert texts(rows(tmp_path / name, name)) == [name]


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        closed = False

        def __init__(self, content: bytes) -> None:
            self.buffer = io.BytesIO(content)

        def isatty(self) -> bool:
            return False

    for content, count in (
        (b'{"text": "a"}\n{"text": "b"}\n', 2),
        (b'[{"text": "a"}]', 1),
        (b"text;label\na;b\n", 1),
        (b"plain\nlines", 2),
        (rows(tmp_path / "a.parquet", "x", "y", "z").read_bytes(), 3),
    ):
        spooled.cache_clear()
        monkeypatch.setattr("sys.stdin", Piped(content))
        records, counts = read_all("-")
        assert counts == Counts(count, count, {})
        assert records[0].id.startswith("stdin:")
        assert file_hash("-") == file_hash("-")
    spooled.cache_clear()
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="nothing is piped in"):
        open_records("-")


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b'{"text": "a"}\n',))
    writer.start()
    assert texts(tmp_path / "pipe") == ["a"]
    assert texts(tmp_path / "pipe") == ["a"]
    writer.join()


@pytest.mark.parametrize("place", ["clone", "./clone", "up/../clone", "clone/", "."])
def test_a_clone_that_is_named_from_the_current_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(tmp_path / "clone" / "data" / "a.jsonl", "x")
    rows(tmp_path / "secret" / "b.jsonl", "y")
    (tmp_path / "up").mkdir()
    readme = tmp_path / "clone" / "README.md"
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {{split: test, path: '{}'}}\n---\n"
    readme.write_text(card.format("data/*"))
    monkeypatch.chdir(tmp_path / "clone" if place == "." else tmp_path)
    reader = open_records(place, ReadOptions(split="test"))
    assert [record.text for record in reader if isinstance(record, Text)] == ["x"]
    readme.write_text(card.format("../secret/*.jsonl"))
    with pytest.raises(UserError, match="points outside"):
        open_records(place, ReadOptions(split="test"))


def test_a_pointer_of_git_lfs_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    with pytest.raises(UserError, match="git lfs pull"):
        open_records(tmp_path / "a.parquet")


def test_the_same_file_twice_is_refused_on_both_sides(tmp_path: Path) -> None:
    a, b = rows(tmp_path / "a.jsonl", "x"), rows(tmp_path / "b.jsonl", "y")
    copy = rows(tmp_path / "copy" / "a.jsonl", "x")
    link = tmp_path / "link.jsonl"
    link.symlink_to(a)
    for data, reference, what in (
        ([a, a], [b], "data is given twice"),
        ([a, link], [b], "data is given twice"),
        ([a, copy], [b], "data is given twice"),
        ([tmp_path], [], "data is given twice"),
        ([b], [a, copy], "reference is given twice"),
        ([a], [link], "its own reference"),
    ):
        config = AuditConfig(data=tuple(map(str, data)), reference=tuple(map(str, reference)))
        config = config.model_copy(update={"data": data_files(config)})
        inputs = {path: file_input(path, "data set") for path in (*config.data, *reference_files(config.reference))}
        with pytest.raises(UserError, match=what):
            check_references(config, inputs)


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.json", "b.csv", "b.parquet"])
def test_a_copy_in_another_format_is_no_reference(name: str, tmp_path: Path) -> None:
    data, copy = rows(tmp_path / "a.jsonl", *(f"text {n}" for n in range(150))), tmp_path / name
    if name.endswith(".gz"):
        copy.write_bytes(gzip.compress(data.read_bytes()))
    elif name.endswith(".json"):
        copy.write_text(json.dumps([json.loads(line) for line in data.read_text().splitlines()], indent=1))
    elif name.endswith(".csv"):
        copy.write_text("text\n" + "".join(f"text {n}\n" for n in range(150)))
    else:
        rows(copy, *(f"text {n}" for n in range(150)))
    config = AuditConfig(data=(str(data),), reference=(str(copy),))
    with pytest.raises(UserError, match="its own reference"):
        check_references(config, {path: file_input(path, "data set") for path in (str(data), str(copy))})
    longer = rows(tmp_path / "c.jsonl", *(f"text {n}" for n in range(151)))
    config = AuditConfig(data=(str(longer),), reference=(str(copy),))
    check_references(config, {path: file_input(path, "data set") for path in (str(longer), str(copy))})


def test_two_sides_of_a_preference_are_not_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    config = AuditConfig(data=(f"{path}#chosen",), reference=(f"{path}#rejected",))
    inputs = {name: file_input(name, "data set") for name in (*config.data, *config.reference)}
    check_references(config, inputs)
