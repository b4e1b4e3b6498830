"""An audit on Ray: the same bytes as on this machine, with one, two and four CPUs; models read on it, too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from audit_kit import caller, read_and_merge, repeated_rows, stored_bytes, write
from planted import human_rows

from pyrite.audit.config import AuditConfig

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'pyrite[ray]')")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_spans")]


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """Ray with so many CPUs, by name."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    ray.init(address="local", num_cpus=cpus, object_store_memory=2**27, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def test_the_same_bytes_on_one_two_and_four_cpus(tmp_path: Path, tiny_causal: Path) -> None:
    data = write(tmp_path / "data.jsonl", repeated_rows(900))
    human = write(tmp_path / "human.jsonl", human_rows(300, 2))
    config = AuditConfig(
        data=(str(data),),
        reference=(str(human),),
        model=str(tiny_causal),
        workers=1,
        quiet=True,
        store=tmp_path / "one",
    )
    planned, store = read_and_merge(config)
    alone = stored_bytes(store)
    assert len(planned.reading_steps()) > 4
    for cpus in (1, 2, 4):
        with cluster(cpus):
            there = config.model_copy(update={"store": tmp_path / f"ray-{cpus}", "engine": "ray"})
            assert stored_bytes(read_and_merge(there)[1]) == alone, cpus


def test_a_whole_audit_by_the_command(
    tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Models read on the cluster, rows are flagged there; findings and files are those of this machine."""
    audit: Any = caller(tmp_path, tiny_encoder, tiny_causal, capfd)
    data = write(tmp_path / "data.jsonl", repeated_rows(600))
    human = write(tmp_path / "human.jsonl", human_rows(300, 2))
    line = [data, "--reference", human, "--sample", "100", "--model-sample", "80"]
    told = []
    for engine in ("local", "ray"):
        bad, good = (tmp_path / f"{name}-{engine}.jsonl" for name in ("bad", "good"))
        outputs = ["--flagged", bad, "--clean", good, "--engine", engine]
        code, record, err = audit(
            *line, *outputs, only="format,duplicates,diversity,embedding,perplexity", store=f"store-{engine}"
        )
        assert code == 0, err
        assert (
            "perplexity.level" in {f"{one['flaw']}.{one['measure']}" for one in record["findings"]}
            or record["findings"]
        )
        record["settings"] = {
            name: value for name, value in record["settings"].items() if name not in ("flagged", "clean")
        }
        told.append((record, bad.read_bytes(), good.read_bytes()))
    assert told[0] == told[1]
    assert not ray.is_initialized()
