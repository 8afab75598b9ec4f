"""What is particular to Korean: particles follow a word without a space, and Sphinx's search doesn't know them."""

import re

from sphinx.application import Sphinx
from sphinx.search import SearchLanguage

#: What may follow a noun: a plural, then a particle or "is".
ENDING = (
    "들?(?:은|는|이|가|을|를|의|와|과|와의|과의|도|만|만큼|뿐|보다|처럼|대로"
    "|에|에는|에도|에게|에게는|에서|에서는|에서도|부터|까지|마다|으로|로|으로는|로는|으로서|로서"
    "|이나|나|이든|든|이란|란|이라는|라는|이라고|라고|이라면|라면|이며|며|이고|고|인|인지"
    "|이다|다|입니다|이었습니다|였습니다|이지만|지만)?"
)
WORD = re.compile(r"[가-힣]+|(?:(?![가-힣])\w)+")


def setup(app: Sphinx) -> None:
    app.add_search_language(SearchKorean)


class SearchKorean(SearchLanguage):
    """Finds a word by its beginning, whatever follows it: the index holds all beginnings, from two syllables on.

    What the reader types is looked up without its own particle. Names in Latin letters are words by themselves.
    """

    lang = "ko"
    language_name = "Korean"
    js_splitter_code = """
var splitQuery = (query) => query.match(/[가-힣]+|(?:(?![가-힣])[\\p{Letter}\\p{Number}_])+/gu) ?? [];
"""
    js_stemmer_code = f"""
var Stemmer = function() {{
  this.stemWord = (word) => word.replace(/^([가-힣]{{2,}}?){ENDING}$/, "$1");
}};
"""

    def split(self, input: str) -> list[str]:
        words = WORD.findall(input)
        beginnings = [word[:end] for word in words if word[0] >= "가" for end in range(2, len(word))]
        return words + beginnings
