"""Words that forbid a tag or a sentence wherever they stand in it, in the languages that boorus and captions use. Strings only.

Boundaries are those of each script: a Latin, Korean or Russian word is whole, with its endings; Chinese has no spaces, so two
signs are looked for inside a sentence; katakana that goes on (`カロリー`, `ロリータ`) is another word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

SEXUAL_RATINGS = frozenset({"questionable", "explicit"})

# Tags that say that somebody in the picture is a child. Harmless, but never beside a sexual rating or tag: e621 has no other word.
_AGE_TAGS = """
    child children kid kids female_child male_child toddler toddlers preteen preteens underage young young_human young_anthro cub
    little_girl little_boy small_child kindergarten_uniform kindergartener elementary_school_student elementary_schooler
    子供 子ども こども 小学生 女児 男児 児童 幼児 園児 幼女 儿童 兒童 小孩 小女孩 小男孩 小學生 幼儿 幼兒 어린이 아동 초등학생
    niño niña niños niñas criança crianças enfant enfants fillette bambino bambina bambini kinder ребенок ребёнок дети
"""
_SEXUAL_TAGS = """
    sex nude completely_nude naked nipples pussy vagina penis testicles vaginal anal oral fellatio cunnilingus handjob paizuri
    cum cum_in_pussy cum_on_body masturbation fingering rape gangbang erection ahegao topless bottomless genitals porn hentai
    全裸 裸 セックス 性爱 裸体 누드 섹스 desnudo desnuda sexo nackt nue nudo nuda голая секс
"""
AGES, SEXUAL = tuple(_AGE_TAGS.split()), tuple(_SEXUAL_TAGS.split())

_ALLOWED = re.compile(  # names and kinds of dress that hold such a word
    r"aizawa[\s_]*shota|shota[\s_]*aizawa|loli[\s_]*ace|loli[\s_-]*kami[\s_]*requiem|kono[\s_]*lolicon[\s_]*domome"
    r"|(?:甘|和風?|中?華)ロリ|ロリ神レクイエム|(?:和风|和風|哥特|甜美|中华|中華)[萝蘿]莉|幼女(?:戦記|战记|戰記)"
)
_FORBIDDEN = re.compile(
    r"""
    (?<![a-z])(?:
        lolis?|lolicons?|lolikons?|lolidom|lolishotas?|shotas?|shotacons?|shotakons?|toddlercon|mesugaki
        |pa?edophil\w*|pedofil\w*|padophil\w*|pedopornograf\w*|pedopornograph\w*
        |child[\s_-]*(?:porn\w*|sex|on[\s_-]*child)|(?:toddler|underage)[\s_-]*sex|cub[\s_-]*porn
        |kinder[\s_-]*porno\w*|pornografia[\s_-]+infantil|pornographie[\s_-]+(?:enfantine|infantile)
    )(?![a-z])
    |(?<![ァ-ヺー])ロリ(?!ー|ィ|タ|ポ|ス|ン)|(?<![ァ-ヺー])ショタ(?!ロ)|ショタ(?![ァ-ヺー])|(?<![ァ-ヺー])ペド(?:フィリア)?(?![ァ-ヺー])
    |メスガキ|(?<![ぁ-ゖ])(?:ろり|しょた)(?:こん)?[のがはをにとでもっ]?(?![ぁ-ゖ])|児童ポルノ
    |[萝蘿]莉|正太(?![郎朗])|幼女(?=控|性|裸|[^一-鿿]|$)|[恋戀]童|[儿兒]童色情
    |(?<![가-힣])(?:로리|쇼타)(?:콘)?(?:들)?(?:이|가|은|는|을|를|의|와|과|도|에|로|랑|만|에게|처럼|하고|한테)?(?![가-힣])|아동\s*(?:포르노|음란물)
    |(?<![а-я])(?:лоли|лоликон\w*|шот[ауые]|шотакон\w*|педофил\w*|детск\w+\s+порно\w*)(?![а-я])
    """,
    re.VERBOSE,
)
# One of these is in each Latin alternative.
_HINT = re.compile(r"loli|shot|toddler|mesug|p(?:a?e|a)do|child|underage|cub|kinder|pornogr")
_AGE = re.compile(
    r"(?<![a-z])(?:child(?:ren)?|kids?|toddlers?|preteens?|underage|little[\s_-]+(?:girls?|boys?))(?![a-z])"
)
_SEX = re.compile(
    r"(?<![a-z])(?:nudes?|naked|sex|sexual(?:ly|ised|ized)?|porn\w*|hentai|genitals?|masturbat\w+|penis|vagina)(?![a-z])"
)


def visible(text: str) -> str:
    """Without signs that take no room (zero-width spaces, joiners), which hide a word from a comparison and from nobody else."""
    return text if text.isascii() else "".join(sign for sign in text if unicodedata.category(sign) != "Cf")


@lru_cache(maxsize=65_536)  # the tags of a set are few, and come again and again
def has_forbidden_word(text: str) -> bool:
    """Whether a forbidden word stands somewhere in a tag or a sentence."""
    folded = _folded(text)
    if folded.isascii() and not _HINT.search(folded):
        return False
    return _FORBIDDEN.search(folded) is not None and _FORBIDDEN.search(without_names(folded)) is not None


def without_names(folded: str) -> str:
    """Without the names and kinds of dress that only hold such a word."""
    return _ALLOWED.sub(" ", folded)


def age_and_sex(text: str) -> bool:
    """Whether a sentence speaks of a child and of sexual content."""
    folded = _folded(text)
    return _AGE.search(folded) is not None and _SEX.search(folded) is not None


def _folded(text: str) -> str:
    """NFKC, case folded, without accents and invisible signs; a kana's own marks stay."""
    folded = visible(unicodedata.normalize("NFKC", text).casefold())
    if folded.isascii():
        return folded
    parted = (sign for sign in unicodedata.normalize("NFD", folded) if not "\u0300" <= sign <= "\u036f")
    return unicodedata.normalize("NFC", "".join(parted))
