"""A conversation as the model reads it: through its chat template, or as plain text."""

from collections.abc import Sequence
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Message


class RowRefused(UserError):
    """A row that a model cannot be given. `reason` names it among the counts of dropped rows."""

    def __init__(self, what: str, found: str, fix: str, *, reason: str) -> None:
        super().__init__(what, found, fix)
        self.reason = reason


BETWEEN = "\n\n"
"""What stands between messages where a model has no chat template."""
BY_TEMPLATE = "refused by the chat template"
"""The reason of rows that the template refuses."""


def render_chat(tokenizer: Any, messages: Sequence[Message], *, opened: bool, row_name: str) -> str:
    """The text of these turns; with `opened`, up to where the next answer begins.

    Raises:
        RowRefused: the template refuses the conversation (a role that it does not know, say); `row_name` names the row.
    """
    import jinja2

    if not tokenizer.chat_template:
        return BETWEEN.join(message.content for message in messages)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=opened, tokenize=False))
    except jinja2.TemplateError as error:
        raise RowRefused(
            "The chat template refuses a conversation.", f"{row_name}: {error}", "leave it out", reason=BY_TEMPLATE
        ) from error
