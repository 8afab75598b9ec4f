"""Every message is translated, keeps what it must, and says the terms as the table has them."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml

from tools import translate
from tools.languages import TRANSLATIONS
from tools.notebooks import ROOT, read
from tools.site import explorer
from tools.site.glossary import without_original
from tools.translation import Term, faults, terms

CATALOGUES = [
    path.relative_to(ROOT) for language in TRANSLATIONS for path in (ROOT / "locale" / language).rglob("*.po")
]
PAGES = [path for path in CATALOGUES if path.parent.name != "LC_MESSAGES"]


def language_of(path):
    return path.parts[1]


def messages_of(path):
    return [message for message in translate.read(ROOT / path, language_of(path)) if message.id]


def terms_of(language):
    return terms(ROOT / "locale" / language / "terms.csv")


def wrong_with(message, language):
    """What is wrong with a translated message, one line each."""
    if message.fuzzy:
        yield "fuzzy: the original has changed"
    yield from faults(message.id, message.string, language)
    for term in terms_of(language):
        if rendering := term.misused(message.id, message.string):
            yield f"{term.english} is {term.translation}, and not {rendering}"


@pytest.mark.parametrize("path", CATALOGUES, ids=str)
def test_all_is_translated_and_keeps_what_it_must(path):
    wrong = [
        f"{fault}\n  {message.id}\n  {message.string}"
        for message in messages_of(path)
        for fault in wrong_with(message, language_of(path))
    ]
    assert not wrong, "\n".join(wrong)


#: A language -> how a sentence ends in another register than the book's (합니다체). Questions in -까요? belong to both;
#: 필요, 중요, 개요 and 소요 are nouns.
OTHER_REGISTER = {"ko": re.compile(r"\w*(?:(?<![까필중개소])요|죠)(?=[.?!]|$)")}


@pytest.mark.parametrize("path", CATALOGUES, ids=str)
def test_one_register_is_kept(path):
    other = OTHER_REGISTER[language_of(path)]
    assert not [found for message in messages_of(path) for found in other.findall(message.string)]


def test_another_register_is_known():
    said = "끝났어요. 기다릴까요? 그렇죠! 하세요. 필요. 끝납니다."
    assert OTHER_REGISTER["ko"].findall(said) == ["끝났어요", "그렇죠", "하세요"]


LINK = re.compile(r"\[([^\]]+)\]\(([^)]*)\)")


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_a_page_gives_the_original_of_a_term_once(path):
    """It need not where only another page's title says the term."""
    text = "\n".join(message.string for message in messages_of(path)).replace("*", "")
    titles = titles_in(language_of(path)).values()
    prose = LINK.sub(lambda link: "" if link[1] in titles else link[0], text)
    wrong = {}
    for term in terms_of(language_of(path)) if path.stem != "glossary" else []:
        given = len(re.findall(rf"(?<!\w){term.translation}\({term.english}", text))
        used = bool(re.search(rf"(?<!\w){term.translation}", prose))
        if not (term.original and used) <= given <= term.original:
            wrong[term.translation] = given
    assert not wrong


def title_of(page):
    """The first heading of a catalogue's page."""
    source = ROOT / page.relative_to(Path(*page.parts[:3])).with_suffix(".md")
    text = source.read_text() if source.exists() else read(source.with_suffix(".ipynb")).cells[0].source
    return re.search(r"(?m)^# (.*)", text)[1]


@cache
def titles_in(language):
    """Title -> its translation."""
    found = {}
    for page in PAGES:
        if language_of(page) == language:
            title = title_of(page)
            found[title] = next(message.string for message in messages_of(page) if message.id == title)
    return found


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_link_that_bears_a_page_s_title_does_so_in_both_languages(language):
    pages = {page: messages_of(page) for page in PAGES if language_of(page) == language}
    titles = titles_in(language)
    wrong = [
        (page.stem, text, translated)
        for page in pages
        for message in pages[page]
        for text, address in LINK.findall(message.id)
        if (translated := titles.get(text)) and (translated, address) not in LINK.findall(message.string)
    ]
    assert len(titles) > 15 and not wrong


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_glossary_has_each_term_once_and_as_the_table_has_it(language):
    glossary = {m.id: m.string for m in messages_of(Path("locale", language, "LC_MESSAGES", "book", "glossary.po"))}
    source = (ROOT / "book" / "glossary.md").read_text().partition("```{glossary}")[2]
    named = {line: glossary[line] for line in source.splitlines() if line in glossary}
    assert len(named) > 25
    for term, rendering in named.items():
        assert re.fullmatch(rf"[^()]+\({term}\)", rendering), rendering
    once = Counter(map(without_original, named.values()))
    assert set(once.values()) == {1}, once
    table = {term.english: term.translation for term in terms_of(language)}
    assert {**named, **{t: f"{table[t]}({t})" for t in named.keys() & table.keys()}} == named


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_table_names_each_term_once(language):
    table = terms_of(language)
    for names in ([term.english for term in table], [term.translation for term in table]):
        assert len(names) == len(set(names))
    for term in table:
        assert not re.search(term.not_ or "(?!)", term.translation), term


def test_the_catalogues_are_those_of_the_pages_as_they_are(monkeypatch):
    monkeypatch.chdir(ROOT)
    translate.make_templates()
    assert not [text for language in TRANSLATIONS for text in translate.stale(language)], "make translate"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_readme_says_the_same(language):
    original = (ROOT / "README.md").read_text().partition("## All commands")[0]
    translated = (ROOT / f"README.{language}.md").read_text()
    for pattern in (r"`[^`]+`", r"\d+(?:[.,]\d+)*", r"\]\((?!README)([^)]*)\)"):
        assert Counter(re.findall(pattern, original)) == Counter(re.findall(pattern, translated))


def test_the_title_is_translated():
    title = yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
    assert title in {message.id for message in translate.words_of_the_site()}


def test_all_words_of_the_scripts_are_found(monkeypatch):
    monkeypatch.chdir(ROOT)
    calls = sum(len(re.findall(r'\b_\("', (ROOT / "book" / "_static" / name).read_text())) for name in explorer.SCRIPTS)
    found = explorer.words(ROOT)
    assert len(found) > 30 and {"Time", "Play", "{number}\u00a0s"} <= {*found}
    assert calls >= len(found) >= calls - 3, "some words are said twice"


ORIGINAL = (
    "**Two** fifths of the 24 trials are in `runs`, see [Where?](a.ipynb#b), {ref}`the drawing <fig-a>` and $x^2$."
)
TRANSLATION = "시험 24개의 **5분의 2**가 `runs`에 있습니다. [어디?](a.ipynb#b)와 {ref}`그림 <fig-a>`, $x^2$을 보십시오."


def test_a_translation_may_change_order_and_words():
    assert not list(faults(ORIGINAL, TRANSLATION, "ko"))
    assert not list(faults("`lr`", "`lr`", "ko")) and not list(faults("0.95", "0.95", "ko"))
    assert not list(faults("Ray Tune", "Ray Tune", "ko")) and not list(faults("twenty-four trials", "시험 24개", "ko"))


@pytest.mark.parametrize(
    "part,instead,fault",
    [
        ("24개", "25개", "left out: 24"),
        ("24개", "24개 중 7개", "added: 7"),
        ("5분의 2", "6분의 2", "added: 6"),
        ("`runs`", "`run`", "left out: code `runs`"),
        ("`runs`", "실행 목록", "left out: code `runs`"),
        ("a.ipynb#b", "a.ipynb", "left out: link (a.ipynb#b)"),
        ("{ref}", "{doc}", "left out: role {ref}`fig-a`"),
        ("fig-a", "그림-a", "left out: role {ref}`fig-a`"),
        ("x^2", "x^3", "left out: formula $x^2$"),
        ("**5분의 2**가", "**5분의 (2)**가", "left out: **"),
        ("**5분의 2**", "5분의 2", "left out: **"),
        ("시험 24개", "1. 시험 24개", "added: not a paragraph"),
        (TRANSLATION, ORIGINAL, "not translated"),
        (TRANSLATION, "", "missing"),
    ],
)
def test_what_is_lost_or_added_is_named(part, instead, fault):
    assert part in TRANSLATION
    found = list(faults(ORIGINAL, TRANSLATION.replace(part, instead), "ko"))
    assert any(one.startswith(fault) for one in found), found


def test_citations_placeholders_and_markup_are_kept():
    assert list(faults("Found by {cite:t}`a`.", "{cite}`a`가 찾았습니다.", "ko"))
    assert list(faults("{finished} of {all}", "{all} 중 {done}", "ko"))
    assert list(faults('<a href="{}">{}</a>.', "<b>{}</b>의 절입니다.", "ko"))


def test_a_term_has_one_rendering():
    trial = Term("trial", "시험", "트라이얼|시도", "try|tried", True)
    assert trial.misused("Trials end.", "시도가 끝납니다.") == "시도"
    assert not trial.misused("Trials end.", "시험이 끝납니다.")
    assert not trial.misused("It is tried again, as a trial.", "다시 시도합니다.")
    assert not trial.misused("They attempt it.", "시도합니다."), "the original does not speak of trials"


def test_what_is_fuzzy_or_stale_is_named(tmp_path, monkeypatch):
    template, catalogue = translate.Catalog(), translate.Catalog(locale="ko")
    for text in ("A whole sentence of the page.", "Another."):
        template.add(text)
    catalogue.add("A whole sentence of a page.", "페이지의 문장입니다.")
    monkeypatch.setattr(translate, "TEMPLATES", tmp_path / "pot")
    monkeypatch.setattr(translate, "LOCALE", tmp_path / "locale")
    translate.write(tmp_path / "pot" / "page.pot", template, "en")
    path = translate.catalogue_of("ko", tmp_path / "pot" / "page.pot")
    translate.write(path, catalogue, "ko")
    assert len(translate.stale("ko")) == 3
    to_do = translate.update("ko")
    assert [line.split(": ")[1] for line in to_do] == ["fuzzy", "new"] and not translate.stale("ko")
    changed, new = (message for message in translate.read(path, "ko") if message.id)
    assert next(wrong_with(changed, "ko")).startswith("fuzzy") and [*wrong_with(new, "ko")] == ["missing"]
    before = path.read_bytes()
    translate.update("ko")
    assert path.read_bytes() == before, "nothing has changed"
