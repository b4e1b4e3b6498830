"""Models as people have them: folders that are broken, odd, or whole with much beside them, made from a tiny one."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Path], None]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"
CODE = "from pathlib import Path\nPath(__file__).with_name('it-ran').touch()\n"


def copy_of(folder: Path, to: Path, *changes: Change) -> Path:
    """A copy of a model folder with changes."""
    shutil.copytree(folder, to)
    for change in changes:
        change(to)
    return to


def pointer(name: str) -> Change:
    return lambda folder: put(folder / name, POINTER)


def put(file: Path, content: bytes | str) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def text(name: str, content: str) -> Change:
    return lambda folder: put(folder / name, content)


def removed(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def config(**values: Any) -> Change:
    """Entries of config.json; None takes one out."""

    def change(folder: Path) -> None:
        entries = json.loads((folder / "config.json").read_text()) | values
        put(folder / "config.json", json.dumps({name: value for name, value in entries.items() if value is not None}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def changed(folder: Path) -> None:
        file = folder / "model.safetensors"
        new = {name: weight.contiguous().clone() for name, weight in change(load_file(file)).items()}
        save_file(new, file, metadata={"format": "pt"})

    return changed


def shards(folder: Path) -> None:
    """Two files of weights and their index."""
    file = folder / "model.safetensors"
    stored = load_file(file)
    names = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(sorted(stored))}
    for shard in set(names.values()):
        part = {name: stored[name] for name in stored if names[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    put(folder / "model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": names}))
    file.unlink()


def cut(name: str, by: int = 100) -> Change:
    return lambda folder: put(folder / name, (folder / name).read_bytes()[:-by])


def pickled(folder: Path) -> None:
    """The weights as PyTorch pickles them, and nothing else."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def bombs(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            put(folder / name, pickle.dumps(Bomb(folder / "it-ran")))

    return change


def added_tokens(*tokens: str) -> Change:
    """Tokens that the tokenizer has and the embedding has not."""

    def change(folder: Path) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_tokens(list(tokens))
        tokenizer.save(str(folder / "tokenizer.json"))

    return change


def no_tokenizer(folder: Path) -> None:
    removed("tokenizer.json", "tokenizer_config.json")(folder)


def one_level_down(name: str) -> Change:
    def change(folder: Path) -> None:
        files = list(folder.iterdir())
        (folder / name).mkdir(parents=True)
        for file in files:
            file.rename(folder / name / file.name)

    return change


def as_in_the_hubs_cache(folder: Path) -> None:
    """Links to files that lie under their hashes."""
    blobs = folder.with_name(f"{folder.name}-blobs")
    blobs.mkdir()
    for at, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(at))
        file.symlink_to(Path("..") / blobs.name / str(at))


def dangling(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../blobs/nowhere")

    return change


def sentence_piece() -> bytes:
    """A SentencePiece model of a few pieces, BPE with bytes, in the wire format of its protobuf."""

    def number(value: int) -> bytes:
        head = b""
        while value > 127:
            head += bytes([value & 127 | 128])
            value >>= 7
        return head + bytes([value])

    def entry(field: int, data: bytes) -> bytes:
        return number(field << 3 | 2) + number(len(data)) + data

    def piece(piece_text: str, score: float, kind: int) -> bytes:
        return entry(
            1,
            entry(1, piece_text.encode())
            + number(2 << 3 | 5)
            + struct.pack("<f", score)
            + number(3 << 3)
            + number(kind),
        )

    pieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3)
    pieces += b"".join(piece(f"<0x{byte:02X}>", 0, 6) for byte in range(256))
    merges = ["▁", *"thefilmwaosvy", "▁t", "he", "▁the"]
    pieces += b"".join(piece(merge, -float(at), 1) for at, merge in enumerate(dict.fromkeys(merges)))
    trainer = entry(2, number(3 << 3) + number(2) + number(35 << 3) + number(1))
    normaliser = entry(
        3, entry(1, b"identity") + number(3 << 3) + number(1) + number(4 << 3) + number(0) + number(5 << 3) + number(1)
    )
    return pieces + trainer + normaliser


def spm_only(folder: Path) -> None:
    removed("tokenizer.json")(folder)
    put(folder / "tokenizer.model", sentence_piece())
    put(
        folder / "tokenizer_config.json",
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}),
    )


FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32], "activation_scheme": "dynamic", "fmt": "e4m3"}


def in_fp8(stored: dict[str, torch.Tensor], *, restored: bool) -> dict[str, torch.Tensor]:
    """The projections in FP8, a scale for each block of 32 × 32; or the values that these stand for."""
    out = {}
    for name, weight in stored.items():
        if not name.endswith("proj.weight"):
            out[name] = weight
            continue
        blocks = weight.view(weight.shape[0] // 32, 32, weight.shape[1] // 32, 32)
        scale = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        if restored:
            out[name] = (codes.float() * scale[:, None, :, None]).reshape(weight.shape)
        else:
            out |= {name: codes.reshape(weight.shape), f"{name}_scale_inv": scale}
    return out


MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""What the sixteen codes of FP4 (E2M1) stand for."""


def in_mxfp4(stored: dict[str, torch.Tensor], *, restored: bool) -> dict[str, torch.Tensor]:
    """Random codes for the experts, two in a byte (the first in the low half), a power of two for each block of 32; or the
    values that these stand for."""
    drawn, out = torch.Generator().manual_seed(1), {}
    for name, weight in stored.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            out[name] = weight
            continue
        experts, inputs, outputs = weight.shape
        codes = torch.randint(0, 16, (experts, outputs, inputs // 32, 32), generator=drawn)
        powers = torch.randint(121, 124, (experts, outputs, inputs // 32), generator=drawn)
        if restored:
            values = FP4[codes] * torch.exp2(powers.float() - 127)[..., None]
            out[name] = values.reshape(experts, outputs, inputs).transpose(1, 2)
        else:
            out[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
            out[f"{name}_scales"] = powers.to(torch.uint8)
    return out
