"""The options of `pyrite report`: field = flag = help. Loads nothing heavy."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from pyrite.config_base import CallConfig, ConfigBase


class ReportOptions(ConfigBase):
    """Where the report goes, and what is left out of it."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))] = Field(
        Path("report.html"), description="the page: one self-contained HTML file"
    )
    open: bool = Field(False, description="open the page in a browser")
    title: str | None = Field(None, description="heading of the page [made of the runs' names]")
    rows: int = Field(2000, ge=0, description="at most so many rows of each table of rows stand in the page")
    no_rows: bool = Field(False, description="leave out every text that comes from the data or from a model's answers")
    cards: Path | None = Field(
        None, description="also write a model card and a data card, in the hub's format, into this folder"
    )
    lm_eval: Path | None = Field(
        None, description="also write scorecards as lm-evaluation-harness writes its results, into this folder"
    )


class ReportConfig(ReportOptions, CallConfig):
    """The run folders to report on."""

    runs: tuple[str, ...] = Field(min_length=1, description="run folders; two or more are set side by side")
