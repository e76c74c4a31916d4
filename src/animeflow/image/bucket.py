"""The sizes that training sees, and which of them a picture goes to. Knows integers; knows no pixel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..core.errors import ConfigError


@dataclass(frozen=True, order=True)
class Bucket:
    """One height x width in pixels. `str(bucket)` is `HEIGHTxWIDTH`."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """The inverse of `str`: `"832x1216"` is 832 high and 1216 wide."""
        height, cross, width = text.strip().lower().partition("x")
        if not (cross and height.isdecimal() and width.isdecimal()):
            raise ConfigError(f"bucket '{text}' is not HEIGHTxWIDTH", do="write it like 832x1216")
        return cls(int(height), int(width))

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def log_aspect(self) -> float:
        """log(width / height): 0 for a square, odd under turning the picture."""
        return math.log(self.width / self.height)

    def latent(self, stride: int) -> tuple[int, int]:
        """Height and width of the latent of a codec with this stride."""
        if self.height % stride or self.width % stride:
            raise ConfigError(f"bucket {self} is not a multiple of the codec's stride {stride}")
        return self.height // stride, self.width // stride

    def tokens(self, cell: int = 16) -> int:
        """Image tokens, one per `cell` x `cell` pixels (codec stride x patch)."""
        return (self.height // cell) * (self.width // cell)


class BucketPlan:
    """An ordered set of buckets and the rule that sends a picture to one of them: the nearest log aspect ratio.

    Args:
        buckets: at least one, without repeats.
        step: every side has to be a multiple of it (codec stride x patch: 16 for the families here).
    """

    def __init__(self, buckets: Iterable[Bucket], step: int) -> None:
        if step < 1:
            raise ConfigError(f"bucket step {step} is not positive", where="data.bucket.step", do="set it to 16")
        self.step = step
        self.buckets = tuple(sorted(set(buckets)))
        if not self.buckets:
            raise ConfigError("the bucket plan is empty", where="data.bucket", do="widen the budget or name a size")
        for bucket in self.buckets:
            _check(bucket, step)

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self.buckets)

    def __len__(self) -> int:
        return len(self.buckets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketPlan) and (self.buckets, self.step) == (other.buckets, other.step)

    def __hash__(self) -> int:
        return hash((self.buckets, self.step))

    def __repr__(self) -> str:
        return f"BucketPlan({', '.join(map(str, self.buckets))}; step {self.step})"

    def facts(self) -> dict[str, object]:
        """JSON of the plan, for manifests and content addresses."""
        return {"step": self.step, "buckets": [str(bucket) for bucket in self.buckets]}

    @classmethod
    def nekofantasia(cls) -> BucketPlan:
        """The nine 1-megapixel sizes of Nekofantasia 0.1: 1024x1024 and four portraits with their landscapes."""
        portraits = [(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640)]
        return cls([Bucket(*side) for height, width in portraits for side in ((height, width), (width, height))], 64)

    @classmethod
    def tokens(cls, *, minimum: int = 4032, maximum: int = 4096, cell: int = 16, max_aspect: float = 3.0) -> BucketPlan:
        """Every size on a `cell`-pixel grid with `minimum` to `maximum` tokens: nearly equal work per picture, so no rank waits."""
        if not 0 < minimum <= maximum:
            raise ConfigError(f"no token count lies between {minimum} and {maximum}", where="data.bucket")
        _check_aspect(max_aspect)
        buckets = [
            Bucket(rows * cell, columns * cell)
            for rows in range(1, maximum + 1)
            for columns in range(-(-minimum // rows), maximum // rows + 1)
            if max(rows, columns) <= max_aspect * min(rows, columns)
        ]
        return cls(buckets, cell)

    @classmethod
    def pixels(
        cls, budget: int, *, step: int = 64, max_aspect: float = 4.0, minimum_share: float = 15 / 16
    ) -> BucketPlan:
        """Sizes of at most `budget` pixels: the square, for each side the largest other side, and all above `minimum_share`.

        1,048,576 pixels in steps of 64 contain the nine sizes of `nekofantasia`.
        """
        _check_aspect(max_aspect)
        cells = budget // (step * step) if step > 0 else 0
        if cells < 1:
            raise ConfigError(
                f"{budget:,} pixels hold no bucket in steps of {step}",
                where="data.bucket",
                do="lower step or raise budget",
            )
        square = math.isqrt(cells) * step
        found = {Bucket(square, square)}
        for rows in range(1, math.isqrt(int(cells * max_aspect)) + 1):
            longest = cells // rows
            shortest = min(longest, math.ceil(minimum_share * budget / (rows * step * step)))
            for columns in range(max(1, shortest), longest + 1):
                if max(rows, columns) <= max_aspect * min(rows, columns):
                    found |= {Bucket(rows * step, columns * step), Bucket(columns * step, rows * step)}
        return cls(found, step)

    @classmethod
    def explicit(cls, sizes: Sequence[str | Bucket | Sequence[int]], *, step: int = 16) -> BucketPlan:
        """Exactly these sizes: `"832x1216"` (height x width), `(832, 1216)` or Bucket."""
        return cls([_bucket(size) for size in sizes], step)

    def assign(self, height: int, width: int) -> Bucket:
        """The bucket with the nearest log aspect ratio. Among equal ones the largest that needs no enlarging, else the smallest."""
        if height < 1 or width < 1:
            raise ValueError(f"a picture of {height}x{width} pixels has no aspect ratio")
        aspect = math.log(width / height)

        def rank(bucket: Bucket) -> tuple[float, bool, int, Bucket]:
            enlarges = bucket.height > height or bucket.width > width
            return round(abs(bucket.log_aspect - aspect), 12), enlarges, bucket.pixels * (1 if enlarges else -1), bucket

        return min(self.buckets, key=rank)


def _bucket(size: str | Bucket | Sequence[int]) -> Bucket:
    if isinstance(size, Bucket):
        return size
    if isinstance(size, str):
        return Bucket.parse(size)
    if len(size) != 2:
        raise ConfigError(f"bucket {tuple(size)} is not (height, width)", where="data.bucket")
    return Bucket(int(size[0]), int(size[1]))


def _check(bucket: Bucket, step: int) -> None:
    if bucket.height < step or bucket.width < step:
        raise ConfigError(
            f"bucket {bucket} is smaller than one step of {step}",
            where="data.bucket",
            do=f"remove it, or make both sides at least {step}",
        )
    if bucket.height % step or bucket.width % step:
        near = Bucket(*(max(step, round(side / step) * step) for side in (bucket.height, bucket.width)))
        raise ConfigError(
            f"bucket {bucket} is not a multiple of {step}",
            where="data.bucket",
            why="the codec's stride times the patch has to divide both sides",
            do=f"use {near}, set data.bucket.step to a divisor, or remove it",
        )


def _check_aspect(max_aspect: float) -> None:
    if max_aspect < 1:
        raise ConfigError(f"max_aspect={max_aspect} is below 1", where="data.bucket.max_aspect", do="set it to 4")
