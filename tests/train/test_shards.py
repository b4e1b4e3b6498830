"""Shared tensors on disk: written by some processes, read by another number of them, or whole; a missing file is noticed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pyrite.errors import UserError
from pyrite.train.shards import INDEX, read_shards, read_values, write_shards


def tensors() -> dict[str, torch.Tensor]:
    """Rows that divide by three and that do not, fewer rows than processes, two formats, and one that all hold alike."""
    draw = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    return drawn | {"half": torch.randn(8, 2, generator=draw).bfloat16()}


SHAPES = {"seven": (7, 5), "one": (1, 3), "three": (3,), "alike": (4,)}


def in_process(rank: int, count: int, meeting: str, folder: str, writes: bool) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    torch.set_num_threads(1)
    store: Any = distributed.FileStore(meeting, count)  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)
    mesh = init_device_mesh("cpu", (count,))
    shared = {
        name: tensor if name == "alike" else distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None)
        for name, tensor in tensors().items()
    }
    if writes:
        write_shards(shared, Path(folder), {"step": 3, "rate": 0.1})
    else:
        read = read_shards(Path(folder), shared)
        for name, tensor in tensors().items():
            assert isinstance(read[name], DTensor) == (name != "alike")
            whole = read[name].full_tensor() if name != "alike" else read[name]  # type: ignore[attr-defined]
            assert torch.equal(whole, tensor), name
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_another_number_of_processes_reads_what_some_wrote(tmp_path: Path) -> None:
    from torch.multiprocessing.spawn import spawn

    folder = tmp_path / "shards"
    for count, writes in ((3, True), (2, False)):
        spawn(in_process, (count, str(tmp_path / f"store-{count}"), str(folder), writes), nprocs=count)  # type: ignore[no-untyped-call]
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert not [file for file in folder.iterdir() if file.suffix not in (".safetensors", ".json")]  # no pickle
    read = read_shards(folder)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())
    assert read_values(folder) == {"step": 3, "rate": 0.1}
    next(folder.glob("shard-00002*")).unlink()  # the library would read its rows as nothing
    with pytest.raises(UserError, match=r"not whole.*\n.*shard-00002"):
        read_shards(folder)


def test_a_process_alone_writes_and_reads(tmp_path: Path) -> None:
    write_shards(tensors(), tmp_path / "a", {"x": None})
    read = read_shards(tmp_path / "a", tensors())
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())
    with pytest.raises(UserError, match="of another model"):
        read_shards(tmp_path / "a", {**tensors(), "seven": torch.zeros(7, 4)})
    with pytest.raises(UserError, match="of another model"):
        read_shards(tmp_path / "a", {"seven": tensors()["seven"]})


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    write_shards(tensors(), tmp_path / "a")
    [file] = (tmp_path / "a").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="missing or cut off"):
        read_shards(tmp_path / "a")
    (tmp_path / "a" / INDEX).unlink()
    with pytest.raises(UserError, match=f"no {INDEX}"):
        read_shards(tmp_path / "a")
