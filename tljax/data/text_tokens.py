"""Tokens of a text by the rules of fastai, without spaCy.

Capitals, repetitions and marks of HTML become tokens of their own, and words are lower-case:

    "It is GREAT!!!!"  ->  xxbos xxmaj it is xxup great xxrep 4 !

fastai then splits words with spaCy. Here a pattern splits them: at white space, and around each
punctuation mark. As in spaCy, `n't`, `'s`, `'re`, `'ve`, `'ll`, `'d` and `'m` are tokens, and
numbers such as `3.5` stay whole. Unlike spaCy's, the pattern also splits addresses, e-mails,
abbreviations with points (`u.s.`) and emoticons, and does not split contracted words without an
apostrophe (`cannot`) or units from numbers (`10km`). Tokens that spaCy never makes are unknown to a
published vocabulary, so texts with many of these lose more of a published network's knowledge.

Source: fastai's text/core.py, `defaults.text_proc_rules`.
"""

import html
import re

from tljax.types import PADDING, UNKNOWN

START, END, FIELD = 'xxbos', 'xxeos', 'xxfld'
REPEATED, REPEATED_WORD, UPPER, CAPITAL = 'xxrep', 'xxwrep', 'xxup', 'xxmaj'
SPECIAL = (UNKNOWN, PADDING, START, END, FIELD, REPEATED, REPEATED_WORD, UPPER, CAPITAL)

# Remains of HTML and of WikiText, in this order.
_MARKS = {
    '#39;': "'", 'amp;': '&', '#146;': "'", 'nbsp;': ' ', '#36;': '$', '\\n': '\n', 'quot;': "'",
    '<br />': '\n', '\\"': '"', '<unk>': UNKNOWN, ' @.@ ': '.', ' @-@ ': '-', '...': ' …',
}  # fmt: skip
_CHARACTER_RUN = re.compile(r'(\S)\1{2,}')
_WORD_RUN = re.compile(
    r'(?:\s|^)(?P<word>\w+)\s+(?P<more>(?:(?P=word)\s+)+)(?P=word)(?P<end>\s|\W|$)'
)
_SLASHES = re.compile(r'[/#\\]')
_SPACES = re.compile(' {2,}')
_ALL_CAPITALS = re.compile(r'(?<!\S)[A-Z]+[^a-z\s]*(?!\S)')
_CAPITALISED = re.compile(r'(?<!\S)[A-Z][^A-Z\s]*(?!\S)')
_CONTRACTION = re.compile(r"(?<=[^\W\d_])(n't|['’](?:s|re|ve|ll|d|m))(?!\w)")
_TOKEN = re.compile(r"n't|['’](?:s|re|ve|ll|d|m)(?!\w)|\d+(?:[.,:]\d+)+|\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """The tokens of a text, the first of which is `xxbos`."""
    words = _CONTRACTION.sub(r' \1', marked(text))
    return [START, *_TOKEN.findall(words)]


def marked(text: str) -> str:
    """A text in lower case, with the special tokens between its words."""
    for mark, plain in _MARKS.items():
        text = text.replace(mark, plain)
    text = html.unescape(text)
    text = _CHARACTER_RUN.sub(_character_run, text)
    text = _WORD_RUN.sub(_word_run, text)
    text = _SPACES.sub(' ', _SLASHES.sub(r' \g<0> ', text))
    text = _CAPITALISED.sub(_lowered(CAPITAL), _ALL_CAPITALS.sub(_lowered(UPPER), text))
    return text.lower().strip()


def _character_run(match: re.Match[str]) -> str:
    return f' {REPEATED} {len(match[0])} {match[1]} '


def _word_run(match: re.Match[str]) -> str:
    count = len(match['more'].split()) + 2
    return f' {REPEATED_WORD} {count} {match["word"]} {match["end"]}'


def _lowered(mark: str):
    """Replaces a word by the mark and its lower case; one letter gets no mark."""
    return lambda match: (f'{mark} ' if len(match[0]) > 1 else '') + match[0].lower()
