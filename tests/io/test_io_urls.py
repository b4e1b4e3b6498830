"""Inputs at URLs: downloaded once, read as files are, hashed as files are, and named by their URLs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.io import ReadOptions, check_there, describe_reader, expand, file_hash, open_records, read_all, with_split
from pyrite.io.copies import inputs_folder, is_within, local_copy, named_by_url, note_url, page_at, state_of
from pyrite.io.sources import parse_source
from pyrite.io.uploads import Upload
from pyrite.io.urls import filesystem_of, is_passing, patiently, shown_url
from pyrite.records import Text
from pyrite.redact import redact_path

ROWS = [f'{{"text": "row {at}", "id": "{at}"}}\n' for at in range(4)]


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PYRITE_STORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pyrite.io.copies.TRUSTED", 0.0)
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def both(memory: Any, folder: Path, name: str, content: str) -> tuple[str, str]:
    """The same file here and elsewhere."""
    (folder / name).write_text(content)
    memory.pipe_file(f"/bucket/{name}", content.encode())
    return str(folder / name), f"memory://bucket/{name}"


def downloads(memory: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fetched: list[str] = []
    get_file = memory.get_file

    def counted(remote: str, *more: Any) -> Any:
        fetched.append(remote)
        return get_file(remote, *more)

    monkeypatch.setattr(type(memory), "get_file", lambda _self, remote, *more: counted(remote, *more))
    return fetched


def test_a_file_elsewhere_is_read_and_hashed_as_one_that_is_here(memory: Any, tmp_path: Path) -> None:
    here, there = both(memory, tmp_path, "a.jsonl", "".join(ROWS))
    assert read_all(there) == read_all(here)
    assert file_hash(there) == file_hash(here), "so that steps are found again wherever the file lies"
    assert file_hash(f"{there}#text") == file_hash(f"{here}#text")
    check_there(there)
    assert file_hash(Path(there)) == file_hash(here), "a path object has one slash"


def test_folders_patterns_columns_and_splits(memory: Any, tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        both(memory, tmp_path, name, "".join(ROWS))
    memory.pipe_file("/bucket/README.md", b"no data")
    assert expand("memory://bucket/*.jsonl") == ["memory://bucket/test.jsonl", "memory://bucket/train.jsonl"]
    records, counts = read_all("memory://bucket@train", ReadOptions(layout="text"))
    assert counts.read == 4
    assert isinstance(records[0], Text)
    with pytest.raises(UserError, match="say which split"):
        read_all("memory://bucket")
    assert with_split("memory://bucket", "test") == "memory://bucket@test"
    name = parse_source("memory://bucket/train.jsonl#text")
    assert (Path(name.place).name, name.column) == ("train.jsonl", "text")


def test_a_url_is_downloaded_once_and_again_when_it_changes(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/bucket/a.jsonl", ROWS[0].encode())
    memory.pipe_file("/bucket/b.jsonl", ROWS[1].encode())
    fetched = downloads(memory, monkeypatch)
    for _ in range(2):
        local_copy("memory://bucket")
        local_copy("memory://bucket/a.jsonl")
        local_copy("memory://bucket/*.jsonl")
    assert sorted(fetched) == ["/bucket/a.jsonl", "/bucket/b.jsonl"]
    memory.pipe_file("/bucket/a.jsonl", ROWS[2].encode())
    assert local_copy("memory://bucket/a.jsonl").read_text() == ROWS[2]
    assert (local_copy("memory://bucket") / "a.jsonl").read_text() == ROWS[2]
    assert len(fetched) == 3


def test_names_that_lead_elsewhere_are_refused(memory: Any) -> None:
    """The keys of objects may be any text; nothing is written outside the folder of copies."""
    memory.store["/bucket/data/a.jsonl"] = memory.open("/bucket/data/a.jsonl", "wb")
    memory.pipe_file("/bucket/data/a.jsonl", "".join(ROWS).encode())
    memory.store["/bucket/data/../../../../escaped.jsonl"] = memory.store["/bucket/data/a.jsonl"]
    with pytest.raises(UserError, match="leads outside its folder"):
        local_copy("memory://bucket/data")
    assert not list(inputs_folder().parent.rglob("escaped*"))


def test_errors_and_records_name_the_url(memory: Any) -> None:
    memory.pipe_file("/bucket/bad.jsonl", (ROWS[0] + '{"tex": 1}\n').encode())
    with pytest.raises(UserError) as caught:
        read_all("memory://bucket/bad.jsonl")
    assert caught.value.found.startswith("memory://bucket/bad.jsonl:2: ")
    memory.pipe_file("/bucket/cut.parquet", b"PAR1 and no more")
    with pytest.raises(UserError, match="not a whole") as caught:
        read_all("memory://bucket/cut.parquet")
    assert caught.value.found.startswith("memory://bucket/cut.parquet: ")
    for url in ("memory://bucket/none.jsonl", "memory://bucket/none/*.jsonl"):
        with pytest.raises(UserError, match="nothing at this URL") as caught:
            check_there(url)
        assert caught.value.found == url
    memory.pipe_file("/bucket/good.jsonl", "".join(ROWS).encode())
    reader = open_records("memory://bucket/good.jsonl")
    assert len(list(reader)) == 4
    described = describe_reader(reader)
    assert (described["path"], described["files"]) == ("memory://bucket/good.jsonl", ["good.jsonl"])
    copy = local_copy("memory://bucket/good.jsonl")
    assert named_by_url(f"{copy}:3 and {inputs_folder()}") == f"memory://bucket/good.jsonl:3 and {inputs_folder()}"


def test_a_protocol_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    for protocol in ("s3", "gs"):
        monkeypatch.delitem(known, protocol, raising=False)
    for protocol, extra in {"s3": "s3", "gs": "gcs"}.items():
        with pytest.raises(UserError) as caught:
            filesystem_of(f"{protocol}://bucket/x")
        assert caught.value.fix == f"pip install 'pyrite[{extra}]'"
    with pytest.raises(UserError, match="Nobody knows"):
        filesystem_of("nowhere://bucket/x")
    with pytest.raises(UserError, match="names nothing"):
        filesystem_of("s3://")


def test_a_server_is_asked_again_while_it_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answers: list[Any] = [ConnectionError("away"), OSError(16, "busy"), "here"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert patiently(ask, "memory://x") == "here"
    answers[:] = [PermissionError("403")]
    with pytest.raises(UserError, match="refuses access"):
        patiently(ask, "memory://x")
    answers[:] = [FileNotFoundError("none")]
    with pytest.raises(FileNotFoundError):
        patiently(ask, "memory://x")
    monkeypatch.setenv("PYRITE_STORE_PATIENCE", "0")
    answers[:] = [ConnectionError("away")]
    with pytest.raises(UserError, match="does not answer"):
        patiently(ask, "memory://x")


def test_a_folder_is_uploaded_with_its_marker_last(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = Upload("memory://bucket/runs/one")
    (upload.path / "rows").mkdir(parents=True)
    for name in ("run.json", "rows/a.jsonl", ".lock"):
        (upload.path / name).write_text(name)
    written: list[str] = []
    put_file = memory.put_file
    monkeypatch.setattr(type(memory), "put_file", lambda _self, *words: (written.append(words[1]), put_file(*words)))
    assert upload.send(["run.json"]) == 2
    assert written == ["/bucket/runs/one/rows/a.jsonl", "/bucket/runs/one/run.json"]
    assert sorted(memory.find("/bucket/runs")) == sorted(written)


def test_a_run_begun_again_sees_what_stands_there_and_what_is_gone_goes(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/bucket/one/run.json", b"{}")
    memory.pipe_file("/bucket/one/old.csv", b"old")
    memory.pipe_file("/bucket/one/model.safetensors", b"weights")
    upload = Upload("memory://bucket/one")
    assert sorted(upload.files()) == ["old.csv", "run.json"], "weights are not brought here"
    assert upload.send(["run.json"]) == 0, "nothing was written, so nothing is uploaded or deleted"
    assert memory.exists("/bucket/one/model.safetensors")
    (upload.path / "old.csv").unlink()
    (upload.path / "new.csv").write_text("new")
    assert Upload("memory://bucket/one").path.joinpath("new.csv").exists(), "a run that was cut off goes on"
    assert upload.send(["run.json"]) == 2
    there = ["/bucket/one/model.safetensors", "/bucket/one/new.csv", "/bucket/one/run.json"]
    assert sorted(memory.find("/bucket/one")) == there, "what was left there stays there"
    memory.pipe_file("/bucket/one/run.json", json.dumps({"by": "another"}).encode())
    assert json.loads((Upload("memory://bucket/one").path / "run.json").read_text()) == {"by": "another"}


def test_one_file_is_uploaded_as_one(memory: Any) -> None:
    upload = Upload("memory://bucket/page.html")
    assert upload.path.name == "page.html"
    upload.path.parent.mkdir(parents=True, exist_ok=True)
    upload.path.write_text("page")
    assert upload.send([]) == 1
    assert memory.cat("/bucket/page.html") == b"page"


def test_what_was_never_brought_here_is_never_deleted(memory: Any) -> None:
    """Checkpoints and hidden files of others; a model's weights go where another model's come in their place."""
    others = ["run.json", "w.pt", "q.gguf", ".keep", ".git/config", "step/opt.bin", "mine.safetensors"]
    for name in [*others, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]:
        memory.pipe_file(f"/bucket/one/{name}", b"{}")
    upload = Upload("memory://bucket/one", runs=("run.json",))
    (upload.path / "model.safetensors").write_bytes(b"weights")
    upload.send(["run.json"])
    assert sorted(memory.find("/bucket/one")) == sorted(
        f"/bucket/one/{name}" for name in [*others, "model.safetensors"]
    )


def test_a_folder_of_other_files_is_no_run_folder(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything of it is brought here, weights alone, too."""
    fetched = downloads(memory, monkeypatch)
    memory.pipe_file("/bucket/data/model.safetensors", b"weights")
    with pytest.raises(UserError, match="The run folder is in use") as caught:
        Upload("memory://bucket/data", runs=("run.json",))
    assert caught.value.found == "memory://bucket/data holds model.safetensors"
    assert not fetched


def test_rows_are_not_written_over_what_is_read(memory: Any) -> None:
    content = "".join(json.dumps({"prompt": f"q {at}", "answer": "the same"}) + "\n" for at in range(30)).encode()
    memory.pipe_file("/bucket/data/rows.jsonl", content)
    for out in ("memory://bucket/data/rows.jsonl", "memory:///bucket/data//rows.jsonl"):
        line = ["audit", "memory://bucket/data/rows.jsonl", "--only", "duplicates", "--flagged", out, "--quiet"]
        assert run([*line, "--store", str(inputs_folder().parent / "store")]) == 2
        assert memory.cat_file("/bucket/data/rows.jsonl") == content


def test_what_is_within_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are taken literally, whatever letters they hold; URLs may be patterns, as they are read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "rows[12].jsonl").write_text("")
    assert is_within("data/x.jsonl", "data")
    assert is_within("data/x.jsonl", "file://" + str(tmp_path / "data" / "x.jsonl"))
    for place, read in (("rows1.jsonl", "rows[12].jsonl"), ("data/out/f.jsonl", "data/*.jsonl"), ("~x.jsonl", "data")):
        assert not is_within(place, read), (place, read)
    assert is_within("s3://b/data/x.jsonl", "s3://b/data/**/*.jsonl")


def test_a_page_with_a_column_or_a_split(memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page is asked for without the column; a server that refuses what is not there is asked for the shorter name."""
    page = tmp_path / "x.json"
    page.write_text("[]")

    def there(url: str) -> Path | None:
        assert "#" not in url
        if url.endswith("@train"):
            raise UserError("The object store refuses access.", url, "")
        return page if url == "https://host/x.json" else None

    monkeypatch.setattr("pyrite.io.sources.copy_if_there", there)
    assert parse_source("https://host/x.json#text").column == "text"
    assert parse_source("https://host/x.json@train").split == "train"
    with pytest.raises(UserError, match="refuses access"):
        parse_source("https://host/y@train")


def test_keys_in_an_address_are_shown_nowhere(memory: Any) -> None:
    url = "https://bob:secret@host/a.jsonl?token=t1#answer"
    assert shown_url(url) == "https://host/a.jsonl?…#answer"
    assert redact_path(url) == "https://host/a.jsonl?…#answer"
    note = inputs_folder() / f"{'0' * 32}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note_url(note, "https://bob:secret@host/a.jsonl?token=t1", "a.jsonl")
    assert note.stat().st_mode & 0o077 == 0
    copy = f"{inputs_folder()}/{'0' * 32}/a.jsonl"
    assert named_by_url(f"in {copy}: no") == "in https://host/a.jsonl?…: no"
    assert named_by_url(copy, openable=True) == "https://bob:secret@host/a.jsonl?token=t1"


def test_a_server_that_says_nothing_of_changes_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = state_of({"name": "x", "size": 3})
    assert state_of({"name": "x", "size": 3}) == seen, "the same within a process"
    monkeypatch.setattr("pyrite.io.copies._seen", {})
    assert state_of({"name": "x", "size": 3}) != seen
    assert state_of({"size": 3, "ETag": "x"}) == state_of({"size": 3, "ETag": "x"})
    assert state_of({"size": 3, "modify": "2026"}) != state_of({"size": 3, "modify": "2027"})


class Page:
    """A file system of the web whose server answers with a status."""

    def __init__(self, status: int | None) -> None:
        self.status = status

    def info(self, path: str) -> dict[str, Any]:
        cause: Exception = ConnectionResetError("gone") if self.status is None else OSError(f"status {self.status}")
        if self.status is not None:
            cause.status = self.status  # type: ignore[attr-defined]
        raise FileNotFoundError(path) from cause


def test_a_page_that_is_not_there_and_a_server_that_fails() -> None:
    """fsspec takes both for a file that is not there."""
    assert page_at(Page(404), "x") == {}
    with pytest.raises(PermissionError):
        page_at(Page(403), "x")
    for status in (500, 503, 429, None):
        with pytest.raises(OSError) as caught:
            page_at(Page(status), "x")
        assert is_passing(caught.value), status


@pytest.mark.parametrize("url", ["zip://a.jsonl", "reference://x", "ftp://nohost.invalid/x", "dir://a/b"])
def test_what_a_protocol_cannot_open_is_said(url: str) -> None:
    with pytest.raises(UserError):
        local_copy(url)


def test_a_variable_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("5min", "-1", "nan"):
        monkeypatch.setenv("PYRITE_STORE_PATIENCE", text)
        with pytest.raises(UserError, match=r"\$PYRITE_STORE_PATIENCE is no number of seconds"):
            patiently(lambda: 1, "s3://x/y")
