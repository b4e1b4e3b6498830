"""The text in which a language model reads a labelled row, and the text in which it learns to write one."""

from collections.abc import Mapping, Sequence

NLI_FIELDS = ("premise", "hypothesis")


def or_list(words: Sequence[str]) -> str:
    """'a, b or c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def classify(fields: Mapping[str, str], labels: Sequence[str]) -> str:
    """The prompt after which a model should name (or its classification head should give) the label.

    For NLI it has the parts of the paper's prompt (arXiv 2502.07164): an instruction that names the labels, the two
    sentences, and the stem "The relationship between premise and hypothesis is". The instruction's words are ours.
    """
    lines = [f"{name.capitalize()}: {text}" for name, text in fields.items()]
    if tuple(fields) == NLI_FIELDS:
        first = f"Read the premise and decide whether its relationship to the hypothesis is {or_list(labels)}."
        return "\n".join([first, *lines, "The relationship between premise and hypothesis is"])
    return "\n".join([f"Read the text and decide which label fits: {or_list(labels)}.", *lines, "The label is"])


def label_first(label: str) -> str:
    """How a generator's text begins: a sentence that states the label, so that sampling can ask for it."""
    return f"This is an example whose label is {label}.\n"


def write_example(fields: Mapping[str, str], label: str) -> str:
    """The text that a generator is trained on, without its end marker: the label first, then a line for each field."""
    return label_first(label) + "\n".join(f"{name.capitalize()}: {one_line(text)}" for name, text in fields.items())


def one_line(text: str) -> str:
    """Text with every run of white space as one blank, so that a line holds a field."""
    return " ".join(text.split())


def parse_example(text: str, fields: Sequence[str]) -> dict[str, str] | str:
    """What fields does a generated text hold? The fields, or the reason why it cannot be used. Never evaluates text.

    `text` is what follows the label sentence. Every field must be there once, in order, each on its own line.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    values: dict[str, str] = {}
    for name, line in zip(fields, lines, strict=False):
        head, colon, value = line.partition(":")
        if not colon or head.strip().lower() != name.lower():
            return f"no line for {name}"
        if not value.strip():
            return f"empty {name}"
        values[name] = value.strip()
    if len(values) < len(fields):
        return f"no line for {fields[len(values)]}"
    if len(lines) > len(fields):
        return "text after the last field"
    return values


def few_shot(label: str, examples: Sequence[Mapping[str, str]]) -> str:
    """A chat message that shows rows of one label and asks for another such row, laid out the same way."""
    names = list(examples[0]) if examples else list(NLI_FIELDS)
    blocks = ["\n".join(f"{name.capitalize()}: {one_line(text)}" for name, text in row.items()) for row in examples]
    layout = "\n".join(f"{name.capitalize()}: ..." for name in names)
    return "\n\n".join(
        [
            f"Here are examples whose label is {label}.",
            *blocks,
            f"Write one new example whose label is {label}. Use different words. Answer only in this layout:\n{layout}",
        ]
    )
