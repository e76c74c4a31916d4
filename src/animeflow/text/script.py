"""What a word's letters tell: normal form, script, likely languages; and codes of languages. Knows letters; knows no tag."""

from __future__ import annotations

import re
import unicodedata

from ..core.errors import ConfigError, did_you_mean

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
# All that a person may name: ISO 639-1, and a few that have three letters only.
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff
    fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko ks ku
    kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt
    qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt ty ug uk ur uz ve vi
    vo wa wo xh yi yo za zh zu ceb ckb fil haw hmn jbo lzh nan tok yue"""
CODES = frozenset(_CODES.split())  # without Kanuri (kr) and Twi (tw): who writes them here means Korea and Taiwan
_NAMES = {
    "arabic": "ar",
    "catalan": "ca",
    "chinese": "zh",
    "czech": "cs",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "espanol": "es",
    "finnish": "fi",
    "francais": "fr",
    "french": "fr",
    "german": "de",
    "deutsch": "de",
    "ger": "de",
    "greek": "el",
    "hebrew": "he",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "italian": "it",
    "eng": "en",
    "japanese": "ja",
    "jap": "ja",
    "jpn": "ja",
    "kor": "ko",
    "korean": "ko",
    "norwegian": "no",
    "polish": "pl",
    "spa": "es",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "thai": "th",
    "fra": "fr",
    "turkish": "tr",
    "ukrainian": "uk",
    "vietnamese": "vi",
    "chs": "zh-Hans",
    "cht": "zh-Hant",
    "jp": "ja",
    "kr": "ko",
    "cn": "zh-Hans",
    "tw": "zh-Hant",
    "ua": "uk",
    "gr": "el",
    "cz": "cs",
    "dk": "da",
    "se": "sv",
    "br": "pt-BR",
    "gb": "en",
}


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


def language_hint(code: str) -> str | None:
    """Why a code is not used, as ` (did you mean 'ja'?)` or nothing; None for one that is a language's."""
    found = language_code(code)
    if found is not None and base(found) in CODES:
        return None
    short = base(code.strip().lower().replace("_", "-"))
    near = _NAMES.get(short)
    return f" (did you mean '{near}'?)" if near else did_you_mean(short, (*LANGUAGES, *_NAMES))


def language_named(word: str) -> str | None:
    """The code that somebody means who writes a language's name, or another letter code, in place of it."""
    return _NAMES.get(word.strip().lower())


def known_language(code: object, *, where: str, others: tuple[str, ...] = ()) -> str:
    """A code that a person gave, in one form; `others` are words that stand for none and are right too. Raises ConfigError."""
    if code in others:
        return str(code)
    hint = language_hint(code) if isinstance(code, str) else ""
    if hint is None:
        return language_code(str(code)) or str(code)
    more = " A bare no is false to YAML: write 'no'" if code is False else ""
    raise ConfigError(
        f"{str(code)!r} is not the code of a language{hint}",
        where=where,
        do=f"give {', '.join((*others, 'en', 'ja', 'es', 'zh-Hans'))} or another code of ISO 639.{more}",
    )


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
