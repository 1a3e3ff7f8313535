"""What a single text must be to serve as a caption: tests that need no model."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "MAX_WORDS",
    "is_list",
    "is_refusal",
    "mood_words",
    "text_problem",
    "wrong_language",
]

MAX_WORDS = 20
_SENTENCE_END = re.compile(r"(?<!\b[A-Z])[.!?]\s+\S")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|&[a-z]+;|```|\*\*|!\[|\]\(")
_REFUSAL = re.compile(
    r"^\W*(i\s?['’]?\s?a?m (really |very |so )?(sorry|unable|afraid|not able)|sorry\b|apolog|"
    r"unfortunately,? i\b)"
    r"|\bi (cannot|can not|can['’]t|could ?n['’]t|am unable to|won['’]t|will not|am not able to) "
    r"(help|assist|identify|provide|describe|see|view|comply|process|write|create|determine|do|"
    r"access|analy[sz]e|fulfil|generate|answer)"
    r"|\bas an? (ai|artificial|large language|language) ?(model|intelligence|assistant)?\b"
    r"|\bno (image|picture|photo) (was|is|has been) (provided|attached|given|visible)",
    re.IGNORECASE,
)
# Words of feeling; "warm", "bright" and "cold" are left out, for they name light and color too.
_MOOD_WORDS = """
afraid alarming angry anxious awe blissful calm calming cheerful cheery comforting content cozy
creepy delight delightful depressing despair dreary eerie emotion excited exciting fear fearful
frightening gloomy grief happiness happy haunting hopeful inviting joy joyful joyous loneliness
lonely lovely loving melancholic melancholy menacing miserable mood moody mournful nervous
nostalgia nostalgic ominous peace peaceful playful relaxed relaxing romantic sad sadness scary
sentimental serene serenity sinister somber sorrow sorrowful spooky tender tense tension
threatening tranquil tranquility uncanny uneasy unsettling welcoming wistful worried
"""
_MOOD = frozenset(_MOOD_WORDS.split())
_FUNCTION_WORDS = {
    "en": "the of and with is are at from under near to its by over behind beside against into",
    "de": "der die das und ein eine einer mit ist auf im dem von vor sind neben",
    "fr": "le la les une des et avec est dans sur du au devant sous",
    "es": "el la los las una con es del sobre y en está",
    "it": "il lo la gli una con di nel della sul sono è",
    "pt": "o os uma com em do da ao na são está",
    "nl": "het een met op van en de zijn naast",
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {
    word: tuple(name for name, words in _FUNCTION_WORDS.items() if word in words.split())
    for words in _FUNCTION_WORDS.values()
    for word in words.split()
}
_WORD = re.compile(r"[^\W\d_]+")


def is_refusal(text: str) -> bool:
    """Whether a text declines instead of describing.

    Examples
    --------
    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("a sorry old house")
    (True, False)
    """
    return _REFUSAL.search(text) is not None


def mood_words(text: str) -> list[str]:
    """Words of feeling in a text, in their order.

    Examples
    --------
    >>> mood_words("a gloomy house in cold light")
    ['gloomy']
    """
    return [word for word in _WORD.findall(text.lower()) if word in _MOOD]


def is_list(text: str) -> bool:
    """Whether a text only lists things: at least three short parts between commas.

    Examples
    --------
    >>> is_list("cup, chair, old clock"), is_list("a quiet home, where time stands still, waits")
    (True, False)
    """
    parts = re.split(r"\s*[,;/]\s*(?:and |or )?", text.strip(" ."))
    return len(parts) >= 3 and all(len(part.split()) <= 2 for part in parts)


def wrong_language(texts: Iterable[str], language: str = "en") -> str | None:
    """What speaks against a language, or None.

    Names a script where most letters are not Latin, else the language whose function words
    outnumber those of `language`. Texts without function words pass: "red apple" might be anything.

    Parameters
    ----------
    texts : iterable of str
        Captions, best all of an image together.
    language : {'en', 'de', 'fr', 'es', 'it', 'pt', 'nl'}
        What they should be in.
    """
    joined = " ".join(texts)
    if not joined.isascii():
        letters = [c for c in joined if c.isalpha()]
        latin = sum(c < "\u0250" or "\u1e00" <= c < "\u1f00" for c in letters)
        if latin < 0.8 * len(letters):
            return "not in Latin script"
    counts = dict.fromkeys(_FUNCTION_WORDS, 0)
    for word in _WORD.findall(joined.lower()):
        for name in _LANGUAGES_OF.get(word, ()):
            counts[name] += 1
    best = max(counts, key=lambda name: (counts[name], name == language))
    if best != language and counts[best] >= 2 and counts[best] > 1.5 * counts[language]:
        return f"looks like '{best}'"
    return None


def text_problem(text: str) -> str | None:
    """What keeps a text from being a caption, or None.

    Examples
    --------
    >>> text_problem("a red apple on a table"), text_problem("<b>apple</b>")
    (None, 'holds markup')
    """
    clean = text.strip()
    if not any(c.isalnum() for c in clean):
        return "is empty"
    if is_refusal(clean):
        return "is a refusal"
    if len(clean.split()) > MAX_WORDS:
        return f"is longer than {MAX_WORDS} words"
    if len(clean) > 12 * MAX_WORDS:
        return "is too long"
    if _MARKUP.search(clean):
        return "holds markup"
    if _SENTENCE_END.search(clean):
        return "is more than one sentence"
    if any(ord(c) < 32 and c not in "\t\n\r" for c in text):
        return "holds control characters"
    return None
