"""Run folders and their records: `schema` and a module for each verb say what is in them, `write` and `read` do that."""

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
