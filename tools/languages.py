"""The languages of the book: the one that it is written in, and those that it is translated to."""

SOURCE = "en"
#: As each calls itself.
NAMES = {"en": "English", "ko": "한국어"}
#: What the page says that leads to the first one: nothing but this, and no page of Sphinx's.
TO_FIRST_PAGE = {"en": "To the first page", "ko": "첫 페이지로"}
TRANSLATIONS = [language for language in NAMES if language != SOURCE]


def folder(language: str) -> str:
    """Below the first page's."""
    return "" if language == SOURCE else f"{language}/"
