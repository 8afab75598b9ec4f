"""What a translation must keep of its original, and how it may say a term."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

#: A language -> its letters.
LETTERS = {"ko": re.compile("[가-힣]")}
#: Digits, but not those of a name such as D2L.
NUMBER = re.compile(r"(?<![A-Za-z_\d.])\d+(?:[.,]\d+)*")
PLACEHOLDER = re.compile(r"\{\w*\}|%\(\w+\)s")


@cache
def parser() -> MarkdownIt:
    config = MdParserConfig(enable_extensions={"dollarmath", "linkify"})
    return create_md_parser(config, RendererHTML)


def kept(text: str) -> Counter[str]:
    """What of a message is the same in all languages."""
    blocks = parser().parse(text)
    kinds = [block.type for block in blocks if block.nesting >= 0 and block.type != "inline"]
    found = Counter([] if kinds == ["paragraph_open"] else [f"not a paragraph: {', '.join(kinds)}"])
    for block in blocks:
        for token in block.children or []:
            found.update(part(token))
    return found


def part(token: Token) -> Iterator[str]:
    match token.type:
        case "text":
            yield from (f"placeholder {name}" for name in PLACEHOLDER.findall(token.content))
        case "code_inline":
            yield f"code `{token.content}`"
        case "math_inline":
            yield f"formula ${token.content}$"
        case "myst_role":
            target = re.search(r"<([^<>]+)>$", token.content)  # of `text <target>`
            yield f"role {{{token.meta['name']}}}`{target[1] if target else token.content}`"
        case "link_open":
            yield f"link ({token.attrs['href']})"
        case "strong_open" | "em_open":
            yield token.markup
        case "html_inline":
            yield token.content


def faults(original: str, translation: str) -> Iterator[str]:
    """What is wrong with a translation, one line each."""
    there, here = kept(original), kept(translation)
    yield from (f"left out: {name}" for name in (there - here).elements())
    yield from (f"added: {name}" for name in (here - there).elements())
    # English may spell a number that a translation writes in digits.
    digits = Counter(NUMBER.findall(original)) - Counter(NUMBER.findall(translation))
    yield from (f"left out: {number}" for number in digits.elements())


class Term(NamedTuple):
    english: str
    translation: str
    not_: str  # renderings that are taken for it, as a pattern
    unless: str  # words of the original for which they are right, as a pattern

    def misused(self, original: str, translation: str) -> str:
        """A rendering that is none, where there is one."""
        meant = re.search(rf"(?i)\b(?:{self.english})(?:s|d|ed)?\b", original)
        excused = self.unless and re.search(rf"(?i)\b(?:{self.unless})", original)
        found = re.search(self.not_, translation) if self.not_ and meant and not excused else None
        return found[0] if found else ""


def terms(table: Path) -> list[Term]:
    with table.open(encoding="utf-8", newline="") as file:
        return [Term(row["english"], row["translation"], row["not"], row["unless"]) for row in csv.DictReader(file)]
