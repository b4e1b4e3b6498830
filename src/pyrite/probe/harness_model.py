"""Our loaded model in the shape that lm-evaluation-harness asks: texts in; log-probabilities and texts out.

Imported only where a task is about to run: it loads lm_eval, and with it torch and datasets.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped]
from lm_eval.models.utils import (  # type: ignore[import-untyped]
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # type: ignore[import-untyped]

from pyrite.errors import UserError
from pyrite.models.template import pinned_template
from pyrite.probe.harness_protocols import Scorer, Writer

SAMPLING = ("top_p",)
NO_EFFECT: Mapping[str, Sequence[Any]] = {
    "num_beams": (1,),
    "top_k": (0, None),
    "repetition_penalty": (1,),
    "use_cache": (True,),
}
"""Settings of a task that change nothing at these values."""


class PyriteLM(TemplateLM):  # type: ignore[misc]
    """A model as lm-eval sees it, whose numbers come from a scorer and whose texts come from a writer.

    Texts are cut into tokens as lm-eval's own `hf` model does: blanks at the end of a context belong to the
    continuation, an empty context stands for the begin marker (where there is none, the end marker), and a text that
    already begins with the begin marker gets no second one. A context that is too long loses its beginning; `cut`
    counts those requests. Nothing is cached.
    """

    def __init__(
        self,
        tokenizer: Any,
        scorer: Scorer,
        writer: Writer,
        *,
        max_length: int,
        max_gen_toks: int = 256,
        name: str = "pyrite",
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_gen_toks = max_gen_toks
        self.cut = 0
        self.system_left_out = 0
        self._scorer, self._writer, self._name = scorer, writer, name

    @property
    def eot_token_id(self) -> int:
        """The end marker."""
        if self.tokenizer.eos_token_id is None:
            fix = "use a tokenizer that names its eos_token"
            raise UserError("The model's tokenizer has no end marker.", self._name, fix)
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What a text without context follows: the begin marker, or the end marker where there is none."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    @property
    def tokenizer_name(self) -> str:
        """The model's name, for lm-eval's records."""
        return self._name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """A text's token ids, with the tokenizer's own special tokens unless told otherwise."""
        if add_special_tokens is None:
            marked = has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
            add_special_tokens = False if marked else None
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return [int(token) for token in self.tokenizer.encode(string, **options)]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Each continuation's summed log-probability after its context, in nats, and whether it is the greedy one."""
        for request in requests:
            if request.args[1] == "":
                raise UserError("A task asks for the probability of an empty answer.", about(request), MEND)
        return list(super().loglikelihood(requests, disable_tqdm=True))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = []
        for texts, context, continuation in requests:
            where = f"the context that ends in {texts[0][-60:]!r}" if texts else "a stretch of running text"
            if not continuation:
                raise UserError("An answer has no token of its own.", f"{where}, answer {texts and texts[1]!r}", MEND)
            if len(continuation) > self.max_length:
                detail = f"{where}: {len(continuation)} tokens; the model reads {self.max_length}"
                raise UserError("An answer is longer than the model can read.", detail, MEND)
            room = self.max_length + 1 - len(continuation)  # the last token is predicted, never read
            self.cut += len(context) > room
            pairs.append((context[-room:], continuation))
        scores = self._scorer(pairs)
        assert len(scores) == len(pairs), f"{len(scores)} scores for {len(pairs)} requests"
        bad = sum(math.isnan(value) for value, _ in scores)
        if bad:
            detail = f"{bad} of {len(scores)} requests"
            raise UserError("The model's log-probabilities are no numbers.", detail, "try --precision fp32")
        return [(float(value), bool(greedy)) for value, greedy in scores]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Each text's summed log-probability, in nats, each token predicted once, in windows of the model's length."""
        owners: list[int] = []
        windows: list[tuple[Any, list[int], list[int]]] = []
        for number, request in enumerate(requests):
            rolled = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, predicted in map(make_disjoint_window, rolled):
                owners.append(number)
                windows.append((None, context, predicted))
        totals = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += value
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """What the model writes after each prompt, up to the first of the request's stop strings."""
        times: Counter[tuple[str, str]] = Counter()
        prompts, settings = [], []
        for request in requests:
            text, setting = request.args[0], self._settings(request)
            setting["attempt"] = times[text, repr(request.args[1])]
            times[text, repr(request.args[1])] += 1
            room = self.max_length - int(setting["max_gen_toks"])
            if room < 1:
                detail = f"{about(request)}: {setting['max_gen_toks']} tokens; the model reads {self.max_length}"
                raise UserError("The answer would fill the model's whole length.", detail, "lower max_gen_toks")
            ids = self.tok_encode(text) or [self.prefix_token_id]
            self.cut += len(ids) > room
            prompts.append(ids[-room:])
            settings.append(setting)
        texts = self._writer(prompts, settings)
        assert len(texts) == len(prompts), f"{len(texts)} texts for {len(prompts)} prompts"
        end = self.tokenizer.decode(self.eot_token_id)
        stops = [handle_stop_sequences(list(setting["until"]), eos=end) for setting in settings]
        return [ended(text, stop) for text, stop in zip(texts, stops, strict=True)]

    def _settings(self, request: Any) -> dict[str, Any]:
        """A task's generation settings in the writer's terms; what the writer cannot do is refused by name."""
        options = dict(normalize_gen_kwargs(request.args[1], self.max_gen_toks))
        temperature = float(options.pop("temperature", 0.0) or 0.0)
        sampled = bool(options.pop("do_sample", False)) and temperature > 0
        settings: dict[str, Any] = {
            "until": list(options.pop("until", [])),
            "max_gen_toks": int(options.pop("max_gen_toks")),
        }
        settings["temperature"] = temperature if sampled else 0.0
        for key, value in options.items():
            if key in SAMPLING:
                settings[key] = value if sampled else 1.0
            elif value not in NO_EFFECT.get(key, ()) and not (key == "top_k" and not sampled):
                fix = "choose another task, or override the setting in a task YAML of your own"
                raise UserError(
                    "A task asks for a way of writing that is not supported.", f"{about(request)}: {key}={value!r}", fix
                )
        return settings

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's own template writes it.

        Where the template takes no system message it is left out, as lm-eval's `hf` model does; `system_left_out`
        counts those prompts.
        """
        from jinja2.exceptions import TemplateError

        if not getattr(self.tokenizer, "chat_template", None):
            raise UserError("The model has no chat template.", self._name, "run the task without --harness-chat")
        how: dict[str, Any] = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
            "chat_template": pinned_template(self.tokenizer.get_chat_template()),
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **how))
        except TemplateError:
            without = [message for message in chat_history if message["role"] != "system"]
            if len(without) == len(chat_history):
                raise
            self.system_left_out += 1
            return str(self.tokenizer.apply_chat_template(without, tokenize=False, **how))


MEND = "choose another task, or mend its YAML"


def about(request: Any) -> str:
    """A request by its task and document."""
    return f"task {request.task_name}, document {request.doc_id}"


def ended(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the stop strings."""
    cuts = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(cuts)] if cuts else text
