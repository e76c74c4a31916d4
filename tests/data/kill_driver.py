"""Writes shards or fills a cache in forked children that kill themselves at the n-th file operation, until one gets to the end.

Arguments: what to do ("one" or "two": shards of that config; "cache"), input folder, output folder, seed. Prints how many
children were killed. Forking from a process that has only imported keeps many kills a matter of seconds.
"""

from __future__ import annotations

import builtins
import os
import random
import signal
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from data_toys import PLAN, ToyCodec, ToyTower, make_posts

from animeflow.catalogue.post import Post
from animeflow.data.cache import CacheReport, build_cache
from animeflow.data.manifest import Manifest
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.image.bucket import BucketPlan
from animeflow.text.caption import CaptionPolicy

PLANS = {"one": PLAN, "two": BucketPlan.explicit(["32x32", "32x48"], step=16)}


def write(pictures: Path, out: Path, config: str, *, workers: int = 0, posts: list[Post] | None = None) -> Manifest:
    posts = posts or make_posts(pictures, 60)
    plan, recorded = PLANS[config], {"name": config}
    return write_shards(posts, plan, out, root=pictures, max_samples=8, workers=workers, config=recorded)


def kill_at(count: int) -> None:
    """Kill this process before its `count`-th rename, removal, flush, tar member or opening of a file to write."""
    left = count

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for owner, name in ((os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (tarfile.TarFile, "addfile")):
        setattr(owner, name, counted(getattr(owner, name)))
    opened = builtins.open
    guarded = counted(opened)
    builtins.open = lambda file, mode="r", *a, **k: (guarded if "w" in mode else opened)(file, mode, *a, **k)


def fill(shards: Path, out: Path) -> CacheReport:
    """A cache in many small segments."""
    policy = CaptionPolicy(order=("general",))
    return build_cache(ShardSet(shards), ToyCodec(), ToyTower(), policy, out=out, seed=5, segment_bytes=500, threads=1)


def main(what: str, source: Path, out: Path, seed: int) -> None:
    rng, kills, posts = random.Random(seed), 0, [] if what == "cache" else make_posts(source, 60)
    while True:
        count = rng.randint(1, 40) + kills // 2
        child = os.fork()
        if not child:
            kill_at(count)
            fill(source, out) if what == "cache" else write(source, out, what, posts=posts)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            kills += 1
        elif os.waitstatus_to_exitcode(status) == 0:
            print(kills)
            return
        else:
            raise SystemExit(f"a child failed with status {status}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
