"""Which endpoint to ask, how hard, and what asking took. Loads nothing heavy."""

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from pyrite.config_base import ConfigBase
from pyrite.errors import UserError
from pyrite.models.answers import Answer

Parameter = Literal["max_tokens", "temperature", "top_p", "seed", "stop"]
"""What a request says beside the model and the messages, under the names of the API."""
PARAMETERS: tuple[Parameter, ...] = ("max_tokens", "temperature", "top_p", "seed", "stop")


class Endpoint(ConfigBase):
    """An OpenAI-compatible chat endpoint. The key is no option: it comes from the environment and is kept nowhere."""

    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: str = Field(description="address of the API up to and with its version, such as http://localhost:8000/v1")
    model: str | None = Field(None, description="name of the model there [the only one that the endpoint lists]")
    concurrency: int = Field(8, ge=1, description="at most so many requests under way at once")
    requests_per_minute: int | None = Field(None, ge=1, description="at most so many requests a minute, evenly spread")
    timeout_s: float = Field(
        120.0, gt=0, description="seconds after which a request without a whole answer is given up"
    )
    retries: int = Field(6, ge=0, description="so many more requests for a prompt when the endpoint fails or is busy")
    price_in: float | None = Field(None, ge=0, description="price of a million prompt tokens; give both prices or none")
    price_out: float | None = Field(None, ge=0, description="price of a million answer tokens, in the same currency")
    key_variable: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the key; it is sent to this endpoint only; local ones need none",
    )
    leave_out: tuple[Parameter, ...] = Field(
        (),
        description="a parameter that requests do not name: max_tokens, temperature, top_p, seed or stop; repeatable",
    )
    rename: tuple[str, ...] = Field(
        (), description="OURS=THEIRS: a parameter under another name, such as seed=random_seed; repeatable"
    )
    on_failure: Literal["stop", "missing"] = Field(
        "stop",
        description="a prompt that fails through all retries while others are answered: stop after these, or count it "
        "as missing",
    )

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018 - reading it checks it
        except ValueError:
            raise ValueError("this is no address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in value):
            raise ValueError("an address begins with http:// or https:// and names a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a name or password has no place in an address; set the key in the environment")
        if parts.query or parts.fragment:
            raise ValueError("an address ends with its path, such as /v1; leave out what follows ? or #")
        return re.sub(r"(/chat/completions)?/*$", "", value)

    @field_validator("rename")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ours, _, theirs = text.partition("=")
            if ours not in PARAMETERS or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", theirs):
                raise ValueError(f"'{text}' is no OURS=THEIRS with OURS one of {', '.join(PARAMETERS)}")
            if theirs in ("model", "messages", *PARAMETERS):
                raise ValueError(f"'{text}' takes the name of something else in the request")
        return value

    @property
    def names(self) -> dict[str, str]:
        """Under which name each parameter is sent; one that is left out is not there."""
        renamed = dict(text.split("=", 1) for text in self.rename)
        return {name: renamed.get(name, name) for name in PARAMETERS if name not in self.leave_out}

    @property
    def identity(self) -> str:
        """Whom answers are known by: address and model, and what a request leaves out or renames where it does."""
        changed = [f"{name}={self.names.get(name, '')}" for name in PARAMETERS if self.names.get(name) != name]
        return f"endpoint:{self.base_url}#{self.model}" + ("?" + "&".join(changed)) * bool(changed)

    @model_validator(mode="after")
    def _prices(self) -> "Endpoint":
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("give both price_in and price_out (0 is a price), or neither")
        return self


@dataclass
class Usage:
    """What answers took, those too that an earlier attempt at the same file had got (`kept` of them).

    Tokens are as the endpoint counts them, over all its replies, also unusable ones (of an earlier attempt, only the
    answers that it kept). `unknown_tokens` counts the kept answers whose size it did not tell: with any of these, tokens
    and cost are lower bounds. `cost` is in the currency of the given prices, None where none are given. `retries` is a
    part of `requests`; `failed`, `refused` (withheld) and `missing` (for any other reason) count answers. Requests,
    retries, failures and seconds are this attempt's.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    failed: int = 0
    refused: int = 0
    missing: int = 0
    kept: int = 0
    seconds: float = 0.0
    cost: float | None = None

    def keep(self, endpoint: Endpoint, answer: Answer) -> None:
        """Count an answer that was there before."""
        self.kept += 1
        self.charge(endpoint, answer.prompt_tokens, answer.tokens)
        self.settled(answer)

    def settled(self, answer: Answer) -> None:
        """Count what an answer is."""
        self.refused += answer.finish == "refused"
        self.missing += answer.finish == "missing"
        self.unknown_tokens += answer.tokens is None or answer.prompt_tokens is None

    def charge(self, endpoint: Endpoint, prompt_tokens: int | None, tokens: int | None) -> None:
        """Add the tokens of one reply, and what they cost."""
        self.prompt_tokens += prompt_tokens or 0
        self.tokens += tokens or 0
        if endpoint.price_in is not None and endpoint.price_out is not None:
            self.cost = (self.prompt_tokens * endpoint.price_in + self.tokens * endpoint.price_out) / 1e6


def api_key(endpoint: Endpoint) -> str:
    """The key from the environment, "" where there is none; a `UserError` for one that no header can carry."""
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        detail = f"${endpoint.key_variable} holds a space, a line break or a letter outside ASCII"
        raise UserError("This is no key.", detail, "set the variable to the key alone")
    return key
