"""`engine=ray` gives what processes of this machine give, row for row: catalogue, looks, shards, latents and captions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from animeflow.core.engine import Engine
from animeflow.core.errors import ConfigError
from animeflow.data.index import CacheIndex

VERBS = ("toonworld", "catalogue", "shard", "cache")


def words(folder: Path, engine: str) -> list[str]:
    place = [f"set={folder}/{engine}", f"run={folder}/run_{engine}", f"toonworld.folder={folder}/drawn", "name=rays"]
    size = [
        "toonworld.count=40",
        "toonworld.workers=0",
        "catalogue.workers=0",
        "data.shard.workers=0",
        "model.codec=null",
    ]
    workers = ["engine.workers=2"] if engine == "ray" else []
    return [
        "experiment=toonworld_smoke",
        *place,
        *size,
        "data.cache.variants=2",
        "train.threads=1",
        f"engine={engine}",
        *workers,
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    """All but `seen.sqlite`, which is a cache, by their paths."""
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "seen.sqlite")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("rays")
    program = "import os, sys; from pathlib import Path; from animeflow.app.cli import execute\n" + "\n".join(
        f"assert execute({verb!r}, {words(folder, engine)!r}) == 0"
        for engine in ("local", "ray")
        for verb in VERBS[engine == "ray" :]  # drawn once
    )
    program = program.replace(
        "assert execute('catalogue'",
        "os.truncate(sorted(Path(sys.argv[1]).rglob('*.png'))[3], 99)\nassert execute('catalogue'",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "drawn")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    yield folder / "local", folder / "ray"


@pytest.mark.slow
def test_catalogue_and_shards_are_the_same_bytes(sets: tuple[Path, Path]) -> None:
    local, ray = sets
    for part in ("catalogue", "shards"):
        here, there = files_of(local / part), files_of(ray / part)
        assert here.keys() == there.keys()
        assert [name for name in here if here[name] != there[name]] == []
    assert b"truncated" in (ray / "catalogue" / "rejected.jsonl").read_bytes()


@pytest.mark.slow
def test_the_cache_has_the_same_rows(sets: tuple[Path, Path]) -> None:
    family = next((sets[0] / "cache").iterdir()).name
    here, there = (CacheIndex(folder / "cache" / family) for folder in sets)
    assert here.uids == there.uids and len(here) == 39
    for uid in here.uids:
        assert here.latent_address(uid) == there.latent_address(uid)
        assert same(here.latents.get(here.latent_address(uid)), there.latents.get(there.latent_address(uid)))
        assert here.caption_addresses(uid) == there.caption_addresses(uid)
    for address in {address for uid in here.uids for address in here.caption_addresses(uid)}:
        assert same(here.texts.get(address), there.texts.get(address))


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """Features of another batch are rounded in another order."""
    return found.keys() == wanted.keys() and all(
        torch.allclose(found[name].float(), wanted[name].float(), rtol=1e-2, atol=1e-4) for name in wanted
    )


@pytest.mark.slow
def test_errors_keep_their_class_and_a_dead_worker_is_known_as_one() -> None:
    pytest.importorskip("ray")
    program = """
from concurrent.futures.process import BrokenProcessPool
import os, tempfile, time
from animeflow.core.engine import Engine
from animeflow.image.decode import decode
from animeflow.image.picture import BadPicture
with Engine("ray", 2).executor() as pool:
    error = pool.submit(decode, b"").exception()
    assert isinstance(error, BadPicture) and error.reason == "empty", error
    assert isinstance(pool.submit(os._exit, 1).exception(), BrokenProcessPool)
    assert list(pool.map(abs, range(-3, 0))) == [3, 2, 1]

# No more than `workers` under way at once, also in a cluster that has room; what waits can be taken back.
def work(folder, number):
    begun = os.path.join(folder, str(number))
    open(begun, "w").close()
    many = len(os.listdir(folder))
    time.sleep(0.05)
    os.remove(begun)
    return many

with tempfile.TemporaryDirectory() as folder, Engine("ray", 1).executor() as narrow:
    assert set(narrow.map(work, [folder] * 8, range(8))) == {1}
    asked = [narrow.submit(time.sleep, 2.0) for _ in range(5)]
    narrow.shutdown(cancel_futures=True)
    assert asked[0].result() is None and asked[-1].cancelled()
    assert sum(future.cancelled() for future in asked) >= 3
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


def test_another_engine_is_told(animeflow: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ray'"):
        Engine("rai")
    assert Engine("local", 0).in_process and not Engine("local", 1).in_process
    told = animeflow("catalogue", "catalogue=folder", "catalogue.root=.", "engine.kind=rai", code=2)
    assert "choose one of: local, ray" in told
