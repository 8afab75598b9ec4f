"""What a translated message must keep of its original, and which terms it may use: the tests hold all to it."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

#: A language -> its letters.
LETTERS = {"ko": re.compile("[가-힣]")}
WORD = re.compile(r"[^\W\d_]{2,}")
#: Digits, but not those of a name such as D2L.
NUMBER = re.compile(r"(?<![A-Za-z_\d.])\d+(?:[.,]\d+)*")
PLACEHOLDER = re.compile(r"\{\w*\}|%\(\w+\)s")


def counted(words: str, first: int = 1, step: int = 1) -> dict[str, int]:
    return {word: first + step * position for position, word in enumerate(re.findall(r"\w+", words))}


#: Numbers that English has a word for: a translation may write them in digits.
NUMERALS = {
    **counted("zero one two three four five six seven eight nine ten eleven twelve", first=0),
    **counted("thirteen fourteen fifteen sixteen seventeen eighteen nineteen", first=13),
    **counted("twenty thirty forty fifty sixty seventy eighty ninety", first=20, step=10),
    **counted("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"),
    **counted("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth", first=20, step=10),
    **counted("january february march april may june july august september october november december"),
    **dict.fromkeys(["a", "an", "another", "each", "once", "single"], 1),
    **dict.fromkeys(["both", "double", "half", "halves", "pair", "twice"], 2),
    **{"quarter": 4, "dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000},
}
#: Words that a message may consist of in any language.
NAMES = {
    *("ASHA", "BOTorch", "CPU", "CPUs", "DropoutMLP", "Fashion", "GPU", "GPUs", "LeNet", "MB", "MNIST", "NumPy"),
    *("Dive", "into", "Deep", "Learning", "Optuna", "PyTorch", "Python", "Ray", "Slurm", "Syne", "Tune"),
}


@cache
def parser() -> MarkdownIt:
    config = MdParserConfig(enable_extensions={"dollarmath", "linkify"})
    return create_md_parser(config, RendererHTML)


def parts(text: str) -> tuple[Counter[str], str]:
    """What of a message is the same in all languages, and the words around it."""
    blocks = parser().parse(text)
    kinds = [block.type for block in blocks if block.nesting >= 0 and block.type != "inline"]
    found: Counter[str] = Counter()
    if kinds != ["paragraph_open"]:
        found[f"not a paragraph: {', '.join(kinds)}"] += 1
    words = []
    for block in blocks:
        for token in block.children or []:
            if token.type == "text":
                words.append(token.content)
            elif named := part(token):
                found[named] += 1
                words.append(shown(token))
    prose = " ".join(words)
    found.update(f"placeholder {name}" for name in PLACEHOLDER.findall(prose))
    return found, prose


def part(token: Token) -> str:
    match token.type:
        case "code_inline":
            return f"code `{token.content}`"
        case "math_inline":
            return f"formula ${token.content}$"
        case "myst_role":
            return f"role {{{token.meta['name']}}}`{target(token.content)}`"
        case "link_open":
            return f"link ({token.attrs['href']})"
        case "strong_open" | "em_open" | "html_inline":
            return {"strong_open": "**", "em_open": "*"}.get(token.type, token.content)
    return ""


def target(content: str) -> str:
    """Of a role's content, `target` or `text <target>`, what is no text."""
    found = re.search(r"<([^<>]+)>$", content)
    return found[1] if found else content


def shown(token: Token) -> str:
    return token.content.partition("<")[0] if token.type == "myst_role" and "<" in token.content else ""


def faults(original: str, translation: str, language: str) -> Iterator[str]:
    """What is wrong with a translation, one line each."""
    if not translation:
        yield "missing"
        return
    (there, words), (here, prose) = parts(original), parts(translation)
    yield from (f"left out: {name}" for name in (there - here).elements())
    yield from (f"added: {name}" for name in (here - there).elements())
    yield from numbers_off(words, prose)
    if not LETTERS[language].search(prose) and not {*WORD.findall(words)} <= NAMES:
        yield "not translated"


def numbers_off(words: str, prose: str) -> Iterator[str]:
    there, here = Counter(NUMBER.findall(words)), Counter(NUMBER.findall(prose))
    yield from (f"left out: {number}" for number in (there - here).elements())
    spelled = [numerals(word) for word in re.findall(r"[a-z]+(?:-[a-z]+)?", words.lower())]
    allowed = {str(number) for numbers in spelled for number in numbers}
    yield from (f"added: {number}" for number in (here - there).elements() if number not in allowed)


def numerals(word: str) -> list[int]:
    """The numbers that a word says: twenty-four is 24, and a fifth, as well as two of them, has to do with 5."""
    parts = [one if one in NUMERALS else one.removesuffix("s") for one in word.split("-")]
    known = [NUMERALS[part] for part in parts if part in NUMERALS]
    return [*known, sum(known)]


@dataclass(frozen=True)
class Term:
    english: str
    translation: str
    not_: str  # renderings that are taken for it, as a pattern
    unless: str  # words of the original for which they are right, as a pattern
    original: bool  # whether a page's first use gives the English word, too

    def misused(self, original: str, translation: str) -> str:
        """A rendering that is none, where there is one."""
        meant = re.search(rf"(?i)\b(?:{self.english})(?:s|d|ed)?\b", original)
        excused = self.unless and re.search(rf"(?i)\b(?:{self.unless})", original)
        found = re.search(self.not_, translation) if self.not_ and meant and not excused else None
        return found[0] if found else ""


def terms(table: Path) -> list[Term]:
    with table.open(encoding="utf-8", newline="") as file:
        return [
            Term(row["english"], row["translation"], row["not"], row["unless"], row["original"] == "yes")
            for row in csv.DictReader(file)
        ]
