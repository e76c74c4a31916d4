"""Did a LoRA learn who somebody is? A guest's fixed attributes read back from pictures whose prompts never name them, and ordinary
prompts beside them to see what it cost. Knows readings and scenes; knows no network, no model and no file.

The base, asked with the same words and seeds before the training, is what the figure has to beat: it has never seen the guest, so
what it gets right is luck and habit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..toonworld.words import FIXED
from ..toonworld.world import Scene, attributes, guest, sample_guest_scene
from .adherence import Pictures, Reader, Score, Tally, score

NAMED = ("expression", "outfit", "pose", "background", "lighting", "artist")  # what the prompts say besides the trigger
UNHARMED = 0.05  # of adherence may be lost before others count as harmed


def scenes_of(name: str, count: int, *, seed: int) -> list[Scene]:
    """`count` scenes of a guest that none of her data sets has: their seed is keyed apart."""
    return [sample_guest_scene(name, seed ^ 0x1DE47, index) for index in range(count)]


def identity_prompt(scene: Scene, trigger: str) -> str:
    """The trigger and everything that is free. What is fixed about her is left out: it has to come from the trigger."""
    (figure,) = scene.figures
    around = [scene.artist, scene.background, scene.lighting]
    words = [trigger, "1girl", "solo", *around, figure.expression, figure.outfit, figure.pose]
    return ", ".join(word.replace("_", " ") for word in words)


@dataclass(frozen=True)
class Measured:
    """What one state of the weights draws.

    Attributes:
        images_seen: of the training; 0 is the base.
        fixed: what makes the guest who she is, attribute by attribute.
        named: what the same prompts do say.
        others: ordinary prompts, None where none were asked.
    """

    images_seen: int
    fixed: dict[str, Tally]
    named: dict[str, Tally]
    others: Score | None = None

    @property
    def identity(self) -> float:
        """Mean over the fixed attributes, each counting alike."""
        return _mean(self.fixed)

    @property
    def followed(self) -> float:
        """Mean over what her prompts say: a LoRA that only repeats its pictures loses here."""
        return _mean(self.named)

    @property
    def adherence(self) -> float | None:
        return None if self.others is None else self.others.mean

    def metrics(self, prefix: str = "identity") -> dict[str, float]:
        """Figures by the names they have in `metrics.jsonl`."""
        values = {f"{prefix}/mean": self.identity, f"{prefix}/named": self.followed}
        values |= {f"{prefix}/{name}": tally.accuracy for name, tally in self.fixed.items()}
        return values | ({f"{prefix}/others": self.adherence} if self.adherence is not None else {})

    def as_dict(self) -> dict[str, Any]:
        """JSON values; the means repeat what follows from the tallies, for readers of the file."""
        return asdict(self) | {"identity": self.identity, "followed": self.followed, "adherence": self.adherence}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Measured:
        """The inverse of `as_dict`."""
        others = value.get("others")
        return cls(
            images_seen=value["images_seen"],
            fixed=_tallies(value["fixed"]),
            named=_tallies(value["named"]),
            others=Score(_tallies(others["attributes"]), _tallies(others.get("pairs") or {})) if others else None,
        )


@dataclass(frozen=True)
class IdentityReport:
    """Before and after, as written to `identity.json`. `after` is None while a run goes on.

    Attributes:
        guest, trigger: who, and the word that calls her.
        pictures: rows `{"prompt", "seed", "before", "after"}`: files beside `identity.json`, for the page.
        oracle: accuracy of the oracle itself on the fixed attributes: nothing measured with it is more certain.
    """

    guest: str
    trigger: str
    before: Measured
    after: Measured | None = None
    pictures: list[dict[str, Any]] = field(default_factory=list)
    oracle: dict[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> float | None:
        """Share of ordinary adherence that the training cost; below zero it gained. None where it was not measured."""
        ends = (self.before.adherence, self.after.adherence if self.after else None)
        return None if ends[0] is None or ends[1] is None else ends[0] - ends[1]

    @property
    def unharmed(self) -> bool | None:
        return None if self.lost is None else self.lost < UNHARMED

    def as_dict(self) -> dict[str, Any]:
        return {
            "guest": self.guest,
            "trigger": self.trigger,
            "before": self.before.as_dict(),
            "after": self.after.as_dict() if self.after else None,
            "lost": self.lost,
            "unharmed": self.unharmed,
            "pictures": self.pictures,
            "oracle": self.oracle,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> IdentityReport:
        """The inverse of `as_dict`."""
        return cls(
            guest=value["guest"],
            trigger=value["trigger"],
            before=Measured.from_dict(value["before"]),
            after=Measured.from_dict(value["after"]) if value.get("after") else None,
            pictures=list(value.get("pictures") or []),
            oracle=dict(value.get("oracle") or {}),
        )


def measure(
    read: Reader,
    name: str,
    scenes: Sequence[Scene],
    pictures: Pictures,
    *,
    images_seen: int,
    others: Sequence[Scene] = (),
    other_pictures: Pictures = (),
) -> Measured:
    """Score pictures of `identity_prompt`s of `scenes`, and of the prompts of ordinary scenes beside them."""
    if len(scenes) != len(pictures) or len(others) != len(other_pictures):
        raise ValueError(f"{len(pictures)} + {len(other_pictures)} pictures for {len(scenes)} + {len(others)} scenes")
    member, readings = guest(name), read(pictures)
    fixed = {
        attribute: Tally(sum(reading[attribute][0] == getattr(member, attribute) for reading in readings), len(scenes))
        for attribute in FIXED
    }
    named = {
        attribute: Tally(
            sum(reading[attribute][0] == _asked(scene, attribute) for reading, scene in zip(readings, scenes)),
            len(scenes),
        )
        for attribute in NAMED
    }
    ordinary = score(read(other_pictures), others) if len(others) else None
    return Measured(images_seen, fixed, named, ordinary)


def _asked(scene: Scene, attribute: str) -> str:
    return attributes(scene)[attribute]


def _mean(tallies: Mapping[str, Tally]) -> float:
    return sum(tally.accuracy for tally in tallies.values()) / len(tallies)


def _tallies(values: Mapping[str, Mapping[str, int]]) -> dict[str, Tally]:
    return {name: Tally(**each) for name, each in values.items()}
