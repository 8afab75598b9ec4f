"""Translations that are there keep what they must of their originals, and say the terms as the table has them.

Nothing here looks at a page: a catalogue may be behind, or lack a translation, which `make translate` lists.
"""

import csv
import re
from collections import Counter
from functools import cache
from typing import NamedTuple

import pytest
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from tools import translate
from tools.languages import TRANSLATIONS
from tools.notebooks import ROOT
from tools.site.glossary import without_original

CATALOGUES = [
    path.relative_to(ROOT) for language in TRANSLATIONS for path in (ROOT / "locale" / language).rglob("*.po")
]
#: Digits, but not those of a name such as D2L.
NUMBER = re.compile(r"(?<![A-Za-z_\d.])\d+(?:[.,]\d+)*")
NUMBERED = re.compile(r"\{\d\}")  # where the order differs
PLACEHOLDER = re.compile(r"\{\w*\}|%\(\w+\)s")


@cache
def parser():
    return create_md_parser(MdParserConfig(enable_extensions={"dollarmath", "linkify"}), RendererHTML)


def kept(text):
    """The parts of a message that are the same in all languages."""
    blocks = parser().parse(text)
    found = Counter(block.type for block in blocks if block.nesting >= 0)
    for token in (token for block in blocks for token in block.children or []):
        match token.type:
            case "text":
                found.update(f"placeholder {name}" for name in PLACEHOLDER.findall(NUMBERED.sub("{}", token.content)))
            case "myst_role":
                target = re.search(r"<([^<>]+)>$", token.content)  # of `text <target>`
                found[f"role {{{token.meta['name']}}}`{target[1] if target else token.content}`"] += 1
            case "link_open":
                found[f"link ({token.attrs['href']})"] += 1
            case "code_inline" | "math_inline" | "html_inline" | "strong_open" | "em_open":
                found[f"{token.type.partition('_')[0]} {token.content or token.markup}"] += 1
    return found


def faults(original, translation):
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

    def misused(self, original, translation):
        """A rendering that is none, where there is one."""
        meant = re.search(rf"(?i)\b(?:{self.english})(?:s|d|ed)?\b", original)
        excused = self.unless and re.search(rf"(?i)\b(?:{self.unless})", original)
        found = re.search(self.not_, translation) if self.not_ and meant and not excused else None
        return found[0] if found else ""


@cache
def terms_of(language):
    with (ROOT / "locale" / language / "terms.csv").open(encoding="utf-8", newline="") as file:
        return [Term(*row[:4]) for row in list(csv.reader(file))[1:]]


def translated(path, language):
    """The messages of a catalogue that pages show: those with a translation that is not fuzzy."""
    return {m.id: m.string for m in translate.read(path, language) if m.id and m.string and not m.fuzzy}


@pytest.mark.parametrize("path", CATALOGUES, ids=str)
def test_a_translation_keeps_what_it_must(path):
    language = path.parts[1]
    wrong = []
    for original, translation in translated(ROOT / path, language).items():
        misused = ((term, term.misused(original, translation)) for term in terms_of(language))
        found = [f"{term.english} is {term.translation}, and not {words}" for term, words in misused if words]
        wrong += [f"{fault}\n  {original}\n  {translation}" for fault in [*faults(original, translation), *found]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_glossary_has_terms_as_the_table_has_them_and_each_once(language):
    """Pages link the words before the parenthesis."""
    table = {term.english: term.translation for term in terms_of(language)}
    assert len({*table.values()}) == len(terms_of(language))
    lines = (ROOT / "book" / "glossary.md").read_text().partition("```{glossary}")[2].splitlines()
    glossary = translated(ROOT / "locale" / language / "LC_MESSAGES" / "book" / "glossary.po", language)
    words = {term: without_original(glossary[term]) for term in glossary.keys() & {*lines}}
    assert {term: f"{table.get(term, words[term])}({term})" for term in words} == {t: glossary[t] for t in words}
    assert len({*words.values()}) == len(words)


ORIGINAL = "**Both** of the 24 trials are in `runs`, see [Where?](a.ipynb#b), {ref}`that <fig-a>`, {n} and $x^2$."
TRANSLATION = "시험 24개 중 **2개**가 `runs`에 있습니다. [어디?](a.ipynb#b)와 {ref}`그림 <fig-a>`, {n}, $x^2$."


@pytest.mark.parametrize(
    "part,instead,fault",
    [
        ("24개", "24개", None),
        ("24개", "25개", "left out: 24"),
        ("`runs`", "`run`", "left out: code runs"),
        ("a.ipynb#b", "a.ipynb", "left out: link (a.ipynb#b)"),
        ("fig-a", "그림-a", "left out: role {ref}`fig-a`"),
        ("x^2", "x^3", "left out: math x^2"),
        ("{n}", "{m}", "left out: placeholder {n}"),
        ("**2개**가", "**2(개)**가", "left out: strong **"),
        ("시험 24개", "1. 시험 24개", "added: ordered_list_open"),
    ],
)
def test_what_is_lost_or_added_is_named(part, instead, fault):
    assert part in TRANSLATION
    found = [*faults(ORIGINAL, TRANSLATION.replace(part, instead))]
    assert fault in found if fault else not found


def test_a_term_has_one_rendering():
    misused = Term("trial", "시험", "트라이얼|시도", "try|tried").misused
    assert misused("Trials end.", "시도가 끝납니다.") == "시도"
    assert not misused("Trials end.", "시험이 끝납니다.")
    assert not misused("It is tried again, as a trial.", "다시 시도합니다.")


def test_what_is_new_fuzzy_or_removed_is_listed_and_what_is_translated_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "TEMPLATES", tmp_path / "pot")
    monkeypatch.setattr(translate, "LOCALE", tmp_path / "locale")
    template, catalogue = translate.Catalog(), translate.Catalog(locale="ko")
    for text in ("It stays.", "A whole sentence of the page.", "Another."):
        template.add(text)
    for text in ("It stays.", "A whole sentence of a page.", "It goes"):
        catalogue.add(text, "번역입니다.")
    translate.write(tmp_path / "pot" / "book" / "page.pot", template, "en")
    path = translate.catalogue_of("ko", tmp_path / "pot" / "book" / "page.pot")
    for name in ("page.po", "gone.po"):
        translate.write(path.with_name(name), catalogue, "ko")
    assert translate.update("ko") == [
        f"{path}: fuzzy: A whole sentence of the page.",
        f"{path}: new: Another.",
        f"{path}: removed: It goes",
        f"{path.with_name('gone.po')}: removed",
    ]
    assert translated(path, "ko") == {"It stays.": "번역입니다."}
    before = path.read_bytes()
    assert len(translate.update("ko")) == 2 and path.read_bytes() == before, "nothing has changed"
