"""Locks by lease: one holder at a time, taken over only from who stopped renewing, and never by comparing clocks."""

import threading
from pathlib import Path

import fsspec
import pytest

from pyrite.steps.lease import Lease, LeaseLost, Watch, is_free, taken
from pyrite.steps.objects import FolderRegister, Objects, Register


@pytest.fixture(params=["folder", "memory", "s3"])
def register(request: pytest.FixtureRequest, tmp_path: Path) -> Register:
    """Every place that leases lie in."""
    if request.param == "folder":
        return FolderRegister(tmp_path / "locks")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return Objects("memory://bucket/leases")
    return Objects(request.getfixturevalue("s3_url"))


def test_a_content_is_written_only_over_what_was_seen(register: Register) -> None:
    assert register.read("a") is None
    first = register.create("a", b"1")
    assert first is not None
    assert register.create("a", b"2") is None
    second = register.replace("a", b"3", first)
    assert second is not None
    assert register.replace("a", b"4", first) is None
    assert register.read("a") == (b"3", second)
    assert register.replace("b", b"5", first) is None, "what is gone has no tag"


def test_of_many_writers_at_a_time_one_writes(register: Register) -> None:
    """Ten names created by six threads; then a number that each of four raises five times."""
    created: list[tuple[int, int]] = []

    def create(who: int) -> None:
        created.extend((name, who) for name in range(10) if register.create(f"race{name}", f"{who}".encode()))

    together(create, 6)
    assert sorted(name for name, _ in created) == list(range(10))
    for name, who in created:
        stored = register.read(f"race{name}")
        assert stored is not None
        assert stored[0] == f"{who}".encode()

    register.create("count", b"0 start")

    def raise_count(who: int) -> None:
        done = 0
        while done < 5:
            stored = register.read("count")
            assert stored is not None
            content = f"{int(stored[0].split()[0]) + 1} {who}.{done}".encode()
            done += register.replace("count", content, stored[1]) is not None

    together(raise_count, 4)
    stored = register.read("count")
    assert stored is not None
    assert stored[0].split()[0] == b"20"


def together(work: object, count: int) -> None:
    threads = [threading.Thread(target=work, args=(at,)) for at in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_lease_is_held_by_one_and_let_go_of(register: Register) -> None:
    first, second = Lease(register, "x"), Lease(register, "x")
    first.acquire()
    assert not second.try_once()
    first.verify()
    first.release()
    assert second.try_once()
    with pytest.raises(LeaseLost):
        first.verify()
    second.verify()


def test_a_lease_is_taken_over_once_it_was_seen_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "60")
    register = FolderRegister(tmp_path)
    now = [1000.0]
    dead = Lease(register, "x")
    assert dead.try_once()
    waiting = Lease(register, "x", clock=lambda: now[0])
    for _ in range(6):  # looked at every ten seconds
        assert not waiting.try_once()
        now[0] += 10
    assert waiting.try_once()
    with pytest.raises(LeaseLost):
        dead.verify()


def test_a_renewal_begins_the_time_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "60")
    register = FolderRegister(tmp_path)
    now = [0.0]
    alive = Lease(register, "x")
    assert alive.try_once()
    waiting = Lease(register, "x", clock=lambda: now[0])
    for _ in range(20):
        assert not waiting.try_once()
        now[0] += 10
        alive.verify()


def test_a_time_without_a_server_does_not_count() -> None:
    """Nobody could renew in it."""
    now = [0.0]
    watch = Watch(lambda: now[0])
    content = b'{"owner": "a", "seconds": 60}'
    for seconds in (10, 10, 10, 300, 10, 10, 10, 10, 10):
        assert not watch.is_over(content)
        now[0] += seconds
    assert not watch.is_over(content), "fifty seconds since the server is back"
    now[0] += 10
    assert watch.is_over(content)


def test_who_waits_does_not_need_to_agree_on_the_time(tmp_path: Path) -> None:
    """What a lease says holds no time of day."""
    lease = Lease(FolderRegister(tmp_path), "x")
    assert lease.try_once()
    assert b"time" not in lease.content()
    assert b"expir" not in lease.content()


def test_a_broken_lease_runs_out_like_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "0.2")
    register = FolderRegister(tmp_path)
    register.create("x", b"no json")
    lease = Lease(register, "x")
    lease.acquire()
    lease.release()
    stored = register.read("x")
    assert stored is not None
    assert is_free(stored[0])


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_LEASE_SECONDS", "0.4")
    register = FolderRegister(tmp_path)
    held = Lease(register, "x")
    held.acquire()
    assert not list(taken(["x"], lambda key: Lease(register, key))), "it waits longer than a lease is good for"
    held.verify()
    held.release()
    assert [key for key, _ in taken(["x"], lambda key: Lease(register, key))] == ["x"]


def test_an_old_view_of_a_folder_takes_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's file system may list what was there a minute ago; the numbers that were cleared away are free to link."""
    register, stale = FolderRegister(tmp_path), FolderRegister(tmp_path)
    tag = register.create("x", b"1")
    for number in range(2, 41):
        assert tag is not None
        tag = register.replace("x", f"{number}".encode(), tag)
    assert register.numbers("x") == list(range(25, 41))
    assert stale.replace("x", b"late", "3") is None
    views = iter([[]])
    monkeypatch.setattr(stale, "numbers", lambda name: next(views, None) or FolderRegister.numbers(register, name))
    assert stale.create("x", b"late") is None
    assert register.read("x") == (b"40", "40")
    assert register.numbers("x") == list(range(25, 41))
    register.delete("x")
    assert register.replace("x", b"late", "40") is None
    assert register.numbers("x") == []
