"""Continuations as tokens: with their context, never alone, under the tokenizers that people have."""

import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from pyrite.audit.reading import tokens_of
from pyrite.models.perplexity import EncodedText
from pyrite.models.tokenise import encode_after, encode_choices
from pyrite.records import Labelled
from pyrite.synth.sample import prompt_for
from pyrite.synth.settings import SynthSettings
from pyrite.tasks.prompts import label_first
from pyrite.train.causal import encode_examples

TEXTS = [
    "The relationship between premise and hypothesis is entailment, neutral or contradiction; or it is not_entailment.",
    "Premise: the film was great\nHypothesis: hello world\n\nThe label is positive. This is an example whose label is negative.",
    "hello hello world, the film was great and the hypothesis is that the film is neutral  to   us",
] * 20
MARKS = ["<unk>", "<s>", "</s>", "<|user|>", "[CLS]", "[SEP]", "[UNK]", "[PAD]"]
TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Answer:\n{% endif %}"
)


def sentencepiece(kind: str, scheme: str, split: bool) -> Any:
    """As Llama 2's and T5's: blanks are `▁`, and a text's beginning may get one."""
    if kind == "unigram":
        built = Tokenizer(models.Unigram())
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=160, special_tokens=MARKS, unk_token="<unk>", show_progress=False
        )
    else:
        built = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, show_progress=False)
    built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True)  # no token holds two words
    built.train_from_iterator(TEXTS, trainer)
    built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    built.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    return wrapped(built, "<s> $A")


def legacy_llama() -> Any:
    """As Llama 2's files are converted: a normaliser writes the `▁`, and nothing splits the text."""
    built = Tokenizer(models.BPE(unk_token="<unk>"))
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    built.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # no token holds two words
    built.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS, show_progress=False))
    unsplit = json.loads(built.to_str()) | {"pre_tokenizer": None}
    return wrapped(Tokenizer.from_str(json.dumps(unsplit)), "<s> $A")


def byte_level(after: str) -> Any:
    """As GPT-2's and Llama 3's."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\w+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False)
    )
    return wrapped(built, f"<s> $A{after}")


def word_piece() -> Any:
    """As BERT's: lower case, `[SEP]` after every text."""
    built = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=MARKS, show_progress=False)
    )
    return wrapped(built, "[CLS] $A [SEP]")


def wrapped(built: Tokenizer, single: str) -> Any:
    """A tokenizer as the library has it, with the marks that it puts around a text."""
    marks = [(mark, built.token_to_id(mark)) for mark in MARKS]
    built.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="[PAD]"
    )


TOKENIZERS = {
    **{f"{kind}-{scheme}-{'words' if split else 'whole'}": (sentencepiece, kind, scheme, split)
       for kind in ("unigram", "bpe") for scheme in ("always", "first", "never") for split in (True, False)},
    "legacy-llama": (legacy_llama,),
    "byte-level": (byte_level, ""),
    "byte-level with an end marker": (byte_level, " </s>"),
    "wordpiece": (word_piece,),
}  # fmt: skip


@pytest.fixture(scope="module", params=TOKENIZERS, name="tokenizer")
def built_tokenizer(request: pytest.FixtureRequest) -> Any:
    build, *arguments = TOKENIZERS[request.param]
    return build(*arguments)


PAIRS = [
    ("The relationship between premise and hypothesis is", " entailment"),
    ("The label is", " positive"),
    ("The label is ", "positive"),
    ("The film was great\n", "hello world"),
    ("The film was great\n\n", "\nhello world"),
    ("<|user|>", "hello world"),
    ("the film  ", " great"),
    ("", "hello world"),
]


def slow_split(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The second way, from the end: tokens are taken off the whole text until one has no character of the continuation."""
    whole = tokenizer(context + continuation)["input_ids"]
    while whole and whole[-1] in tokenizer.convert_tokens_to_ids(["</s>", "[SEP]"]):
        whole.pop()
    offsets = tokenizer(context + continuation, return_offsets_mapping=True)["offset_mapping"]
    characters = [range(*span) for span in offsets]
    border = len(whole)
    for at in range(len(whole) - 1, -1, -1):
        of_context = characters[at] and characters[at][-1] < len(context)
        if of_context or (not len(characters[at]) and at == 0):
            break
        border = at
    return whole[:border], whole[border:]


@pytest.mark.parametrize(("context", "continuation"), PAIRS)
def test_a_continuation_has_the_tokens_of_the_whole_text(tokenizer: Any, context: str, continuation: str) -> None:
    ((before, after),) = encode_after(tokenizer, [(context, continuation)], add_special_tokens=True)
    assert (before, after) == slow_split(tokenizer, context, continuation)
    whole = tokenizer(context + continuation)["input_ids"]
    assert [*before, *after] == whole[: len(before) + len(after)]
    assert set(whole[len(before) + len(after) :]) <= set(tokenizer.convert_tokens_to_ids(["</s>", "[SEP]"]))
    # nothing of the context is counted as the continuation, but for a token that lies across the border, and all of it is
    text = context + continuation
    spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][len(before) : len(before) + len(after)]
    assert text[min(start for start, end in spans if end > start) :].strip().endswith(continuation.strip())
    assert all(end > len(context) or start >= len(context) for start, end in spans)


def test_a_word_after_a_line_break_gets_no_stray_blank() -> None:
    """What the label word alone would get under Llama 2's tokenizer."""
    tokenizer = sentencepiece("bpe", "first", split=True)
    alone = tokenizer.convert_ids_to_tokens(tokenizer("hello", add_special_tokens=False)["input_ids"])
    assert alone[0].startswith("▁")
    ((_, after),) = encode_after(tokenizer, [("The film was great\n", "hello")], add_special_tokens=True)
    assert not tokenizer.convert_ids_to_tokens(after)[0].startswith("▁")
    legacy = legacy_llama()
    blanks = legacy.convert_ids_to_tokens(legacy(" neutral", add_special_tokens=False)["input_ids"])
    ((_, after),) = encode_after(legacy, [("The label is", " neutral")], add_special_tokens=True)
    assert "".join(blanks) == "▁▁neutral"  # alone: its own blank, and a stray one
    assert "".join(legacy.convert_ids_to_tokens(after)) == "▁neutral"


def test_choices_share_one_context(tokenizer: Any) -> None:
    contexts = [context for context, _ in PAIRS if context]
    choices = [" entailment", " neutral", " not_entailment", "s", "\nhello"]
    for context, (shared, rows) in zip(
        contexts, encode_choices(tokenizer, contexts, choices, add_special_tokens=True), strict=True
    ):
        for choice, row in zip(choices, rows, strict=True):
            before, after = slow_split(tokenizer, context, choice)
            assert [*shared, *row] == [*before, *after]
            assert len(row) >= len(after) >= 1
        splits = [slow_split(tokenizer, context, choice)[0] for choice in choices]
        assert len(shared) == max(
            size for size in range(min(map(len, splits)) + 1) if len({tuple(split[:size]) for split in splits}) == 1
        )


def test_the_slow_tokenizers_split_is_the_longest_common_beginning() -> None:
    class Slow:
        """A tokenizer of the library without offsets: characters, a begin marker and an end marker."""

        is_fast = False

        def __call__(self, texts: Any, **options: Any) -> dict[str, Any]:
            rows = [[1, *map(ord, text), 2] for text in ([texts] if isinstance(texts, str) else texts)]
            added = [[1, *(0 for _ in row[2:]), 1] for row in rows]
            if isinstance(texts, str):
                return {"input_ids": rows[0], "special_tokens_mask": added[0]}
            return {"input_ids": rows, "special_tokens_mask": added}

    split = encode_after(Slow(), [("ab", "cd"), ("", "x")], add_special_tokens=True)
    assert split == [([1, 97, 98], [99, 100]), ([1], [120])]


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_an_answer_has_the_same_tokens_with_its_prompt_and_without(tokenizer: Any, template: str | None) -> None:
    tokenizer.chat_template = template
    question, answer = "the film was great", "hello world, the label is neutral"
    opened = f"<|user|>{question}\nAnswer:\n" if template else f"{question}\n\n"
    both: tuple[EncodedText, EncodedText] = tokens_of(tokenizer, question, answer, 64, "row 1")
    with_prompt, alone = ([i for i, counted in zip(text.ids, text.counted, strict=True) if counted] for text in both)
    ((_, expected),) = encode_after(tokenizer, [(opened, answer)], add_special_tokens=False)
    assert with_prompt == alone == expected
    ((_, without),) = encode_after(tokenizer, [("", answer)], add_special_tokens=False)
    _, no_prompt = tokens_of(tokenizer, "", answer, 64, "row 1")
    assert [i for i, counted in zip(no_prompt.ids, no_prompt.counted, strict=True) if counted] == without
    tokenizer.chat_template = None


def test_a_generator_samples_from_the_tokens_that_it_was_trained_on(tokenizer: Any) -> None:
    row = Labelled({"premise": "the film was great", "hypothesis": "hello world"}, "positive", "1")
    ids, targets, _ = encode_examples(tokenizer, [row], 500)
    whole = label_first("positive") + "Premise: the film was great\nHypothesis: hello world"
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert ids == [[bos, *tokenizer(whole, add_special_tokens=False)["input_ids"], eos]]
    unlearned = targets[0].count(-100)
    settings = SynthSettings.model_construct(mode="finetuned", model="m")
    prompt = prompt_for(settings, tokenizer, "positive", [], ["premise", "hypothesis"])
    assert prompt.ids == ids[0][:unlearned]
