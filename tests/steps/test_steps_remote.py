"""A store on objects: published whole or not at all, one cache per machine, and the same results as a folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import orjson
import pytest
from tests.steps.remote_job import graph

from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.io.copies import local_copy, named_by_url
from pyrite.steps import Progress, RunOptions, Step, Store, missing_steps, open_store, run_steps
from pyrite.steps.lease import Lease, LeaseLost
from pyrite.steps.objects import S3Writer
from pyrite.steps.remote_store import RemoteStore, fits_pattern, lease_name, marker_name

URL = "memory://bucket/store"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYRITE_STORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "1")
    monkeypatch.setenv("JOB_FOLDER", str(tmp_path))
    monkeypatch.setenv("JOB_SECONDS", "0")
    yield tmp_path
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def go(store: Store, target: Step, **options: object) -> None:
    run_steps([target], store, RunOptions(**options), Progress(quiet=True))  # type: ignore[arg-type]


def remote() -> RemoteStore:
    store = open_store(URL)
    assert isinstance(store, RemoteStore)
    return store


def on_another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> RemoteStore:
    monkeypatch.setenv("PYRITE_STORE_CACHE", str(folder / "other-cache"))
    return remote()


def begun(folder: Path) -> list[str]:
    return (folder / "log").read_text().split("begin ")[1:] if (folder / "log").exists() else []


def objects() -> list[str]:
    return sorted(fsspec.filesystem("memory").find("/bucket/store"))


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "step.json"
    }


def test_the_results_are_those_of_a_folder_and_are_made_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = remote(), graph()
    go(store, step)
    go(Store(place / "local"), step)
    for part in (step, *step.parents()):
        assert files_in(store.path(part.key)) == files_in(Store(place / "local").path(part.key))
    assert len(begun(place)) == 10
    other = on_another_machine(monkeypatch, place)
    assert other.root != store.root
    assert missing_steps([step], other) == []
    go(other, step)
    assert len(begun(place)) == 10, "what one machine made, another does not make again"
    assert (other.path(step.key) / "number.txt").read_text() == "106"
    assert not (other.root / "attempts").exists()


def test_weights_are_brought_to_a_machine_only_where_they_are_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = graph()
    go(remote(), step)
    other = on_another_machine(monkeypatch, place)
    assert sorted(files_in(other.path(step.key))) == ["number.txt", "parts/part.txt", "weights-dropped"]
    assert other.fetch(step)
    assert sorted(files_in(other.path(step.key))) == ["model.safetensors", "number.txt", "parts/part.txt"]
    assert other.file_sizes(step.key)["model.safetensors"] == 7000


def test_dropped_weights_are_dropped_everywhere_and_come_back_when_needed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, step = remote(), graph()
    go(store, step, keep="predictions")
    assert not [name for name in objects() if name.endswith(".safetensors")]
    other = on_another_machine(monkeypatch, place)
    assert other.has(step)
    assert not other.has(step, weights=True)
    assert not other.fetch(step)
    assert missing_steps([step], other) == []
    assert len(missing_steps([step], other, weights=True)) == 5
    go(other, step, weights=True)
    assert (other.path(step.key) / "model.safetensors").exists()
    assert len(begun(place)) == 10


def test_what_is_redone_replaces_what_was_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = remote(), graph(1)
    go(store, step)
    other = on_another_machine(monkeypatch, place)
    other.path(step.key)
    go(store, step, refresh=("work",))
    assert len([name for name in objects() if name.endswith("number.txt")]) == 2, "the former uploads are gone"
    assert other.has(step)
    assert (other.path(step.key) / "number.txt").read_text() == "100"
    marker = json.loads(fsspec.filesystem("memory").cat(f"/bucket/store/{marker_name(step.key)}"))
    assert json.loads((other.path(step.key) / "step.json").read_bytes())["attempt"] == marker["attempt"]


def test_a_marker_names_all_that_was_uploaded_before_it(place: Path) -> None:
    store, step = remote(), graph(1)
    go(store, step)
    marker = store.manifest(step.key)
    assert sorted(marker["files"]) == ["model.safetensors", "number.txt", "parts/part.txt"]
    assert marker["files"]["number.txt"]["bytes"] == 3
    prefix = f"/bucket/store/files/{step.key[:2]}/{step.key}/{marker['attempt']}"
    assert all(f"{prefix}/{name}" in objects() for name in marker["files"])


def test_a_file_that_is_another_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = remote(), graph(1)
    go(store, step)
    (name,) = (name for name in objects() if step.key in name and name.endswith("number.txt"))
    other = on_another_machine(monkeypatch, place)
    fsspec.filesystem("memory").pipe_file(name, b"999")
    with pytest.raises(UserError, match="not the one that was stored") as caught:
        other.path(step.key)
    assert f"pyrite store rm {step.key[:12]} --store {URL}" in caught.value.fix
    assert not (other.folder(step.key)).exists()
    fsspec.filesystem("memory").rm(name)
    with pytest.raises(UserError, match="lacks files"):
        other.path(step.key)
    assert run(["store", "rm", step.key[:12], "--store", URL]) == 0
    go(other, step)
    assert (other.path(step.key) / "number.txt").read_text() == "100"


@pytest.mark.parametrize("name", ["../../../escaped.txt", "/tmp/escaped.txt", "parts/../../escaped.txt"])
def test_a_marker_that_names_files_elsewhere_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, step = remote(), graph(1)
    go(store, step)
    (at,) = (at for at in objects() if step.key in at and at.endswith("step.json"))
    marker = json.loads(fsspec.filesystem("memory").cat_file(at))
    marker["files"][name] = marker["files"].pop("number.txt")
    fsspec.filesystem("memory").pipe_file(at, json.dumps(marker).encode())
    with pytest.raises(UserError, match="names a file outside its step"):
        on_another_machine(monkeypatch, place).path(step.key)


def test_a_reader_meets_a_step_that_loses_its_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights go between the marker that named them and their download."""
    store, step = remote(), graph(1)
    go(store, step)
    other = on_another_machine(monkeypatch, place)
    download = other.objects.download

    def dropped_first(name: str, path: Path) -> None:
        if name.endswith("model.safetensors"):
            store.drop_weights(step)
        download(name, path)

    monkeypatch.setattr(other.objects, "download", dropped_first)
    assert not other.fetch(step), "it says so, and the step is run again"
    assert (other.path(step.key) / "number.txt").read_text() == "100"


def test_who_lost_the_lease_does_not_publish(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what the other one published."""
    store, step = remote(), graph(0)
    other = on_another_machine(monkeypatch, place)

    def taken_over(point: str, _: Step) -> None:
        if point == "before-upload":  # our process was away for long: another one has the lease and publishes
            monkeypatch.setattr("pyrite.steps.store.boundary", lambda *_: None)
            lease = Lease(other.objects, lease_name(step.key))
            lease.tag = other.objects.replace(lease.name, lease.content(), tag_of(other, lease.name))
            other.leases[step.key] = lease
            out, _checkpoint = other.attempt(step)
            (out / "number.txt").write_text("theirs")
            other.publish(step, out, 1.0)
            lease.release()

    monkeypatch.setattr("pyrite.steps.store.boundary", taken_over)
    go(store, step)
    assert (store.path(step.key) / "number.txt").read_text() == "theirs"
    assert len([name for name in objects() if name.endswith("step.json")]) == 1


def tag_of(store: RemoteStore, name: str) -> str:
    stored = store.objects.read(name)
    assert stored is not None
    return stored[1]


def test_who_is_stopped_between_lease_and_marker_does_not_publish(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes the lease over and publishes, also where there was a marker before."""
    store, step = remote(), graph(0)
    for before in ("nothing", "an earlier result"):
        with store.lock(step.key):
            out, _ = store.attempt(step)
            (out / "number.txt").write_text("ours")
            verify = store.leases[step.key].verify

            def stopped(verify: Callable[[], None] = verify, before: str = before) -> None:
                verify()
                stored = store.objects.read(marker_name(step.key))
                theirs = orjson.dumps({"attempt": f"theirs after {before}"})
                if stored is None:
                    assert store.objects.create(marker_name(step.key), theirs)
                else:
                    assert store.objects.replace(marker_name(step.key), theirs, stored[1])

            monkeypatch.setattr(store.leases[step.key], "verify", stopped)
            with pytest.raises(LeaseLost):
                store.publish(step, out, 1.0)
        assert store.marker(step.key) == {"attempt": f"theirs after {before}"}


def test_a_marker_that_somebody_else_wrote_stays(place: Path) -> None:
    """The last guard: the write of the marker itself is conditional."""
    store, step = remote(), graph(0)
    theirs = orjson.dumps({"attempt": "theirs"})
    with store.lock(step.key):
        out, _ = store.attempt(step)
        read = store.objects.read
        store.objects.read = lambda name: None  # type: ignore[method-assign]
        store.objects.create(marker_name(step.key), theirs)
        with pytest.raises(LeaseLost):
            store.publish(step, out, 1.0)
        store.objects.read = read  # type: ignore[method-assign]
    assert store.objects.read_many([marker_name(step.key)]) == {marker_name(step.key): theirs}


def test_gc_deletes_what_no_marker_names_and_nobody_works_on(place: Path) -> None:
    store, step = remote(), graph(1)
    go(store, step)
    memory = fsspec.filesystem("memory")
    for key in ("aa11", "bb22", step.key):
        memory.pipe_file(f"/bucket/store/files/{key[:2]}/{key}/attempt/number.txt", b"1234")
    store.objects.create(lease_name("bb22"), Lease(store.objects, "x").content())  # its owner is dead
    with store.lock("aa11"):  # somebody is at it
        assert store.collect(older_than_days=None) == (2, 8)
    left = [name for name in objects() if "/files/" in name and "/attempt/" in name]
    assert left == ["/bucket/store/files/aa/aa11/attempt/number.txt"]
    assert [name for name in objects() if "/locks/" in name] == [f"/bucket/store/{lease_name('aa11')}"]
    assert store.fetch(step)


def test_gc_spares_what_is_published_meanwhile(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (first, second) = remote(), (graph(1), graph(2))
    go(store, first)
    real = RemoteStore.finished_keys

    def slow(self: RemoteStore) -> set[str]:
        keys = real(self)
        if not store.has(second):
            go(store, second)
        return keys

    monkeypatch.setattr(RemoteStore, "finished_keys", slow)
    remote().collect(older_than_days=None)
    assert (store.path(second.key) / "number.txt").read_text() == "101"


def test_a_file_beside_the_steps_is_there_for_other_machines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = remote().beside("endpoints/x.json", b"{}")
    assert named_by_url(str(file), openable=True) == f"{URL}/endpoints/x.json"
    other = on_another_machine(monkeypatch, place)
    assert local_copy(f"{URL}/endpoints/x.json").read_bytes() == b"{}"
    assert other.beside("endpoints/x.json", b"{}").read_bytes() == b"{}"


def test_the_store_commands_take_a_url(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = graph(1)
    go(remote(), step)
    assert run(["store", "ls", "--store", URL, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["steps"]
    assert {entry["key"] for entry in listed} == {step.key, *(parent.key for parent in step.parents())}
    assert listed[0]["bytes"] == 7007
    assert run(["store", "rm", step.key[:10], "--store", URL]) == 0
    assert not remote().has(step)
    assert not remote().folder(step.key).exists()
    assert run(["store", "rm", "none", "--store", URL]) == 2
    assert f"pyrite store ls --store {URL}" in capsys.readouterr().err
    assert run(["store", "gc", "--older-than-days", "0", "--store", URL]) == 0
    assert [name for name in objects() if "/locks/" not in name] == []


def test_a_store_travels_by_its_url(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    packed = pickle.dumps(remote())
    monkeypatch.setenv("PYRITE_STORE_CACHE", str(place / "there"))
    opened = pickle.loads(packed)
    assert (opened.url, opened.root.is_relative_to(place / "there")) == (URL, True)
    assert open_store(Path(URL)).place == URL
    assert open_store(f"file://{place}").place == str(place)


def test_several_workers_share_a_url(place: Path, monkeypatch: pytest.MonkeyPatch, s3_url: str) -> None:
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "60")
    step = graph(3)
    go(open_store(s3_url), step, workers=2, threads=1)
    assert sorted(begun(place)) == ["0\n", "1\n", "100\n", "2\n"]
    assert (open_store(s3_url).path(step.key) / "number.txt").read_text() == "103"


def test_a_server_without_conditional_writes_is_refused(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two jobs would each hold every lock. Such a server takes the header and writes all the same."""
    put = S3Writer._put
    monkeypatch.setattr(S3Writer, "_put", lambda self, name, content, _: put(self, name, content, {}))
    with pytest.raises(UserError, match="no conditional writes") as caught, open_store(s3_url).lock("key"):
        pass
    assert "--store DIR" in caught.value.fix


def test_patterns_of_droppable_files_are_those_of_a_folder() -> None:
    names = ["model.safetensors", "parts/model.safetensors", "model.json"]
    assert [fits_pattern(name, "*.safetensors") for name in names] == [True, False, False]
    assert fits_pattern("parts/model.safetensors", "parts/*")
