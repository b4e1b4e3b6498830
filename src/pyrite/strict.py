"""The base of every configuration."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A configuration in which an unknown key is an error, and which does not change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)
