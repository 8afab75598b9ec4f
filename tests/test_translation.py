"""Translations that are there keep what they must of their originals, and say the terms as the table has them.

Nothing here looks at a page: a catalogue may be behind, or lack a translation, which `make translate` lists.
"""

import re

import pytest
from translation import Term, faults, terms

from tools import translate
from tools.languages import TRANSLATIONS
from tools.notebooks import ROOT
from tools.site import explorer
from tools.site.glossary import without_original

CATALOGUES = [
    path.relative_to(ROOT) for language in TRANSLATIONS for path in (ROOT / "locale" / language).rglob("*.po")
]
#: A language -> how a sentence ends in another register than the book's (합니다체). Questions in -까요? belong to both;
#: 필요, 중요, 개요 and 소요 are nouns.
OTHER_REGISTER = {"ko": re.compile(r"\w*(?:(?<![까필중개소])요|죠)(?=[.?!]|$)")}


def translated(path, language):
    """The messages of a catalogue that pages show: those with a translation that is not fuzzy."""
    return {m.id: m.string for m in translate.read(path, language) if m.id and m.string and not m.fuzzy}


def terms_of(language):
    return terms(ROOT / "locale" / language / "terms.csv")


@pytest.mark.parametrize("path", CATALOGUES, ids=str)
def test_a_translation_keeps_what_it_must(path):
    language = path.parts[1]
    wrong = []
    for original, translation in translated(ROOT / path, language).items():
        found = [*faults(original, translation), *OTHER_REGISTER[language].findall(translation)]
        for term in terms_of(language):
            if rendering := term.misused(original, translation):
                found.append(f"{term.english} is {term.translation}, and not {rendering}")
        wrong += [f"{fault}\n  {original}\n  {translation}" for fault in found]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_table_names_each_term_once(language):
    table = terms_of(language)
    for names in ([term.english for term in table], [term.translation for term in table]):
        assert len(names) == len(set(names))
    for term in table:
        assert not re.search(term.not_ or "(?!)", term.translation), term


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_glossary_has_terms_as_the_table_has_them(language):
    """Pages link the words before the parenthesis."""
    lines = (ROOT / "book" / "glossary.md").read_text().partition("```{glossary}")[2].splitlines()
    glossary = translated(ROOT / "locale" / language / "LC_MESSAGES" / "book" / "glossary.po", language)
    table = {term.english: term.translation for term in terms_of(language)}
    words = {term: without_original(glossary[term]) for term in glossary.keys() & {*lines}}
    assert {term: f"{table.get(term, words[term])}({term})" for term in words} == {t: glossary[t] for t in words}
    assert len({*words.values()}) == len(words)


def test_the_words_of_the_scripts_are_found():
    scripts = "".join((ROOT / "book" / "_static" / name).read_text() for name in explorer.SCRIPTS)
    assert len(explorer.words(ROOT)) == len({*re.findall(r'\b_\("([^"…]+)"', scripts)}) > 0


ORIGINAL = "**Both** of the 24 trials are in `runs`, see [Where?](a.ipynb#b), {ref}`the drawing <fig-a>` and $x^2$."
TRANSLATION = "시험 24개 중 **2개**가 `runs`에 있습니다. [어디?](a.ipynb#b)와 {ref}`그림 <fig-a>`, $x^2$을 보십시오."


def test_a_translation_may_change_order_and_words():
    assert not [*faults(ORIGINAL, TRANSLATION)]


@pytest.mark.parametrize(
    "part,instead,fault",
    [
        ("24개", "25개", "left out: 24"),
        ("`runs`", "`run`", "left out: code `runs`"),
        ("a.ipynb#b", "a.ipynb", "left out: link (a.ipynb#b)"),
        ("{ref}", "{doc}", "left out: role {ref}`fig-a`"),
        ("fig-a", "그림-a", "left out: role {ref}`fig-a`"),
        ("x^2", "x^3", "left out: formula $x^2$"),
        ("**2개**가", "**2(개)**가", "left out: **"),
        ("시험 24개", "1. 시험 24개", "added: not a paragraph"),
    ],
)
def test_what_is_lost_or_added_is_named(part, instead, fault):
    assert part in TRANSLATION
    found = [*faults(ORIGINAL, TRANSLATION.replace(part, instead))]
    assert any(one.startswith(fault) for one in found), found


def test_citations_placeholders_and_markup_are_kept():
    assert [*faults("Found by {cite:t}`a`.", "{cite}`a`가 찾았습니다.")]
    assert [*faults("{n} of {all}", "{all} 중 {m}")] == ["left out: placeholder {n}", "added: placeholder {m}"]
    assert [*faults('<a href="{}">{}</a>.', "<b>{}</b>의 절입니다.")]


def test_another_register_is_known():
    said = "끝났어요. 기다릴까요? 그렇죠! 하세요. 필요. 끝납니다."
    assert OTHER_REGISTER["ko"].findall(said) == ["끝났어요", "그렇죠", "하세요"]


def test_a_term_has_one_rendering():
    trial = Term("trial", "시험", "트라이얼|시도", "try|tried")
    assert trial.misused("Trials end.", "시도가 끝납니다.") == "시도"
    assert not trial.misused("Trials end.", "시험이 끝납니다.")
    assert not trial.misused("It is tried again, as a trial.", "다시 시도합니다.")
    assert not trial.misused("They attempt it.", "시도합니다."), "the original does not speak of trials"


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
    translate.write(path, catalogue, "ko")
    translate.write(path.with_name("gone.po"), catalogue, "ko")
    assert translate.update("ko") == [
        f"{path}: fuzzy: A whole sentence of the page.",
        f"{path}: new: Another.",
        f"{path}: removed: It goes",
        f"{path.with_name('gone.po')}: removed",
    ]
    assert translated(path, "ko") == {"It stays.": "번역입니다."}
    before = path.read_bytes()
    assert len(translate.update("ko")) == 2 and path.read_bytes() == before, "nothing has changed"
