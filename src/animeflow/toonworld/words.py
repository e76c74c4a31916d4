"""The closed vocabulary of toonworld: every attribute, its values and the cast. Knows words; draws nothing.

Values are the tag words themselves (Danbooru style), so a truth, a tag and an oracle's class share one name. `none` and
`original` are values without a tag. Left and right of a body follow the COCO convention: the figure's own left, which is on
the right of the picture; figures are ordered from the left of the picture to its right.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

FIGURE_ATTRIBUTES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "hair_color": (
            "black_hair",
            "blonde_hair",
            "red_hair",
            "blue_hair",
            "green_hair",
            "pink_hair",
            "purple_hair",
            "white_hair",
        ),
        "hair_style": ("short_hair", "long_hair", "twintails", "side_ponytail", "double_bun"),
        "eye_color": ("blue_eyes", "green_eyes", "red_eyes", "purple_eyes", "yellow_eyes"),
        "expression": ("smile", "open_mouth", "angry", "crying", "one_eye_closed"),
        "outfit": ("school_uniform", "kimono", "dress", "hoodie", "maid", "armor"),
        "accessory": ("none", "glasses", "cat_ears", "hair_bow", "hair_flower", "witch_hat"),
        "pose": ("arms_at_sides", "left_arm_up", "right_arm_up", "arms_up"),
    }
)
SCENE_ATTRIBUTES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "count": ("1girl", "2girls", "3girls"),
        "background": ("sky", "beach", "cherry_blossoms", "classroom", "cityscape", "snow"),
        "lighting": ("night", "sunset", "day", "overexposed"),
        "artist": ("bold_brush", "soft_wash", "sticker_pop", "ink_hatch"),
    }
)


@dataclass(frozen=True)
class Character:
    """A named member of the cast: what is fixed about her. Outfit, expression and pose are free."""

    name: str
    series: str
    hair_color: str
    hair_style: str
    eye_color: str
    accessory: str
    mark: str  # the shape of her hair clip, one per series
    mark_color: str  # one per character of a series


def _cast() -> dict[str, Character]:
    rows = """
        akari_hoshino   starlit_academy  red_hair     twintails      green_eyes   none         star     gold
        yuki_amane      starlit_academy  white_hair   long_hair      blue_eyes    hair_bow     star     cyan
        mika_tachibana  starlit_academy  pink_hair    double_bun     purple_eyes  glasses      star     lime
        luna_crowley    moonlit_coven    purple_hair  long_hair      yellow_eyes  witch_hat    moon     gold
        sable_nightly   moonlit_coven    black_hair   short_hair     red_eyes     cat_ears     moon     cyan
        ivy_thornwood   moonlit_coven    green_hair   side_ponytail  purple_eyes  hair_flower  moon     lime
        momo_sakurai    candy_parade     pink_hair    twintails      blue_eyes    hair_bow     heart    gold
        ringo_natsume   candy_parade     red_hair     short_hair     yellow_eyes  none         heart    cyan
        mint_asagiri    candy_parade     green_hair   double_bun     red_eyes     cat_ears     heart    lime
        sora_minase     tidal_knights    blue_hair    side_ponytail  yellow_eyes  none         diamond  gold
        elsa_vance      tidal_knights    blonde_hair  long_hair      green_eyes   hair_flower  diamond  cyan
        kaede_rin       tidal_knights    black_hair   side_ponytail  blue_eyes    glasses      diamond  lime
    """
    cast = [Character(*row.split()) for row in rows.strip().splitlines()]
    return {character.name: character for character in cast}


CAST: MappingProxyType[str, Character] = MappingProxyType(_cast())
# Characters that no ordinary picture shows and no vocabulary knows: who learns one of them, learned her from her own pictures.
# The pair of hair colour and style is one that `HeldOut()` keeps out of training, so even the combination is new.
GUESTS: MappingProxyType[str, Character] = MappingProxyType(
    {
        guest.name: guest
        for guest in (
            Character("nova", "far_sky", "blonde_hair", "twintails", "purple_eyes", "cat_ears", "drop", "coral"),
            Character("lumi", "far_sky", "black_hair", "double_bun", "green_eyes", "hair_bow", "drop", "azure"),
            Character("iris", "far_sky", "pink_hair", "side_ponytail", "red_eyes", "glasses", "drop", "pearl"),
        )
    }
)
FIXED = ("hair_color", "hair_style", "eye_color", "accessory")  # what of the attributes makes a character who she is
SERIES: tuple[str, ...] = tuple(dict.fromkeys(character.series for character in CAST.values()))
ATTRIBUTES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {**FIGURE_ATTRIBUTES, "character": ("original", *CAST), **SCENE_ATTRIBUTES}
)
