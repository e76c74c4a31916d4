"""What a word's letters tell: normal form, script, likely languages; and codes of languages. Knows letters; knows no tag."""

from __future__ import annotations

import re
import unicodedata

_SPACES = re.compile(r"[\s_]+")
_KANA = re.compile(r"[ぁ-ゖァ-ヺｦ-ﾝ]")
_HANGUL = re.compile(r"[가-힣ᄀ-ᇿㄱ-ㆎ]")
_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿々〆]")
_ALPHABETS = (
    ("ru", re.compile(r"[Ѐ-ӿ]")),
    ("th", re.compile(r"[฀-๿]")),
    ("ar", re.compile(r"[؀-ۿ]")),
    ("el", re.compile(r"[Ͱ-Ͽ]")),
    ("he", re.compile(r"[֐-׿]")),
)
_CODE = re.compile(r"([a-z]{2,3})(?:[-_]([A-Za-z]{2,4}))?", re.IGNORECASE)
# One name for a language: the regions of Chinese tell the script, and the home region of a language nothing.
_REGIONS = {
    **dict.fromkeys(("zh-cn", "zh-sg", "zh-hans"), "zh-Hans"),
    **dict.fromkeys(("zh-tw", "zh-hk", "zh-mo", "zh-hant"), "zh-Hant"),
    "pt-br": "pt-BR",
}
_OLD = {"jp": "ja", "kr": "ko", "cn": "zh-Hans", "tw": "zh-Hant"}
# Codes that files are called by. Only these are believed where a code is a guess, so that `tag` and `hand` are none.
LANGUAGES = frozenset(
    (
        *("ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hu", "id", "it", "ja", "ko", "nl", "no", "pl"),
        *("pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
    )
)


def normal(text: str) -> str:
    """The form by which surfaces are found: NFKC, case folded, underscores as spaces, spaces collapsed."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def written(text: str) -> str:
    """A surface as it is written in a caption: its own letters and case, no underscores, single spaces."""
    return _SPACES.sub(" ", unicodedata.normalize("NFC", text)).strip()


def base(language: str) -> str:
    """`zh-Hans` -> `zh`."""
    return language.partition("-")[0]


def speaks(stored: str, asked: str) -> bool:
    """Whether a word of language `stored` is one of language `asked`: `zh` asks for all Chinese, `zh-Hans` not for `zh-Hant`."""
    return stored == asked or base(stored) == asked or stored == base(asked)


def language_code(code: str) -> str | None:
    """A code in one form: `zh-CN` -> `zh-Hans`, `de-DE` and `de_de` -> `de`, `pt-BR` stays; None for what is no code."""
    found = _CODE.fullmatch(code.strip())
    if not found:
        return None
    short = found[1].lower()
    if not found[2]:
        return _OLD.get(short, short)
    return _REGIONS.get(f"{short}-{found[2].lower()}", short)


def is_language(code: str) -> bool:
    """Whether a code is that of a language known by name here."""
    found = language_code(code)
    return found is not None and base(found) in LANGUAGES


def is_cjk(text: str) -> bool:
    """Whether it has letters of Chinese, Japanese or Korean."""
    return bool(_KANA.search(text) or _HANGUL.search(text) or _HAN.search(text))


def without_spaces(text: str) -> bool:
    """Whether it is of a script that writes no spaces between words."""
    return bool(_KANA.search(text) or _HAN.search(text)) and not _HANGUL.search(text)


def languages_of(text: str) -> tuple[str, ...]:
    """Languages a word may be of, by its script; more than one where the letters leave it open; none for Latin letters and signs.

    Han alone may be Japanese or Chinese. Characters that only one of their national character sets has (JIS X 0208, GB 2312,
    Big5) decide: 髪 is Japanese, 发 simplified; 長髮 stays open.
    """
    if _KANA.search(text):
        return ("ja",)
    if _HANGUL.search(text):
        return ("ko",)
    if _HAN.search(text):
        return _of_han(text)
    return next(((code,) for code, letters in _ALPHABETS if letters.search(text)), ())


def _of_han(text: str) -> tuple[str, ...]:
    han = "".join(_HAN.findall(text)).replace("々", "").replace("〆", "")
    sets = {"ja": "euc_jp", "zh-Hans": "gb2312", "zh-Hant": "big5"}
    able = [language for language, charset in sets.items() if _fits(han, charset)]
    return (able[0],) if len(able) == 1 else ("zh", "ja")


def _fits(text: str, charset: str) -> bool:
    try:
        encoded = text.encode(charset)
    except UnicodeEncodeError:
        return False
    return len(encoded) == 2 * len(text)  # three bytes in EUC-JP are of JIS X 0212, which nobody types
