"""What the files in a study's run folder are called."""


def arm_title(name: str, size: int) -> str:
    """What the rows of an arm are called where all row sets of a study are listed."""
    return f"arm {name} ({size}, first seed)"


def file_of(title: str) -> str:
    """The file in the run folder's `rows` of a row set by its title."""
    kind, _, rest = title.partition(" ")
    stem = f"{kind}-{rest.replace(', first seed', '').replace(' (', '-').rstrip(')')}" if rest else kind
    return f"{''.join(letter if letter.isalnum() or letter in '._-' else '_' for letter in stem)}.jsonl"
