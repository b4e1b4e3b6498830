"""Diversity of a whole data set: distinct n-grams, self-repetition, compression."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Extras
from pyrite.audit.flaws.diversity.words import FIRST, Array, Hashes, self_repetition, words_of
from pyrite.audit.rows import Row

CACHE = 1_000_000
"""Distinct words kept; then the cache begins anew."""
BLOCK = 1_000_000
"""Bytes that are compressed at a time."""
LEVEL = 3
LG_K = 14
"""HyperLogLog registers (2^14) of a sketch."""
BINS = 1000
"""Bins of per-row self-repetition, 0 to 1."""


class Stream:
    """Per row: self-repetition and how well its text compresses. Over all rows: distinct n-grams, compression."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        from datasketches import hll_sketch, tgt_hll_type
        from zstandard import ZstdCompressor

        self.folder = folder
        self.cache = Hashes()
        self.sketches = {n: hll_sketch(LG_K, tgt_hll_type.HLL_8) for n in (2, 3)}
        self.squeeze = ZstdCompressor(level=LEVEL).compress
        self.waiting = bytearray()
        self.counts = {"rows": 0, "words": 0, "grams_2": 0, "grams_3": 0, "bytes": 0, "squeezed": 0}
        self.bins = np.zeros(BINS + 1, dtype=np.int64)

    def add(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        """Returns `diversity_self_repetition` (share of the answer's 4-grams that stood in it before; nan without one)
        and `diversity_compression` (bytes over bytes after zlib, level 6; nan for an empty answer), both fp32."""
        if len(self.cache) > CACHE:
            self.cache = Hashes()
        texts = [row.answer for row in rows]
        raw = [text.encode("utf-8", "replace") for text in texts]
        words = words_of(texts, self.cache)
        repeated, _ = self_repetition(words)
        defined = repeated[~np.isnan(repeated)]
        self.bins += np.bincount(np.rint(defined * BINS).astype(np.int64), minlength=BINS + 1)
        self.counts["rows"] += sum(bool(row.answers) for row in rows)
        self.counts["words"] += len(words.flat)
        for n, sketch in self.sketches.items():
            grams, _ = words.grams(n, FIRST)
            self.counts[f"grams_{n}"] += len(grams)
            for gram in np.unique(grams.view(np.int64)).tolist():
                sketch.update(gram)
        for raw_text in raw:
            self.waiting += raw_text + b"\n" if raw_text else b""
            self.compress(BLOCK)
        ratio = [
            len(raw_text) / len(zlib.compress(raw_text, 6)) if raw_text else np.nan
            for raw_text in (full[:BLOCK] for full in raw)
        ]
        return {"diversity_self_repetition": repeated, "diversity_compression": np.array(ratio, dtype=np.float32)}

    def compress(self, least: int) -> None:
        """Compress whole blocks of what is waiting, as long as there are so many bytes."""
        done = 0
        while len(self.waiting) - done >= max(least, 1):
            block = bytes(self.waiting[done : done + BLOCK])
            self.counts["bytes"] += len(block)
            self.counts["squeezed"] += len(self.squeeze(block))
            done += len(block)
        del self.waiting[:done]

    def close(self) -> None:
        """Write the counts and the sketches."""
        self.compress(1)
        (self.folder / "counts.json").write_text(json.dumps(self.counts))
        np.save(self.folder / "self_repetition.npy", self.bins)
        for n, sketch in self.sketches.items():
            (self.folder / f"distinct_{n}.hll").write_bytes(sketch.serialize_compact())


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """Diversity of the whole data set, and of the references.

    `compression`: bytes of all answers over bytes after zstd, level 3, in blocks of 1 MB; a part's last block may be
    shorter, so the ratio depends on the division into parts by less than a block's worth for each part. `distinct_2`,
    `distinct_3`: distinct n-grams of the first 60 words of each answer, from a HyperLogLog sketch, with the relative
    standard error of the count; `share` falls as rows are added, so compare it at equal rows only. `self_repetition`:
    quantiles over rows, from exact counts in steps of 0.001 (not by
    a KLL sketch: the one of datasketches draws at random without a seed). `reference`: the same of the references.
    """
    totals = merged_counts(folders)
    if reference:
        totals["reference"] = merged_counts(reference)
    return totals


def merged_counts(folders: Sequence[Path]) -> dict[str, Any]:
    """Counts and estimates of all parts together."""
    from datasketches import hll_sketch, hll_union

    parts = [json.loads((folder / "counts.json").read_text()) for folder in folders]
    total = {name: sum(part[name] for part in parts) for name in (parts[0] if parts else ())}
    if not parts or not total["rows"]:
        return {"rows": 0}
    counts: dict[str, Any] = {name: total[name] for name in ("rows", "words", "bytes")}
    counts["compression"] = total["bytes"] / max(total["squeezed"], 1)
    for n in (2, 3):
        union = hll_union(LG_K)
        for folder in [*folders, *folders]:  # twice, so that one part is estimated in the way of many
            union.update(hll_sketch.deserialize((folder / f"distinct_{n}.hll").read_bytes()))
        of, distinct = total[f"grams_{n}"], union.get_estimate()
        counts[f"distinct_{n}"] = {
            "distinct": distinct, "of": of, "share": min(distinct / of, 1.0) if of else None,
            "error": 1.04 / 2 ** (LG_K / 2),
        }  # fmt: skip
    bins = sum(np.load(folder / "self_repetition.npy", allow_pickle=False) for folder in folders)
    counts["self_repetition"] = repetition_quantiles(bins)
    return counts


def repetition_quantiles(bins: Array) -> dict[str, float]:
    """Quantiles of per-row self-repetition."""
    done = np.cumsum(bins)
    if not done[-1]:
        return {}
    return {f"q{q}": int(np.searchsorted(done, np.ceil(done[-1] * q / 100))) / BINS for q in (50, 90, 95, 99)}
