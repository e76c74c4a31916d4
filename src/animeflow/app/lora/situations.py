"""Prompts for what is drawn while a LoRA learns: the concept in several situations, and the class alone. Knows tags."""

from __future__ import annotations

from collections.abc import Sequence

# Words that boorus use often and that a drawn world knows too: a face, clothes, a pose, another place.
SITUATIONS = (
    "smile, looking at viewer",
    "school uniform, classroom, day",
    "dress, beach, sunset",
    "kimono, arms up, cherry blossoms",
)
# A small base knows drawn figures only, and is vague about what a prompt leaves open: place, light and hand.
DRAWN = (
    "smile, sticker pop, sky, day",
    "school uniform, bold brush, classroom, day",
    "dress, soft wash, beach, sunset",
    "kimono, arms up, sticker pop, cherry blossoms, day",
)


def prompts(leads: Sequence[tuple[str, str]], *, most: int = 8, drawn: bool = False) -> list[str]:
    """For concepts given as (trigger, class): all four situations of one, two of each of several.

    The last prompt has no trigger: it shows what the LoRA did to the class. `drawn`: for a base that knows drawn figures only."""
    situations = DRAWN if drawn else SITUATIONS
    each = max(1, min(len(situations), most // len(leads) if len(leads) > 1 else len(situations)))
    found = []
    for trigger, kind in leads[:most]:
        lead = ", ".join(filter(None, (trigger, kind)))
        found += [f"{lead}, {situation}" for situation in situations[:each]]
    plain = leads[0][1] or "no humans"
    return [*found, f"{plain}, {situations[0]}"]
