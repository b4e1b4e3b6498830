"""A conversation as the model reads it: through its chat template, or as plain text."""

from collections.abc import Sequence
from typing import Any

from pyrite.errors import UserError
from pyrite.records import Message

BETWEEN = "\n\n"
"""What stands between messages where a model has no chat template."""


def render_chat(tokenizer: Any, messages: Sequence[Message], *, opened: bool, row_name: str) -> str:
    """The text of these turns; with `opened`, up to where the next answer begins.

    Raises:
        UserError: the template refuses the conversation (a role that it does not know, say); `row_name` names the row.
    """
    import jinja2

    if not tokenizer.chat_template:
        return BETWEEN.join(message.content for message in messages)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=opened, tokenize=False))
    except jinja2.TemplateError as error:
        raise UserError("The chat template refuses a conversation.", f"{row_name}: {error}", "leave it out") from error
