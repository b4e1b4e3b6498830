"""An endpoint as a step's input: known by address and model, whatever the pace at which it is asked."""

from pathlib import Path

import orjson
from pydantic import ValidationError

from pyrite.errors import UserError
from pyrite.models.remote import Endpoint
from pyrite.probe.config import ProbeConfig
from pyrite.steps import Source, open_store
from pyrite.steps.step import digest

PACE = ("concurrency", "requests_per_minute", "timeout_s", "retries", "on_failure")
OF_ENDPOINT = ("key_variable", "price_in", "price_out", "leave_out", "rename")
"""Options of which a judge has its own."""


def endpoint_of(config: ProbeConfig, url: str, model: str | None, *, judge: bool = False) -> Endpoint:
    """The endpoint that a probe's options describe.

    Raises:
        UserError: options that do not fit, by their flags.
    """
    prefix = "judge_" if judge else ""
    named = {name: getattr(config, prefix + name) for name in OF_ENDPOINT}
    pace = {name: getattr(config, name) for name in PACE}
    try:
        return Endpoint(base_url=url, model=model, **named, **pace)
    except ValidationError as error:
        faults = [
            "--" + "-".join([prefix.rstrip("_")] * bool(prefix) + [str(fault["loc"][0]).replace("_", "-")])
            + f" {fault['input']}: " + str(fault["msg"]).removeprefix("Value error, ")
            if fault["loc"] else str(fault["msg"]).removeprefix("Value error, ")
            for fault in error.errors()
        ]  # fmt: skip
        raise UserError("An endpoint's options do not fit.", "; ".join(faults), "see pyrite probe --help") from None


def endpoint_source(config: ProbeConfig, url: str, model: str | None, *, judge: bool = False) -> Source:
    """The same as a step's input: a file of its settings, without the key."""
    endpoint = endpoint_of(config, url, model, judge=judge)
    plain = endpoint.model_dump(mode="json")
    file = open_store(config.store).beside(f"endpoints/{digest(plain)[:16]}.json", orjson.dumps(plain))
    if endpoint.on_failure == "missing":  # other answers than of those who stop at a failure
        return Source(str(file), f"{endpoint.identity}+failures may be missing")
    return Source(str(file), endpoint.identity)


def read_endpoint(file: Path) -> Endpoint:
    """The endpoint that a step was given."""
    return Endpoint.model_validate(orjson.loads(file.read_bytes()))
