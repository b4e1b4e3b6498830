"""How does `hf://org/name[:config][@split]` become files on this machine, pinned to one commit?

Files are downloaded into the hub's own cache and read by our readers; code of a data set is never run. Without a
network (`HF_HUB_OFFLINE=1`) what is in the cache is used.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pyrite.errors import UserError
from pyrite.io.files import PACKED, SUFFIXES, File, data_suffix, find_file, missing_file
from pyrite.io.formats import choose_split
from pyrite.io.raw_row import short_value

_REFERENCE = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)(?::([\w.+-]+))?(?:@([\w.+-]+))?")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
_OFFLINE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """One split of a data set on the hub: its folder in the cache and the commit that it is pinned to.

    `names` are the names of integer labels, by column, where the data set's card gives them.
    """

    repo: str
    folder: Path
    commit: str
    config: str | None
    split: str
    files: tuple[File, ...] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def resolve_dataset(
    ref: str, revision: str | None = None, *, split: str | None = None, flag: str = "--split"
) -> HubDataset:
    """Download (or find in the cache) one split of a data set, and pin it.

    Args:
        ref: `hf://org/name[:config][@split]`, with or without `hf://`.
        revision: a commit, branch or tag; None is the main branch.
        split: the split, where `ref` does not name it.

    Raises:
        UserError: the reference is none, the data set is not there or not reachable, it has several configurations or
            splits and none was named, it consists of a loading script, or some of its files are missing.
    """
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        raise UserError("this is no data set on the hub", short_value(ref), "write hf://org/name[:config][@split]")
    repo, config, named = match.groups()
    where = f"hf://{repo}"
    if named is not None and split not in (None, named):
        raise UserError("two splits are named", f"{ref} and split {short_value(split)}", "name one")
    split = named or split
    folder = _download(repo, revision, ["README.md"])
    commit = folder.name
    card = _card(folder / "README.md")
    configs = _configs(card)
    declared = False
    if configs:
        config = _choose_config(configs, config, where)
        patterns = _split_patterns(configs[config], where)
        if patterns:
            split = choose_split(list(patterns), split, f"{where}:{config}", flag)
            patterns = {split: patterns[split]}
            _download(repo, commit, _as_filters(patterns[split]))
            declared = True
    else:
        patterns = {}
    base = folder
    if not patterns:
        _download(repo, commit, [f"*{suffix}{packed}" for suffix in SUFFIXES for packed in ("", *PACKED)] + ["*.py"])
        inner = (configs.get(config or "") or {}).get("data_dir") if configs else config
        base = _inside(folder, str(inner), where) if inner else folder
        patterns = _guess_patterns(where, base)
        split = choose_split(list(patterns), split, where + (f":{config}" if config else ""), flag)
    assert split is not None
    files = _resolve(where, base, patterns[split], one_kind=not declared)
    return HubDataset(repo, folder, commit, config, split, tuple(files), _names(card, config))


def clone_files(
    folder: Path, config: str | None, split: str | None, flag: str = "--split"
) -> tuple[dict[str, Sequence[str]], list[Path], str] | None:
    """The label names, the files and the split of a data set's repository that lies on this machine, as its card
    declares them; None where no card declares files.

    Raises:
        UserError: it has several configurations or splits and none was named, or some of its files are missing.
    """
    card = _card(folder / "README.md")
    configs = _configs(card)
    if not configs:
        return None
    config = _choose_config(configs, config, str(folder))
    patterns = _split_patterns(configs[config], str(folder))
    if not patterns:
        return None
    split = choose_split(list(patterns), split, f"{folder}:{config}", flag)
    files = _resolve(str(folder), folder, patterns[split], one_kind=False)
    return _names(card, config), [file.path for file in files], split


def cached_commit(ref: str, revision: str | None = None) -> str | None:
    """At which commit is this data set in the local cache? None where it is not; never asks the hub."""
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        raise UserError("this is no data set on the hub", short_value(ref), "write hf://org/name[:config][@split]")
    try:
        return _download(match.group(1), revision, ["README.md"], local=True).name
    except UserError:
        return None


def _download(repo: str, revision: str | None, patterns: Sequence[str], *, local: bool = False) -> Path:
    """The snapshot's folder with the files that match; its name is the commit."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = local or constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in _OFFLINE
    get = f"hf download --repo-type dataset {repo}" + (f" --revision {revision}" if revision else "")
    try:
        folder = snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            cache_dir=_cache(constants.HF_HUB_CACHE),
            local_files_only=offline,
            allow_patterns=list(patterns),
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        why = "this machine is offline (HF_HUB_OFFLINE)" if offline else "the hub cannot be reached"
        raise UserError(
            "the data set is not in the local cache", f"hf://{repo}: {why}", f"where there is a network: `{get}`"
        ) from error
    except HFValidationError as error:
        raise UserError(
            "this is no data set on the hub", short_value(repo), "write hf://org/name[:config][@split]"
        ) from error
    except HfHubHTTPError as error:
        problem = str(error).strip().splitlines()
        raise UserError(
            "the hub does not give this data set",
            f"hf://{repo}: {short_value(problem[0] if problem else type(error).__name__, 200)}",
            f"check the name and the revision; a private or gated data set needs `hf auth login`, then `{get}`",
        ) from error
    return Path(folder)


def _cache(default: str) -> str:
    """The hub's cache as the environment names it now."""
    home = os.environ.get("HF_HOME")
    return os.environ.get("HF_HUB_CACHE") or (str(Path(home).expanduser() / "hub") if home else default)


def _card(readme: Path) -> Mapping[str, Any]:
    """The YAML at the head of a data set's README, read as plain data."""
    if not readme.is_file():
        return {}
    from pyrite.yaml_values import load_yaml

    parts = re.split(r"^---\s*$", readme.read_text("utf-8", "replace").removeprefix("\ufeff"), maxsplit=2, flags=re.M)
    if len(parts) < 3 or parts[0].strip():
        return {}
    head = load_yaml(parts[1], str(readme), "data set's card", lines=False)
    return head if isinstance(head, Mapping) else {}


def _configs(card: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    listed = card.get("configs")
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    return {str(entry.get("config_name", "default")): entry for entry in entries}


def _choose_config(configs: Mapping[str, Mapping[str, Any]], config: str | None, where: str) -> str:
    if config is None:
        defaults = [name for name, entry in configs.items() if entry.get("default") is True or name == "default"]
        if len(configs) == 1 or defaults:
            return (defaults or list(configs))[0]
    elif config in configs:
        return config
    raise UserError(
        "say which configuration to read" if config is None else "there is no such configuration",
        where + (f":{config}" if config else ""),
        f"write {where}:CONFIG; its configurations: {', '.join(configs)}",
    )


def _split_patterns(config: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """The file patterns of every split that a configuration declares; none where it declares no files."""
    declared = config.get("data_files")
    if declared is None:
        return {}
    entries = [declared] if isinstance(declared, (str, Mapping)) else declared
    patterns: dict[str, list[str]] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        split, paths = (
            (entry.get("split", "train"), entry.get("path")) if isinstance(entry, Mapping) else ("train", entry)
        )
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise UserError(
                "the data set's card lists its files in a way not known",
                f"{where}: {short_value(entry)}",
                "tell its owner",
            )
        inner = config.get("data_dir")
        patterns.setdefault(str(split), []).extend(f"{inner}/{path}" if inner else path for path in paths)
    for path in (path for paths in patterns.values() for path in paths):
        _safe(path, where)
    return patterns


def _safe(path: str, where: str) -> None:
    """A card is somebody's text: its patterns stay within the data set."""
    if (
        "://" in path
        or "::" in path
        or "\\" in path
        or path.startswith(("/", "~"))
        or ".." in PurePosixPath(path).parts
    ):
        raise UserError(
            "the data set's card points outside the data set", f"{where}: {short_value(path)}", "do not use it"
        )


def _inside(folder: Path, name: str, where: str) -> Path:
    _safe(name, where)
    if not (folder / name).is_dir():
        inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise UserError(
            "there is no such configuration", f"{where}:{name}", f"its folders: {', '.join(inner) or 'none'}"
        )
    return folder / name


def _as_filters(patterns: Sequence[str]) -> list[str]:
    """Patterns for the download, where `*` also crosses folders: at least the files that the patterns mean."""
    return list(dict.fromkeys([*patterns, *(pattern.replace("**/", "") for pattern in patterns)]))


def _guess_patterns(where: str, base: Path) -> dict[str, list[str]]:
    """The splits of a data set whose card declares none, by the hub's own rules for file names."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns

    scripts = sorted(entry.name for entry in base.glob("*.py"))
    if not any(data_suffix(entry.name) for entry in base.rglob("*") if entry.is_file()):
        if scripts:
            raise UserError(
                "the data set is a loading script, and Pyrite runs no code of a data set",
                f"{where}: {', '.join(scripts)}",
                "read the hub's own conversion of it: `--revision refs/convert/parquet`",
            )
        raise _no_files(where, base)
    try:
        patterns = get_data_patterns(str(base))
    except (EmptyDatasetError, ValueError) as error:
        raise _no_files(where, base) from error
    return {str(split): list(paths) for split, paths in patterns.items()}


def _resolve(where: str, base: Path, patterns: Sequence[str], *, one_kind: bool) -> list[File]:
    """The files of a split in order, all of them there; with `one_kind` those of the most frequent suffix only.

    (That is the hub's own rule where a card declares no files, so that a LICENSE.txt is no data.)
    """
    from datasets.data_files import resolve_pattern

    root = Path(os.path.abspath(base))
    names: dict[str, None] = {}
    for pattern in patterns:
        try:
            matches = resolve_pattern(pattern, str(root))
        except FileNotFoundError:
            continue
        names.update(dict.fromkeys(sorted(name for name in matches if data_suffix(Path(name).name))))
    if not names:
        raise _no_files(where, base)
    kinds = Counter(data_suffix(Path(name).name) for name in names)
    kind, count = kinds.most_common(1)[0]
    if one_kind and list(kinds.values()).count(count) > 1:
        raise UserError(
            "the data set mixes kinds of files", f"{where}: {short_value(list(names), 200)}", "name another split"
        )
    chosen = [name for name in names if not one_kind or data_suffix(Path(name).name) == kind]
    _all_shards(where, chosen)
    files = []
    for name in chosen:
        found = Path(os.path.normpath(name))
        if not found.is_relative_to(root):
            raise UserError(
                "the data set's card points outside the data set", f"{where}: {short_value(name)}", "do not use it"
            )
        inner = found.relative_to(root)
        if not (base / inner).exists():
            raise missing_file(base / inner)
        files.append(find_file(base / inner, f"{where}/{inner.as_posix()}"))
    return files


def _all_shards(where: str, names: Sequence[str]) -> None:
    """A split in numbered parts has all of them: half a cache must not pass for a whole data set."""
    parts: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if match := _SHARD.match(name):
            parts.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (stem, total), have in parts.items():
        if len(have) < total:
            raise UserError(
                "a part of the data set is missing from the local cache",
                f"{where}: {len(have)} of {total} files of {Path(stem).name}",
                _get_again(where),
            )


def _no_files(where: str, base: Path) -> UserError:
    files = sorted(entry.relative_to(base).as_posix() for entry in base.rglob("*") if entry.is_file())
    return UserError(
        "the data set has no files that Pyrite reads, or they are not in the local cache",
        f"{where}: {short_value(files, 200)}",
        f"{_get_again(where)}; Pyrite reads {' '.join(SUFFIXES)}",
    )


def _get_again(where: str) -> str:
    """How what is missing of a data set is fetched."""
    if not where.startswith("hf://"):
        return "get the whole data set (a clone without its large files: `git lfs pull` in that folder)"
    return f"where there is a network: `hf download --repo-type dataset {where.removeprefix('hf://')}`"


def _names(card: Mapping[str, Any], config: str | None) -> dict[str, Sequence[str]]:
    """The names of integer labels as the card's `dataset_info` gives them, by column."""
    declared = card.get("dataset_info")
    infos = [info for info in (declared if isinstance(declared, list) else [declared]) if isinstance(info, Mapping)]
    fitting = [info for info in infos if info.get("config_name", "default") == (config or "default")]
    names_by_column: dict[str, Sequence[str]] = {}
    for info in fitting or (infos if len(infos) == 1 else []):
        for feature in info.get("features") or ():
            kind = feature.get("dtype") if isinstance(feature, Mapping) else None
            label = kind.get("class_label") if isinstance(kind, Mapping) else None
            names = label.get("names") if isinstance(label, Mapping) else None
            if isinstance(names, Mapping):
                names = [str(names[key]) for key in sorted(names, key=lambda key: int(key))]
            if isinstance(names, list):
                names_by_column[str(feature["name"])] = tuple(str(name) for name in names)
    return names_by_column
