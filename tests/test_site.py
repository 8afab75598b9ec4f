"""What the book's Sphinx extension makes, without building a book."""

import re
from datetime import date
from types import SimpleNamespace

import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from sphinx import addnodes

from tools.notebooks import ROOT
from tools.site import citation, formulas, glossary, icons, korean, stamp, theme, ways_in

TERMS = {term: term for term in ("trial", "idle", "idle share", "order")}
KOREAN = {"시험": "trial", "유휴": "idle", "유휴 비율": "idle share", "동기식": "synchronous", "보고": "report"}


def linked(*paragraphs, terms=TERMS, page="a", language="en"):
    """The terms that text links to, and the text as it is shown."""
    document = new_document("")
    document += list(paragraphs)
    config = SimpleNamespace(glossary_terms=terms, language=language)
    app = SimpleNamespace(env=SimpleNamespace(docname=page), config=config)
    glossary.link_terms(app, document)
    links = [(link.astext(), link["reftarget"]) for link in document.findall(addnodes.pending_xref)]
    return links, document.astext()


def paragraph(*parts):
    node = nodes.paragraph()
    node += [nodes.Text(part) if isinstance(part, str) else part for part in parts]
    return node


def test_the_first_use_of_a_term_is_linked_and_no_other():
    words = "Trials end. The next trial has an idle share, and is idle."
    links, shown = linked(paragraph(words), paragraph("A trial."))
    assert links == [("Trials", "trial"), ("idle share", "idle share"), ("idle", "idle")]
    assert shown == f"{words}\n\nA trial."


@pytest.mark.parametrize(
    "part",
    [
        nodes.literal("", "trial"),
        nodes.reference("", "trial", refuri="x.html"),
        "industrial",
        "trial_id",
        "book/trial",
        "in any order",
    ],
    ids=str,
)
def test_what_is_code_a_link_or_another_word_is_left_alone(part):
    assert linked(paragraph("The ", part, "."))[0] == []


def test_particles_follow_a_korean_term_and_other_syllables_do_not():
    words = "시험지와 비동기식은 아닙니다. 시험(trial)들은 유휴 비율이, 시험마다 유휴입니다. 동기식으로 보고 있습니다."
    links, shown = linked(paragraph(words), terms=KOREAN, language="ko")
    assert links == [("시험", "trial"), ("유휴 비율", "idle share"), ("유휴", "idle"), ("동기식", "synchronous")]
    assert shown == words


def test_korean_search_knows_beginnings_and_names():
    words = korean.SearchKorean({}).split("낙오자를 DropoutMLP는 0.5초")
    assert {"낙오", "낙오자", "낙오자를", "DropoutMLP", "초"} <= {*words} and "DropoutMLP는" not in words
    typed = re.compile(f"^([가-힣]{{2,}}?){korean.ENDING}$")  # as the script has it
    assert [typed.sub(r"\1", word) for word in ("낙오자는", "낙오자", "시험들을", "평가")] == [
        "낙오자",
        "낙오자",
        "시험",
        "평가",
    ]


def test_headings_and_the_glossary_itself_are_left_alone():
    title = nodes.title("", "Trials")
    assert linked(title, paragraph("A trial."))[0] == [("trial", "trial")]
    assert linked(paragraph("A trial."), page=glossary.PAGE)[0] == []


def test_the_glossary_is_in_order_and_its_everyday_words_are_terms():
    app, config = SimpleNamespace(srcdir=ROOT), SimpleNamespace(external_site_map={glossary.PAGE: None}, language="en")
    glossary.read_terms(app, config)
    terms = [*config.glossary_terms]
    assert len(terms) > 25 and terms == sorted(terms) == [*config.glossary_terms.values()]
    assert {*terms} >= glossary.EVERYDAY


def test_a_stamp_says_what_is_known():
    assert stamp.words({"seconds": 42}) == "These outputs were made in 42 s."
    kept = {"seconds": 243, "date": "2026-11-09", "versions": {"Python": "3.13.1", "PyTorch": "2.14.1"}}
    assert (
        stamp.words(kept)
        == "These outputs were made on 9 November 2026 in 4 min 3 s, with Python 3.13.1, PyTorch 2.14.1."
    )
    assert stamp.spelled_out(date(2026, 11, 9), "ko") == "2026년 11월 9일"


def test_a_formula_is_as_large_as_its_text_and_has_a_name():
    glyphs: set[str] = set()
    picture, again = (formulas.drawn(nodes.math("", r"\frac{a}{b} < 1"), glyphs, in_line=True) for _ in range(2))
    assert 'role="img" aria-label="\\frac{a}{b} &lt; 1" style="width:' in picture and "em;vertical-align:-" in picture
    assert 'fill="currentColor"' in picture and "black" not in picture
    letters = re.findall('<symbol id="(.*?)"', picture)
    assert len(letters) >= 4 and "<symbol" not in again, "a page defines each letter once"
    assert {*re.findall('<use href="#(.*?)"', again)} == {*letters}


def test_a_formula_is_read_out_without_what_only_says_how_it_looks():
    heard = formulas.heard(r"\displaystyle\frac{\mathrm{E}[\max(T_1,\dots,T_K)]}{\mathrm{E}[T]}")
    assert heard == r"\frac{E[\max(T_1,\dots,T_K)]}{E[T]}"


def test_icons_are_found_by_their_names_and_by_older_ones():
    script = (
        'var a={house:[576,512,[127968,"home","home-alt"],"f015","M1 2"],"angle-left":[256,512,[8249],"f104","M3 4"]}'
    )
    assert "M1%202" in icons.rule("house", script) and "M1%202" in icons.rule("home-alt", script)
    assert "M3%204" in icons.rule("angle-left", script)
    with pytest.raises(icons.ExtensionError, match="no icon named tent"):
        icons.rule("tent", script)


def test_the_repository_of_github_actions(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert ways_in.from_github_actions() == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/a-book")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.org")
    assert ways_in.from_github_actions() == "https://git.example.org/someone/a-book"


def test_codespaces_is_one_of_the_launch_buttons_and_of_no_others():
    config = SimpleNamespace(html_baseurl="", book_address="", book_repository="https://github.com/someone/a-book")
    groups = [{"label": label, "buttons": []} for label in ("download-buttons", "launch-buttons", "source-buttons")]
    ways_in.add_addresses(SimpleNamespace(config=config), "page", "page.html", {"header_buttons": groups}, None)
    (button,) = groups[1]["buttons"]
    assert button["url"] == "https://codespaces.new/someone/a-book?quickstart=1"
    assert not groups[0]["buttons"] and not groups[2]["buttons"]


def test_how_to_cite():
    cited = yaml.safe_load((ROOT / citation.FILE).read_text())
    text = citation.bibtex(cited, "https://github.com/someone/a-book")
    assert "title = {{Asynchronous Random Search: an executable chapter}}" in text and "year = {2026}" in text
    people = cited | {
        "authors": [{"family-names": "Doe", "given-names": "J."}, {"family-names": "Roe", "given-names": "R."}]
    }
    assert "author = {Doe, J. and Roe, R.}" in citation.bibtex(people, "") and "url" not in citation.bibtex(people, "")


def test_rules_of_components_that_no_page_uses_go():
    sheet = ".toast{a:b}.toast,p{c:d}@media print{.toast-x:hover,.list-group>a{e:f}.card{g:h}}"
    assert theme.without_components(sheet, {"toast", "list-group"}) == ".toast,p{c:d}@media print{.card{g:h}}"
    assert theme.without_components(sheet, set()) == sheet
