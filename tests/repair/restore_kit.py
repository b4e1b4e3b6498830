"""A tiny model that learned one sort of rows, and was then trained on another: the model before, and the harmed one."""

import json
from pathlib import Path

from tests.repair.repair_kit import chats, write


def taught(source: Path, rows: Path, out: Path, *, steps: int, rate: float) -> Path:
    """A language model trained on the texts of chats for some steps of eight rows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(source),
        AutoModelForCausalLM.from_pretrained(source).float().train(),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    texts = [
        "\n".join(turn["content"] for turn in json.loads(line)["messages"]) + tokenizer.eos_token
        for line in rows.read_text().splitlines()
    ]
    for step in range(steps):
        batch = tokenizer(texts[step * 8 % 80 :][:8], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def two_models(folder: Path, tiny: Path) -> tuple[Path, Path]:
    """(before, harmed), with the rows that each learned last beside them: people.jsonl, uniform.jsonl."""
    people = write(chats(80, start=100), folder / "people.jsonl")
    uniform = write(chats(80, answer="### Answer: fine"), folder / "uniform.jsonl")
    before = taught(tiny, people, folder / "before", steps=60, rate=3e-3)
    return before, taught(before, uniform, folder / "harmed", steps=40, rate=2e-3)
