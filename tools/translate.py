"""Bring the catalogues up to date with the pages, and list what is to be translated: `make translate` calls this."""

import re
import subprocess
import sys
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import yaml
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from async_hpo.language import IN_FIGURES, IN_TABLES, NUMBER
from tools.build import LOCALE, output
from tools.languages import SOURCE, TRANSLATIONS
from tools.notebooks import code_cells, notebooks
from tools.notebooks import read as read_notebook
from tools.site import explorer
from tools.translated import remarks

TEMPLATES = output("gettext", SOURCE)
#: All that gettext has to know of a catalogue, and no dates: it changes where its messages do.
HEADER = 'msgid ""\nmsgstr ""\n"Language: {}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'


def catalogue_of(language: str, template: Path) -> Path:
    return LOCALE / language / "LC_MESSAGES" / template.relative_to(TEMPLATES).with_suffix(".po")


def read(path: Path, language: str) -> Catalog:
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def write(path: Path, catalogue: Catalog, language: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(HEADER.format(language).encode())
        write_po(file, catalogue, width=0, omit_header=True, no_location=True, ignore_obsolete=True)


def update(language: str) -> list[str]:
    """Renew all catalogues of a language; what of each is to be translated, or looked at, a line a message."""
    to_do = []
    templates = {catalogue_of(language, template): template for template in sorted(TEMPLATES.rglob("*.pot"))}
    for path, template in templates.items():
        catalogue = read(path, language)
        catalogue.update(read(template, SOURCE))
        for message in catalogue:
            if message.id and (message.fuzzy or not message.string):
                to_do.append(f"{path}: {'fuzzy' if message.fuzzy else 'new'}: {message.id}")
        to_do += [f"{path}: removed: {message.id}" for message in catalogue.obsolete.values()]
        write(path, catalogue, language)
    # A page's catalogue is in a folder. Those beside the folders are the site's own, and others' corrected.
    for path in sorted((LOCALE / language / "LC_MESSAGES").glob("*/**/*.po")):
        if path not in templates:
            path.unlink()
            to_do.append(f"{path}: removed")
    return to_do


def words_of_the_site() -> Catalog:
    """Texts that Sphinx's builder doesn't look at: title and author, and `_(...)` in extension and scripts."""
    settings = yaml.safe_load(Path("_config.yml").read_text("utf-8"))
    texts = [settings["title"], settings["author"]]
    for module in sorted(Path("tools", "site").glob("*.py")):
        texts += [text for _line, text, *_rest in extract_from_file("python", module, explorer.KEYWORDS)]
    return catalogue_with([*texts, *explorer.words(Path())])


def messages_of_the_package() -> Catalog:
    modules = sorted(Path("async_hpo").rglob("*.py"))
    found = [message for module in modules for message in extract_from_file("python", module, {"_": (1,)})]
    return catalogue_with(text for _line, text, *_rest in found if isinstance(text, str))


def words_of_figures() -> Catalog:
    """And of tables, as far as the pages show them."""
    texts: list[str] = []
    shown = [figure.read_text("utf-8") for figure in sorted(Path("book", "_static").glob("*.svg"))]
    for path in notebooks():
        outputs = [one.get("data", {}) for cell in code_cells(read_notebook(path)) for one in cell.outputs]
        shown += [data.get(kind, "") for data in outputs for kind in ("image/svg+xml", "text/html")]
    for parts in (IN_FIGURES, IN_TABLES):
        texts += [NUMBER.sub("{}", unescape(text).strip()) for one in shown for _tag, text, _end in parts.findall(one)]
    names = r"\w*_\w*"
    return catalogue_with(text for text in texts if re.search("[A-Za-z]{2}", text) and not re.fullmatch(names, text))


def remarks_in_code() -> Catalog:
    """Comments and docstrings of the notebooks and recipes."""
    codes = [cell.source for path in notebooks() for cell in code_cells(read_notebook(path))]
    codes += [recipe.read_text("utf-8") for recipe in sorted(Path("recipes").glob("*.py"))]
    return catalogue_with(NUMBER.sub("{}", text) for code in codes for _begin, _end, text in remarks(code))


def catalogue_with(texts: Iterable[str]) -> Catalog:
    found = Catalog()
    for text in texts:
        found.add(text)
    return found


def main() -> None:
    for template in TEMPLATES.rglob("*.pot"):
        template.unlink()  # its page may be no more
    subprocess.run([sys.executable, "-m", "tools.build", "gettext", SOURCE], check=True)
    for name, found in {
        "site": words_of_the_site(),
        "async_hpo": messages_of_the_package(),
        "figures": words_of_figures(),
        "code": remarks_in_code(),
    }.items():
        write(TEMPLATES / f"{name}.pot", found, SOURCE)
    for language in TRANSLATIONS:
        to_do = update(language)
        print("\n".join(to_do) or f"{language}: all is translated.")


if __name__ == "__main__":
    main()
