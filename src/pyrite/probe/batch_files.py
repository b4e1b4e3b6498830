"""OpenAI batch files: what `vllm run-batch` and batch services read and write, a request or a response on each line.

The id of a request names the task and the prompt and ends in a hash of all that is asked, without the model. So answers find
their prompts in any order and from several files, and answers to something else than is asked now are told apart.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pyrite.errors import UserError
from pyrite.models.answers import Answer, Writing
from pyrite.models.remote_fault import FAILED, Fault, fault_of, read_error
from pyrite.models.remote_json import lenient_json
from pyrite.models.remote_reply import reply_answer
from pyrite.models.remote_request import request_body
from pyrite.models.remote_run import missing_answer, seed_of
from pyrite.records import Chat
from pyrite.steps import digest

URL = "/v1/chat/completions"
HASH = 12
"""Hex digits of the hash in a request's id."""
ABSENT = "not in the batch file"
CHANGED = "an answer to another request: the prompts or the options have changed since the export"


@dataclass(frozen=True)
class Asking:
    """How the prompts of a task are asked, beside the prompts themselves: the settings of writing, the names of parameters, the
    variables of the chat template, temperatures by prompt id."""

    task: str
    writing: Writing
    names: Mapping[str, str]
    template_kwargs: Mapping[str, Any] | None = None
    temperatures: Mapping[str, float] | None = None

    def body(self, prompt: Chat, model: str) -> dict[str, Any]:
        """What a request says."""
        temperature = (self.temperatures or {}).get(prompt.id, self.writing.temperature)
        seed = seed_of(self.writing.seed, prompt.id, 0)
        return request_body(
            model, prompt, self.writing, self.names,
            temperature=temperature, seed=seed, template_kwargs=self.template_kwargs,
        )  # fmt: skip

    def custom_id(self, prompt: Chat) -> str:
        """The id of a prompt's request."""
        return f"{self.task}/{prompt.id}/{digest(self.body(prompt, ''))[:HASH]}"

    def line(self, prompt: Chat, model: str) -> bytes:
        """A request as a line of the file."""
        request = {"custom_id": self.custom_id(prompt), "method": "POST", "url": URL, "body": self.body(prompt, model)}
        return orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE)


@dataclass
class Batch:
    """The lines of an output file, by the ids of their requests; `reasons` counts lines that were left out, of all `read`."""

    path: Path
    lines: dict[str, dict[str, Any]]
    reasons: dict[str, int]
    read: int = 0

    def take(self, asking: Asking, prompts: Sequence[Chat]) -> list[Answer | Fault]:
        """What there is for each prompt, in order; its line is then used."""
        return [self._outcome(asking, prompt) for prompt in prompts]

    def _outcome(self, asking: Asking, prompt: Chat) -> Answer | Fault:
        row = self.lines.pop(asking.custom_id(prompt), None)
        if row is not None:
            return batch_outcome(row, prompt, asking.writing)
        stem = f"{asking.task}/{prompt.id}/"
        other = next((key for key in self.lines if key.startswith(stem) and len(key) == len(stem) + HASH), None)
        if other is None:
            return Fault(ABSENT)
        del self.lines[other]
        return Fault(CHANGED)


def read_batch(path: Path, *, skip: bool) -> Batch:
    """The lines of a batch's output file.

    Raises:
        UserError: no such file, or (not `skip`) a line that is no response, or the second to one request.
    """
    if not path.is_file():
        raise UserError("That batch file is not there.", str(path), "give the file that vllm run-batch wrote (-o)")
    batch = Batch(path, {}, {})
    for number, line in enumerate(batch_lines(path), 1):
        row = lenient_json(line)
        key = row.get("custom_id") if isinstance(row, dict) else None
        reason = "no response" if not isinstance(key, str) else "answered twice" if key in batch.lines else ""
        if not reason and ("response" not in row and "error" not in row):
            reason = "a request, no response" if "body" in row else "no response"
        batch.read += 1
        if not reason:
            batch.lines[str(key)] = row
        elif skip:
            batch.reasons[reason] = batch.reasons.get(reason, 0) + 1
        else:
            excerpt = line[:100].decode(errors="replace")
            fix = "mend or remove this line, or leave such lines out and count them: --on-bad-row skip"
            raise UserError("A line of the batch file is no answer.", f"{path}:{number}: {reason}: {excerpt}", fix)
    return batch


def batch_lines(path: Path) -> Iterator[bytes]:
    """The lines that hold something."""
    with path.open("rb") as source:
        for line in source:
            if line.strip():
                yield line.removeprefix(b"\xef\xbb\xbf").strip()


def batch_outcome(row: Mapping[str, Any], prompt: Chat, writing: Writing) -> Answer | Fault:
    """The answer in a line, or why there is none."""
    response = row.get("response")
    response = response if isinstance(response, dict) else {}
    body = response.get("body", response)  # some write the reply itself
    body = body if isinstance(body, dict) else {}
    status = response.get("status_code")
    status = status if isinstance(status, int) else None
    error = row.get("error") or body.get("error") or (body if body.get("object") == "error" else None)
    if error or (status is not None and status >= 400):
        fault = read_error(error if isinstance(error, dict | list | str) else body)
        reason = f"status {status or fault.status or '?'}: {fault.message[:300] or 'no message'}"
        return fault_of(status or fault.status, fault, {}, time.time(), key="the key", reason=reason)
    answer = reply_answer(body, prompt.id, 0, writing)
    return replace(answer, again=False) if isinstance(answer, Fault) else answer  # nobody can be asked again


def settled(
    prompts: Sequence[Chat], outcomes: Sequence[Answer | Fault], path: Path, *, on_failure: str
) -> list[Answer]:
    """Answers, those among them that say why there is none. What a prompt is to blame for (too long, withheld) is missing, as it
    is at an endpoint; what is not, too, where `on_failure` says so.

    Raises:
        UserError: prompts without an answer that are not to blame, by reason; or no answer at all.
    """
    answers: list[Answer] = []
    failed: dict[str, list[tuple[Chat, Fault]]] = {}
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        if isinstance(outcome, Answer):
            answers.append(outcome)
            continue
        own = outcome.missing and not outcome.again
        reason = outcome.missing if own else outcome.reason if outcome.reason in (ABSENT, CHANGED) else FAILED
        if not own:
            failed.setdefault(reason, []).append((prompt, outcome))
        answers.append(missing_answer((prompt, 0), Fault(outcome.reason, missing=reason)))
    counts = "; ".join(f"{reason}: {len(rows)} of {len(prompts)}" for reason, rows in failed.items())
    if prompts and not any(isinstance(outcome, Answer) for outcome in outcomes):
        first = next(outcome.reason for outcome in outcomes if isinstance(outcome, Fault))
        fix = "give the output of this task's own --export, and the same options as there"
        raise UserError(
            "The batch file answers nothing that is asked.", f"{path}: {counts or first}; first: {first}", fix
        )
    if failed and on_failure == "stop":
        prompt, fault = next(iter(failed.values()))[0]
        fix = "run the batch again for these, or count them as missing: --on-failure missing"
        detail = f"{path}: {counts}; first: prompt {prompt.id!r}: {fault.reason}"
        raise UserError("The batch file lacks answers.", detail, fix)
    return answers
