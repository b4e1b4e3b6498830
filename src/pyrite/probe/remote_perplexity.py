"""How surprising is each row of a text or chat file to a language model behind an endpoint?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.io import how_read, write_parquet
from pyrite.models import load
from pyrite.models.perplexity import EncodedText, TextNll, encode_record, windows
from pyrite.models.positions import tokens_read
from pyrite.models.refusals import encode_each
from pyrite.models.remote_scores import Prompt, PromptScores, bytes_of_first
from pyrite.probe.perplexity_rows import record_reader, records_of
from pyrite.probe.remote_scoring import score_rows, tokenizer_of
from pyrite.records import Chat, Text
from pyrite.steps import Context, StepType

CONFIG = "config.json"
UNLOCATED = "tokens that do not spell the text"
"""Why a row is missing of which nobody can say which bytes count."""


@dataclass(frozen=True)
class Pieces:
    """A row of token ids as it is sent: in pieces [from, to), of which the first tokens were read before."""

    row: EncodedText
    spans: Sequence[tuple[int, int]]

    @property
    def asked(self) -> list[tuple[int, int]]:
        """The pieces in which a token counts."""
        return [(start, end) for start, end in self.spans if any(self.row.counted[start + 1 : end])]

    def prompts(self) -> list[Prompt]:
        """What is sent."""
        return [self.row.ids[start:end] for start, end in self.asked]

    def nll(self, scores: Sequence[PromptScores]) -> TextNll:
        """The row's negative log-likelihood over the tokens that count."""
        nats, tokens, size = 0.0, 0, 0
        for (start, end), score in zip(self.asked, scores, strict=True):
            for place in range(start + 1, end):
                if self.row.counted[place]:
                    value = score.logprobs[place - start]
                    assert value is not None  # `read_scores` refuses holes
                    nats, tokens, size = nats - value, tokens + 1, size + self.row.bytes[place]
        return TextNll(nats, tokens, size, len(self.spans), sum(self.row.counted) - tokens)


def nll_of_text(text: str, scores: PromptScores) -> dict[str, Any]:
    """The negative log-likelihood of a text by the server's own tokens: all of them but the first, and a marker before them;
    nothing where its bytes cannot be told."""
    first = bytes_of_first(scores, text)
    if first is None:
        return {}
    size = len(text.encode()) - first
    return asdict(TextNll(-scores.total(1), len(scores.tokens) - 1, size, 1, int(first > 0)))


def remote_perplexity_step(context: Context) -> None:
    """Step: an endpoint and a file → `rows.parquet` and `counts.json`, as a model on this machine leaves them.

    With the endpoint's tokenizer, rows are encoded here, and in the same pieces. Without it, plain text is sent whole, and the
    server says what its tokens are.

    Raises:
        UserError: chats or answers only, and no tokenizer: how the server writes a chat, it does not say.
    """
    config = context.config
    records, part, counts = records_of(config, context.inputs["file"])
    asked, tokenizer = len(records), tokenizer_of(context)
    refused: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    size: int | None = None
    if tokenizer is None:
        texts = [text_of(record) for record in records]
        scored = score_rows(context, [[text] for text in texts], lambda at, scores: nll_of_text(texts[at], scores[0]))
    else:
        template_kwargs = config.get("chat_template_kwargs")
        records, encoded, refused = encode_each(
            records,
            lambda record: encode_record(tokenizer, record, part, template_kwargs=template_kwargs),
            skip=config["on_bad_row"] == "skip",
        )
        size = piece_size(context.inputs["tokenizer"], tokenizer, config["max_tokens"])
        pieces = [Pieces(row, windows(row, size)) for row in encoded]
        remarks = Counter(remark for row in encoded for remark in set(row.remarks))
        rows = [piece.prompts() for piece in pieces]
        scored = score_rows(context, rows, lambda at, scores: asdict(pieces[at].nll(scores)))
    if not records:
        raise UserError("No row is left to read.", f"{asked} rows, dropped: {dict(refused)}", "check the file's rows")
    dropped = scored.dropped + Counter({UNLOCATED: sum(value == {} for value in scored.values)})
    nlls = [(record, TextNll(**value)) for record, value in zip(records, scored.values, strict=True) if value]
    if not nlls:
        fix = "give the endpoint's tokenizer, so that tokens are sent and not texts: --tokenizer MODEL"
        raise UserError("No row is left to read.", f"{asked} rows: {dict(dropped + refused)}", fix)
    write_parquet(
        [
            {"id": record.id, "nats": nll.nats, "tokens": nll.tokens, "bytes": nll.bytes, "windows": nll.windows}
            for record, nll in nlls
        ],
        context.out / "rows.parquet",
    )
    summary = {
        "read": counts.read,
        "kept": counts.kept,
        "asked": asked,
        "dropped": dict(counts.dropped),
        "part": part,
        "not_counted_tokens": sum(nll.skipped for _, nll in nlls),
        "piece_tokens": size,
        "rows_in_pieces": sum(nll.windows > 1 for _, nll in nlls),
        "chat template": dict(sorted(remarks.items())),
        "read_as": how_read(record_reader(config, context.inputs["file"])),
        "scored_by": scored.scored_by,
    }
    if dropped or refused:
        summary |= {"refused": dict(dropped + refused), "dropped_first": scored.first}
    (context.out / "counts.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))


def text_of(record: Chat | Text) -> str:
    """A plain text.

    Raises:
        UserError: a chat.
    """
    if isinstance(record, Text):
        return record.text
    fix = "give the endpoint's tokenizer, whose chat template then writes them: --tokenizer MODEL"
    raise UserError("An endpoint does not say how it writes a chat.", f"row {record.id}", fix)


def piece_size(folder: Path, tokenizer: Any, most: int) -> int:
    """Of how many tokens a piece is: at most so many, and where its configuration is at hand one less than the model reads, since
    a request asks for one token more."""
    return tokens_read(most + 1, load.parsed_config(folder), tokenizer) - 1 if (folder / CONFIG).is_file() else most


REMOTE_PERPLEXITY = StepType("probe.perplexity_at_endpoint", 1, remote_perplexity_step)
