"""The languages of the book: the one that it is written in, and those that it is translated to."""

SOURCE = "en"
#: As each calls itself.
NAMES = {"en": "English", "ko": "한국어"}
#: The text of the redirect page at the book's root, which Sphinx does not build.
TO_FIRST_PAGE = {"en": "To the first page", "ko": "첫 페이지로"}
#: What a notebook's line says that asks for its language.
SPEAKING = {"ko": "그림, 표, 메시지를 한국어로 보여 줍니다"}
TRANSLATIONS = [language for language in NAMES if language != SOURCE]


def folder(language: str) -> str:
    """Of its pages, below the folder of the original's."""
    return "" if language == SOURCE else f"{language}/"
