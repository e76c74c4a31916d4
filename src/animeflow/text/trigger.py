"""A folder's name to a trigger word, and the tags of a character that it should mean. Knows strings and counts; knows no file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from fnmatch import fnmatchcase

from .tags import to_name

_KOHYA = re.compile(r"(\d{1,3})_+(?=\S)(.+)")

IDENTITY = (
    *(
        "*_hair",
        "*_eyes",
        "*_eye",
        "*_ears",
        "*_tail",
        "*_horns",
        "*_wings",
        "*_skin",
        "*_bangs",
        "*_sclera",
        "*_pupils",
    ),
    *(
        "heterochromia",
        "ahoge",
        "twintails",
        "low_twintails",
        "two_side_up",
        "one_side_up",
        "ponytail",
        "side_ponytail",
    ),
    *("high_ponytail", "low_ponytail", "braid", "*_braid", "twin_braids", "hair_bun", "double_bun", "single_hair_bun"),
    *("bangs", "sidelocks", "drill_hair", "twin_drills", "hime_cut", "bob_cut", "hair_between_eyes", "hair_intakes"),
    *(
        "freckles",
        "mole",
        "mole_*",
        "scar_on_face",
        "fangs",
        "fang",
        "halo",
        "tail",
        "horns",
        "wings",
        "elf",
        "*_girl",
        "*_boy",
    ),
    *("*_breasts", "flat_chest", "dark-skinned_female", "dark-skinned_male", "facial_hair", "beard", "mustache"),
)
"""What a character always is, as Danbooru writes it."""

PASSING = (
    *(
        "closed_eyes",
        "half-closed_eye*",
        "rolling_eyes",
        "averting_eyes",
        "narrowed_eyes",
        "blank_eyes",
        "empty_eyes",
        "crazy_eyes",
    ),
    *(
        "no_eyes",
        "no_pupils",
        "evil_eyes",
        "glowing_eye*",
        "sparkling_eyes",
        "unusually_open_eyes",
        "eyes_visible_*",
        "covered_eyes",
    ),
    *(
        "constricted_pupils",
        "heart-shaped_pupils",
        "symbol_in_eye",
        "*_in_eye",
        "*_over_eye",
        "*_over_one_eye",
        "*ing_eyes",
    ),
    *(
        "wet_*",
        "messy_hair",
        "floating_hair",
        "*ing_hair",
        "*_own_*",
        "*_another's_*",
        "hands_in_hair",
        "*_in_hair",
        "expressive_hair",
    ),
    *(
        "holding_*",
        "looking_*",
        "covering_*",
        "grabbing_*",
        "fake_*",
        "cum_*",
        "blood_*",
        "shiny_skin",
        "spread_wings",
        "anal_*",
    ),
    *(
        "*between_breasts",
        "*under_breasts",
        "*_to_breasts",
        "*ing_breasts",
        "framed_breasts",
        "*pubic_hair",
        "magical_girl",
    ),
)
"""What fits a pattern above and is a moment, an expression or a thing put on."""


def kohya_folder(name: str) -> tuple[int, str] | None:
    """Repeats and words of a folder named as kohya's scripts want it (`10_eileen girl`); None for any other."""
    match = _KOHYA.fullmatch(name.strip())
    return (int(match[1]), match[2].strip()) if match else None


def trigger_of(folder_name: str) -> str:
    """A word that a caption can open with: lower case, no signs, words joined by spaces. `10_eileen girl` gives `eileen`.

    Empty where the name has no letter or digit.
    """
    kohya = kohya_folder(folder_name)
    words = kohya[1].split()[0] if kohya else folder_name  # behind the first word kohya's folders name the class
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", unicodedata.normalize("NFKC", words)).lower()
    return re.sub(r"[\W_]+", " ", words).strip()


def class_of(folder_name: str) -> str:
    """The class that kohya's folders name behind the trigger: `10_eileen girl` gives `girl`; empty for any other name."""
    kohya = kohya_folder(folder_name)
    return " ".join(to_name(word).replace("_", " ") for word in kohya[1].split()[1:]) if kohya else ""


def describes_identity(name: str) -> bool:
    """Whether a tag says what a character always is: hair, eyes, ears, tail, a body. Expressions, clothes and places do not."""
    if any(fnmatchcase(name, pattern) for pattern in PASSING):
        return False
    return any(fnmatchcase(name, pattern) for pattern in IDENTITY)


def prune_of(tag_counts: Mapping[str, int], pictures: int, *, share: float = 0.7) -> list[str]:
    """Tags that a trigger should mean: those that describe identity, on at least `share` of the pictures; the most frequent first.

    A tag on fewer pictures tells them apart (another hair colour, another form), and is left in the captions. Nothing is proposed
    for fewer than three pictures: there everything is always there.
    """
    if pictures < 3:
        return []
    common = [(-count, name) for name, count in tag_counts.items() if count >= share * pictures - 1e-9]
    return [name for _, name in sorted(common) if describes_identity(to_name(name))]
