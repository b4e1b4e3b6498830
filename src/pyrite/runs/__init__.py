"""Run folders and their records: what is in them (`schema`, and a module for each verb), `write`, `read`."""

from pyrite.runs.read import (
    AGAIN,
    FILES,
    NEWEST,
    RECORDS,
    VERBS,
    Run,
    count_results,
    parse_record,
    read_results,
    read_run,
)

__all__ = [
    "AGAIN",
    "FILES",
    "NEWEST",
    "RECORDS",
    "VERBS",
    "Run",
    "count_results",
    "parse_record",
    "read_results",
    "read_run",
]
