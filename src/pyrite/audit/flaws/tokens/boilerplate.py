"""Stock phrases of assistants, and a search for them."""

import re
import unicodedata
from collections.abc import Mapping

from pyrite.audit.flaws.tokens.boilerplate_elsewhere import ELSEWHERE

BOILERPLATE: Mapping[str, tuple[str, str]] = {
    "as an AI": ("as an ai", r"\bas an ai\b"),
    "as a language model": ("language model", r"\b(?:as|i am|i'm) (?:just )?an? (?:\w+ ){0,2}language model"),
    "I am an AI": ("an ai", r"\bi(?:'m| am) (?:just |only )?an ai\b"),
    "I don't have personal …": (
        "have personal", r"\bi (?:do not|don't) have personal (?:experience|opinion|feeling|belief|preference|emotion)",
    ),
    "I cannot help with": ("i can", r"\bi can(?:not|'t) (?:help|assist|fulfil|fulfill|comply|provide|engage)\b"),
    "I'm sorry, but I": ("sorry, but", r"\bi(?:'m| am) sorry, but i\b"),
    "I apologize for": ("apologi", r"\bi apologi[sz]e for (?:any|the) (?:confusion|inconvenience|mistake|error|misund)"),
    "knowledge cutoff": ("knowledge cut", r"\bknowledge cut-?off\b"),
    "as of my last …": ("as of my", r"\bas of my (?:last|latest|most recent|knowledge|training)\b"),
    "I hope this helps": ("i hope", r"\bi hope (?:this|that|these|it) help"),
    "let me know if": ("let me know if", r"\blet me know if (?:you|there|i)\b"),
    "feel free to": ("feel free to", r"\bfeel free to (?:ask|reach out|let me know|contact|modify|adjust|add)\b"),
    "happy to help": ("to help", r"\b(?:happy|glad|here) to help\b"),
    "is there anything else": ("anything else", r"\bis there anything else (?:you|i|that)\b"),
    "how can I assist you": ("how can i", r"\bhow can i (?:assist|help) you\b"),
    "it's important to note": (
        "important to", r"\bit(?:'s| is) (?:also )?important to (?:note|remember|mention|consider|understand|recogni)",
    ),
    "it's worth noting": ("worth ", r"\bit(?:'s| is) (?:also )?worth (?:noting|mentioning)\b"),
    "please note that": ("please note", r"\bplease note that\b"),
    "keep in mind that": ("keep in mind", r"\bkeep in mind that\b"),
    "in conclusion": ("in conclusion", r"\bin conclusion,"),
    "in summary": ("in summary", r"\bin summary,"),
    "to summarize": ("to summari", r"\bto summari[sz]e,"),
    "overall, …": ("overall,", r"^overall,"),
    "delve into": ("delv", r"\bdelv(?:e|es|ed|ing) (?:deep(?:er|ly)? )?into\b"),
    "let's dive in": ("let's ", r"\blet's (?:dive|delve|explore|break (?:it|this|down))\b"),
    "Certainly! …": ("certainly", r"^certainly[!,.:]"),
    "Sure! …": ("sure", r"^sure(?: thing)?[!,.:]"),
    "Of course! …": ("of course", r"^of course[!,.:]"),
    "Absolutely! …": ("absolutely", r"^absolutely[!,.:]"),
    "great question": ("question", r"\b(?:great|good|excellent) question[!.,]"),
    "Here is/are …:": ("here ", r"^here (?:is|are) (?:an?|the|some|\d+|one|two|three|four|five|ten|my)\b.{0,80}:"),
    "Here's …": ("here's", r"^here's (?:an?|the|some|my|how|your)\b"),
    "a testament to": ("testament to", r"\b(?:a|as) (?:\w+ )?testament to\b"),
    "tapestry of": ("tapestry", r"\btapestry of\b"),
    "plays a crucial role": (
        " role", r"\bplay(?:s|ed|ing)? an? (?:crucial|vital|pivotal|significant|key|important|essential) role\b",
    ),
    "ever-evolving": ("ever-", r"\bever-(?:evolving|changing)\b"),
    "in today's … world": ("in today's", r"\bin today's (?:fast-paced|digital|modern|ever|world|society|increasingly)"),
    "navigate the complexities": ("navigat", r"\bnavigat(?:e|es|ing) the (?:complex|challeng|world|landscape|intrica)"),
    "game-changer": ("changer", r"\bgame[- ]changer\b"),
    "in the realm of": ("realm of", r"\bin the realm of\b"),
    "unlock the potential": ("unlock", r"\bunlock(?:s|ing)? (?:the|your) (?:full |true )?(?:potential|power|secret)"),
    "step-by-step guide": ("step-by-step", r"\bhere (?:is|are) (?:an? |some )?(?:simple )?step-by-step\b"),
    # Spanish, French, German, Portuguese
    "como modelo de lenguaje": ("como ", r"\bcomo (?:un )?(?:modelo de (?:lenguaje|linguagem)|um modelo de linguagem)\b"),
    "en tant que modèle de langage": ("en tant qu", r"\ben tant qu(?:e modèle de langage|['’](?:ia|intelligence artificielle))\b"),
    "als KI-Sprachmodell": ("als ", r"\bals (?:ein )?(?:ki|ki-modell|ki-sprachmodell|(?:großes )?sprachmodell)\b"),
    **ELSEWHERE,
}  # fmt: skip
"""Name -> (what the lower-case text must hold, pattern in it). `^` is the beginning of a line. English first, and an
assistant that speaks of itself in some other languages of Latin letters; then those of other letters."""
_OTHER_LETTER = re.compile("[\u0370-\u1dff\u2c80-\ua71f\ua800-\ufdff\ufe70-\ufefc\uff66-\uffdc]")
_LATIN = len(BOILERPLATE) - len(ELSEWHERE)
_PATTERNS = [(unicodedata.normalize("NFC", needle), re.compile(unicodedata.normalize("NFC", pattern), re.M))
             for needle, pattern in BOILERPLATE.values()]  # fmt: skip


def phrases_in(text: str) -> list[int]:
    """The numbers of the phrases of `BOILERPLATE` that a text holds."""
    low, patterns = text.lower().replace("’", "'"), _PATTERNS[:_LATIN]
    if not text.isascii() and _OTHER_LETTER.search(text):
        low, patterns = unicodedata.normalize("NFC", low), _PATTERNS
    return [at for at, (needle, pattern) in enumerate(patterns) if needle in low and pattern.search(low)]
