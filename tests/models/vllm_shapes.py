"""Replies of a completion server with the log-probabilities of a real tiny model, in the shapes that vLLM gives them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.models.remote_stub import Reply

BOTH = ("prompt_logprobs", "echo")


class TinyServer:
    """A tiny model behind /v1/completions. `ways` are those that it knows; others are refused (`strict`) or ignored.

    Prompts of more than `room` tokens are too long; `shift` moves log-probabilities by a place, as a server does
    that is wrong; `asked` are the prompts.
    """

    def __init__(self, folder: Path, ways: Collection[str] = BOTH, *, strict: bool = False, room: int = 250) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.ways, self.strict, self.room = ways, strict, room
        self.shift = 0
        self.asked: list[Any] = []

    def __call__(self, body: dict[str, Any]) -> Reply:
        import torch

        self.asked.append(body["prompt"])
        echo, wants = body.get("echo"), body.get("prompt_logprobs")
        if self.strict and echo and "echo" not in self.ways:
            return Reply(400, {"error": {"message": "Only no echo is supported", "code": 400}})
        if self.strict and wants is not None and "prompt_logprobs" not in self.ways:
            message = "Extra inputs are not permitted"
            return Reply(422, {"detail": [{"loc": ["body", "prompt_logprobs"], "msg": message}]})
        prompt = body["prompt"]
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        if len(ids) > self.room:
            message = (
                f"This model's maximum context length is {self.room} tokens. However, you requested {len(ids)} tokens."
            )
            return Reply(400, {"object": "error", "message": message, "type": "BadRequestError", "code": 400})
        with torch.inference_mode():
            logp = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        written = int(logp[-1].argmax())
        own = [None, *(float(logp[at, token]) for at, token in enumerate(ids[1:]))]
        if self.shift:
            own = [None, *own[1 + self.shift :], *own[1 : 1 + self.shift]]
        choice: dict[str, Any] = {"index": 0, "text": self.decode(written), "finish_reason": "length", "logprobs": None}
        tokens, values = [self.decode(written)], [float(logp[-1, written])]
        if echo and "echo" in self.ways:
            tokens, values = [*self.pieces(ids), *tokens], [*own, *values]  # type: ignore[list-item]
            choice["text"] = f"{prompt if isinstance(prompt, str) else ''}{choice['text']}"
        if body.get("logprobs") is not None:
            offsets = [sum(map(len, tokens[:at])) for at in range(len(tokens))]
            choice["logprobs"] = {
                "tokens": tokens,
                "token_logprobs": values,
                "text_offset": offsets,
                "top_logprobs": None,
            }
        if wants is not None and "prompt_logprobs" in self.ways:
            choice["prompt_logprobs"] = [
                None if at == 0 else self.entries(logp[at - 1], token, value, wants)  # type: ignore[arg-type]
                for at, (token, value) in enumerate(zip(ids, own, strict=True))
            ]
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return Reply(
            body={"id": "cmpl-1", "object": "text_completion", "model": "tiny", "choices": [choice], "usage": usage}
        )

    def entries(self, row: Any, token: int, value: float, count: int) -> dict[str, dict[str, Any]]:
        """What is known of a place: the prompt's own token first, then the likeliest `count`."""
        rank = int((row > row[token]).sum()) + 1
        known = {str(token): {"logprob": value, "rank": rank, "decoded_token": self.decode(token)}}
        for at, other in enumerate(row.topk(count).indices.tolist() if count else [], 1):
            entry = {"logprob": float(row[other]), "rank": at, "decoded_token": self.decode(other)}
            known.setdefault(str(other), entry)
        return known

    def decode(self, *tokens: int) -> str:
        """Tokens as text; half a character is the replacement character."""
        return str(self.tokenizer.decode(list(tokens)))

    def pieces(self, ids: list[int]) -> list[str]:
        """Tokens as vLLM 0.32 echoes them: the first alone, then what each adds; a character stands at its last token."""
        pieces, text = [self.decode(ids[0])], ""
        for end in range(2, len(ids) + 1):
            whole = self.decode(*ids[1:end])
            pieces.append("" if whole.endswith("\ufffd") else whole[len(text) :])
            text = text if whole.endswith("\ufffd") else whole
        return pieces


def with_marker(folder: Path) -> Path:
    """Let the tokenizer of a model folder put its beginning marker before each text, as Llama's does."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    return folder
