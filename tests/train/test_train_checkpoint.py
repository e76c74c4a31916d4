"""Checkpoints: what was written comes back bit for bit, however it is sharded, and no accident leaves one that cannot be loaded."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from animeflow.core import files
from animeflow.core.errors import DataError
from animeflow.train import checkpoint, sharded, staging, stored
from animeflow.train.checkpoint import Checkpoints, SaveFailed, save

sys.path.insert(0, str(Path(__file__).parent))
from saved import every_kind, numbered, same_bits, sound

HERE = Path(__file__).parent

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def there(root: Path) -> list[int]:
    return [int(folder.name) for folder in checkpoint.list_folders(root)]


def content(folder: Path) -> dict:
    """What the files of a checkpoint say; the order of a header's entries is drawn by chance."""
    said = {}
    for path in folder.iterdir():
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        if path.suffix == ".safetensors":
            said[path.name] = json.loads(data[8:end]), data[end:]
        elif path.name != "MANIFEST.json":
            said[path.name] = data
    return said


def started(program: str, folder: Path) -> dict:
    done = subprocess.run(
        [sys.executable, str(HERE / program), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_all_comes_back_bit_for_bit(tmp_path, asynchronous) -> None:
    tensors, state = every_kind(), {"seconds": 0.1 + 0.2, "names": ["é", "x"], "none": None, "deep": {"7": [1, 2]}}
    checkpoints = Checkpoints(tmp_path, keep_last=2, asynchronous=asynchronous)
    folder = checkpoints.save(8, tensors, state)
    checkpoints.wait()
    loaded, said = checkpoint.load(folder)
    assert same_bits(loaded, tensors)
    assert said == checkpoint.load_state(folder) == state
    blank = {
        group: {n: torch.zeros_like(t).contiguous() for n, t in values.items()} for group, values in loaded.items()
    }
    checkpoints.restore(folder, blank)
    assert same_bits(blank, tensors)
    assert checkpoint.load(folder, ["nothing", "views"])[0].keys() == {"nothing", "views"}
    shown = {path.stem: {name.split("/")[0] for name in load_file(path)} for path in folder.glob("*.safetensors")}
    assert shown == {group: {group} for group in ("learner", "kinds", "views")}, "other programs read them too"


def test_what_changes_after_save_is_not_written(tmp_path) -> None:
    state = {"steps": [1]}
    release, fsync = threading.Event(), os.fsync

    def slow(handle: int) -> None:
        assert release.wait(120)
        fsync(handle)

    tensors = {g: {n: t.clone() for n, t in v.items()} for g, v in every_kind().items()}
    expected = {g: {n: t.clone() for n, t in v.items()} for g, v in tensors.items()}
    checkpoints = Checkpoints(tmp_path / "later", keep_last=2, asynchronous=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", slow)
        folder = checkpoints.save(8, tensors, state)
        assert not folder.exists(), "save returns before the disk is done"
        for values in tensors.values():
            for tensor in values.values():
                tensor.copy_(torch.zeros_like(tensor))
        state["steps"].append(2)
        release.set()
        checkpoints.wait()
    now = save(tmp_path / "now", 8, expected, {"steps": [1]})
    assert content(folder) == content(now), "in the background as at once"
    again = {
        g: {n: t + t if t.is_floating_point() and t.itemsize > 1 else t for n, t in v.items()}
        for g, v in expected.items()
    }
    checkpoints.save(16, again, state)  # into the same memory
    checkpoints.wait()
    assert same_bits(checkpoint.load(folder)[0], expected)
    assert same_bits(checkpoint.load(tmp_path / "later" / "000000000016")[0], again)


def test_nothing_is_pickled(tmp_path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("something is pickled")

    for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("save", "load"):
        monkeypatch.setattr(torch, name, refuse)
    checkpoints = Checkpoints(tmp_path, keep_last=2, asynchronous=True)
    folder = checkpoints.save(8, every_kind(), {})
    assert checkpoints.resume_from() == folder
    loaded, _ = checkpoint.load(folder)
    checkpoints.restore(folder, loaded)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert all(path.read_bytes()[8:9] == b"{" for path in folder.glob("*.safetensors")), "a header of JSON"


def test_files_of_the_stock_writer_and_ours_are_alike(tmp_path, monkeypatch) -> None:
    groups = {group: values for group, values in every_kind().items() if group in ("learner", "kinds")}
    flat = staging.flat_names(groups)
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    ours.mkdir()
    flushed: list[Path] = []
    monkeypatch.setattr(files, "sync", flushed.append)
    assert sharded.write(ours, staging.Staging().take(groups)) == flushed == sorted(ours.iterdir())
    dcp.save(dict(flat), storage_writer=dcp.HuggingFaceStorageWriter(str(stock), save_distributed=True), no_dist=True)
    assert same_bits(sharded.read(stock), groups)
    back = {name: torch.zeros_like(value) for name, value in flat.items()}
    dcp.load(back, storage_reader=dcp.HuggingFaceStorageReader(str(ours)), no_dist=True)
    assert same_bits({"": back}, {"": flat})


def test_another_state_is_refused_and_nothing_of_it_filled(tmp_path) -> None:
    folder = save(tmp_path, 8, {"learner": {"w": torch.ones(2, 3), "b": torch.ones(3)}}, {})
    zeros = torch.zeros
    for wrong, named in (
        ({"w": zeros(2, 3)}, "'b' first: float32 [3] there, none here"),
        ({"w": zeros(2, 3), "b": zeros(3), "c": zeros(1)}, "'c' first: none there"),
        ({"w": zeros(3, 2), "b": zeros(3)}, "'w' first"),
        ({"w": zeros(2, 3, dtype=torch.bfloat16), "b": zeros(3)}, "float32 [2, 3] there, bfloat16 [2, 3] here"),
    ):
        with pytest.raises(DataError) as caught:
            sharded.read_into(folder, {"learner": wrong})
        assert named in caught.value.what
        assert not any(value.any() for value in wrong.values())
    with pytest.raises(ValueError, match="no name of a group"):
        save(tmp_path, 9, {"a/b": {}}, {})


def test_an_optimizer_is_restored_into_one_that_never_stepped(tmp_path) -> None:
    def optimizer(seed: int) -> tuple[torch.optim.Optimizer, dict]:
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
        net.register_parameter("scale", torch.nn.Parameter(torch.ones(())))  # as small as the counter of steps
        return torch.optim.AdamW(net.parameters(), fused=True), {p: name for name, p in net.named_parameters()}

    one, names = optimizer(0)
    for parameter in names:
        parameter.grad = torch.randn_like(parameter)
    one.step()
    flat = checkpoint.flatten_optimizer(one, names)
    folder = save(tmp_path, 8, {"optimizer": flat}, {})
    other, other_names = optimizer(1)
    checkpoint.blank_optimizer(other, other_names, sharded.describe(folder)["optimizer"])
    back = checkpoint.flatten_optimizer(other, other_names)
    assert not any(value.any() for value in back.values())
    sharded.read_into(folder, {"optimizer": back})
    third, third_names = optimizer(2)
    checkpoint.unflatten_optimizer(third, third_names, checkpoint.load(folder)[0]["optimizer"])
    assert same_bits({"": checkpoint.flatten_optimizer(other, other_names)}, {"": flat})
    assert same_bits({"": checkpoint.flatten_optimizer(third, third_names)}, {"": flat})
    with pytest.raises(DataError, match="'gone'"):
        checkpoint.blank_optimizer(other, other_names, {"gone/step": (torch.float32, torch.Size([]))})


def test_the_first_format_is_still_read(tmp_path) -> None:
    folder = tmp_path / "000000000008"
    folder.mkdir()
    tensors = {"learner": {"w": torch.randn(3)}, "ema": {"w": torch.randn(3)}}
    for group, values in tensors.items():
        save_file(values, folder / f"{group}.safetensors")
    files.write_json(folder / "state.json", {"x": 1})
    facts = {p.name: {"bytes": p.stat().st_size, "sha256": files.sha256_file(p)} for p in sorted(folder.iterdir())}
    files.write_json(folder / "MANIFEST.json", {"format": 1, "images": 8, "files": facts})
    assert checkpoint.newest(tmp_path) == folder
    loaded, state = checkpoint.load(folder)
    assert same_bits(loaded, tensors) and state == {"x": 1}
    (folder / "state.json").write_text('{"x": 2}')
    assert checkpoint.verify(folder) == "state.json is not the file that was written"


# -- what is found -----------------------------------------------------------------------------------------------------


def test_every_flipped_byte_is_found(tmp_path) -> None:
    folder = save(tmp_path, 16, *numbered(16, size=1))
    for path in folder.iterdir():
        data = path.read_bytes()
        for place in range(len(data)):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            assert path.name in checkpoint.verify(folder), f"byte {place} of {path.name}"
        path.write_bytes(data)
    assert checkpoint.verify(folder) is None


def test_a_broken_newest_is_named_and_passed_over(tmp_path, caplog) -> None:
    checkpoints = Checkpoints(tmp_path / "runs", keep_last=3)
    for images in (8, 16):
        checkpoints.save(images, *numbered(images))
    folder = tmp_path / "runs" / "000000000016"
    kept = shutil.copytree(folder, tmp_path / "kept")
    for path in sorted(kept.iterdir()):
        for harm in ("cut", "delete", "empty", "longer"):
            data = path.read_bytes()
            changed = {"cut": data[:-1], "empty": b"", "longer": data + b"\n"}.get(harm)
            (folder / path.name).unlink() if changed is None else (folder / path.name).write_bytes(changed)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert checkpoints.resume_from() == tmp_path / "runs" / "000000000008", (path.name, harm)
            assert str(folder) in caplog.text and path.name in caplog.text
            with pytest.raises(DataError, match=r"broken.*" + path.name):
                checkpoint.load(folder)
            shutil.copy(path, folder)
    assert checkpoints.resume_from() == folder
    assert checkpoints.resume_from(before=16) == tmp_path / "runs" / "000000000008"
    assert checkpoints.resume_from(before=8) is None
    shutil.copy(folder / "learner.safetensors", folder / "learner-00002-of-00002.safetensors")
    assert checkpoint.verify(folder) == "learner-00002-of-00002.safetensors is not of it"


def test_a_manifest_names_no_file_elsewhere(tmp_path) -> None:
    folder = save(tmp_path, 8, *numbered(8))
    (tmp_path / "x.json").write_text("{}")
    facts = {"../x.json": stored.facts_of(tmp_path / "x.json")}
    stored.seal(folder, images=8, processes=1, groups={}, written=facts)
    assert checkpoint.verify(folder) == "../x.json is missing"


def test_a_part_that_no_process_wrote_is_found_before_the_rename(tmp_path, monkeypatch) -> None:
    write = sharded.write

    def forgetful(folder: Path, snapshot: staging.Snapshot) -> list[Path]:
        return write(folder, staging.Snapshot(**{**vars(snapshot), "items": snapshot.items[1:]}))

    monkeypatch.setattr(sharded, "write", forgetful)
    with pytest.raises(SaveFailed, match="'learner/b' first"):
        save(tmp_path, 8, *numbered(8))
    assert list(tmp_path.iterdir()) == []


# -- what stays --------------------------------------------------------------------------------------------------------


def test_hundreds_of_saves_leave_exactly_what_was_asked_for(tmp_path) -> None:
    told = started(
        "many_saves.py", tmp_path
    )  # in a process of its own: other tests leave threads and handles in this one
    firsts = [next(i for i in range(30, 9001, 30) if i >= multiple) for multiple in range(1000, 9001, 1000)]
    assert there(tmp_path) == sorted({*firsts, 8940, 8970, 9000})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        folder.name for folder in checkpoint.list_folders(tmp_path)
    ]
    assert told["told"] == list(range(30, 9001, 30))
    early, late = told["early"], told["late"]
    assert late["handles"] == early["handles"], "handles are left open"
    assert late["threads"] == early["threads"], "threads are left"
    assert late["mb"] - early["mb"] < 100, "250 saves of 1 MB left memory behind"


def test_the_one_just_written_stays_also_among_ones_of_more_images(tmp_path) -> None:
    for images in (72, 96, 48):
        save(tmp_path, images, *numbered(images), keep=2)
    assert sound(tmp_path) == [48, 96]
    assert there(tmp_path) == [48, 96]


@pytest.mark.parametrize("harm", ["cut", "manifest"])
def test_a_broken_one_is_not_counted_among_those_kept(tmp_path, harm) -> None:
    for images in (1, 2):
        save(tmp_path, images, *numbered(images), keep=2)
    broken = checkpoint.list_folders(tmp_path)[-1]
    if harm == "cut":
        next(broken.glob("*.safetensors")).write_bytes(b"")
    else:
        (broken / "MANIFEST.json").write_text("{")
    save(tmp_path, 3, *numbered(3), keep=2)
    assert sound(tmp_path) == [1, 3]


def test_what_a_killed_save_left_is_cleared_and_what_it_moved_aside_comes_back(tmp_path) -> None:
    folder = save(tmp_path, 5, *numbered(5))
    (tmp_path / ".000000000009.4194304-0123abcd.tmp").mkdir()
    folder.rename(tmp_path / ".000000000005.4194304-0123abcd.old")
    assert checkpoint.newest(tmp_path) == folder
    assert sound(tmp_path) == [5]
    (tmp_path / ".000000000009.4194304-0123abcd.tmp").mkdir()
    save(tmp_path, 6, *numbered(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000005", "000000000006"], (
        "the next save clears up too"
    )


def test_a_callback_that_fails_takes_no_checkpoint_with_it(tmp_path, caplog) -> None:
    def fails(folder: Path) -> None:
        raise KeyError("upload")

    Checkpoints(tmp_path, keep_last=2, on_saved=fails).save(8, *numbered(8))
    assert sound(tmp_path) == [8]
    assert "what was to follow it failed" in caplog.text


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_disk_that_fills_at_any_moment_leaves_what_was_there(tmp_path, monkeypatch, asynchronous) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2, asynchronous=asynchronous)
    for images in (8, 16):
        checkpoints.save(images, *numbered(images))
    checkpoints.wait()
    fsync, flushes, full_at = os.fsync, 0, 0

    def flush(handle: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == full_at:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    while flushes >= full_at:
        flushes, full_at = 0, full_at + 1
        images = 16 + full_at
        try:
            checkpoints.save(images, *numbered(images))
            checkpoints.wait()
        except SaveFailed as error:
            assert "No space left" in error.what and error.where and error.why and error.do
            left = sound(tmp_path)
            assert len(left) >= 2 and left[-1] >= 16
    assert full_at > 5
    assert sound(tmp_path)[-1] == images


def test_room_is_asked_for_before_anything_is_written(tmp_path, monkeypatch) -> None:
    tensors, state = numbered(8)
    size = sum(t.numel() * t.element_size() for values in tensors.values() for t in values.values())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(1.1 * size) - 1))
    with pytest.raises(SaveFailed, match=f"needs {int(1.1 * size):,} bytes and {int(1.1 * size) - 1:,} are free"):
        save(tmp_path, 8, tensors, state)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(1.1 * size)))
    save(tmp_path, 8, tensors, state)
    assert sound(tmp_path) == [8]


def test_a_failure_in_the_background_is_told_once_and_loses_no_occasion(tmp_path, monkeypatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2, asynchronous=True)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    checkpoints.save(8, *numbered(8))
    assert checkpoints.resume_from() is None, "looking for a checkpoint is no place to hear of it"
    monkeypatch.undo()
    with pytest.raises(SaveFailed, match="no room"):
        checkpoints.save(16, *numbered(16))
    checkpoints.wait()
    assert sound(tmp_path) == [16]
    checkpoints.save(24, *numbered(24))
    checkpoints.wait()
    monkeypatch.setattr(sharded, "write", lambda *_: 1 / 0)
    checkpoints.save(32, *numbered(32))
    with pytest.raises(ZeroDivisionError):  # a bug is no full disk
        checkpoints.save(40, *numbered(40))
    checkpoints.wait()
    assert there(tmp_path) == [16, 24]


@pytest.mark.parametrize("harm", ["read-only", "a file in its place"])
def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch, harm) -> None:
    root = tmp_path / "run" / "checkpoints"
    save(root, 8, *numbered(8))
    if harm == "read-only":  # by the call that a read-only file system refuses, as root is refused nothing else
        mkdir = Path.mkdir

        def refuse(path: Path, *arguments, **options) -> None:
            if path.name.startswith("."):
                raise OSError(30, "Read-only file system", str(path))
            mkdir(path, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        root.rename(tmp_path / "away")
        root.write_text("")
    with pytest.raises(SaveFailed, match="could not be written") as caught:
        save(root, 16, *numbered(16))
    assert str(root) in caught.value.where
    if harm == "read-only":
        monkeypatch.undo()
        assert sound(root) == [8]
    else:
        assert sound(tmp_path / "away") == [8]
        assert checkpoint.newest(root) is None


def test_a_folder_that_vanished_is_made_again(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=2, asynchronous=True)
    checkpoints.save(8, *numbered(8))
    checkpoints.wait()
    shutil.rmtree(tmp_path / "checkpoints")
    checkpoints.save(16, *numbered(16))
    checkpoints.close()
    assert sound(tmp_path / "checkpoints") == [16]


def test_a_slow_rename_shows_nothing_half(tmp_path, monkeypatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=1, asynchronous=True)
    checkpoints.save(8, *numbered(8))
    checkpoints.wait()
    arrived, release, replace = threading.Event(), threading.Event(), os.replace

    def slow(source, target) -> None:
        if Path(target).name == "000000000016":
            arrived.set()
            assert release.wait(120)
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
    folder = checkpoints.save(16, *numbered(16))
    assert arrived.wait(120)
    assert checkpoint.newest(tmp_path) == tmp_path / "000000000008", "and it sweeps nothing of a living writer"
    waiting = threading.Thread(target=checkpoints.save, args=(24, *numbered(24)))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive(), "a second save waits for the first"
    assert not folder.exists()
    release.set()
    waiting.join()
    checkpoints.wait()
    assert sound(tmp_path) == [24]


# -- several processes, and their deaths -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_save_can_be_killed_at_every_point(tmp_path) -> None:
    told = started("killed_saves.py", tmp_path)
    assert min(told["points"].values()) >= 30
    assert told["inside"] >= 3


@pytest.mark.slow
def test_what_any_number_of_processes_wrote_any_other_reads(tmp_path) -> None:
    from sharded_processes import state

    one = state(3, None)
    save(tmp_path / "one", 8, one, {})
    assert started("sharded_processes.py", tmp_path) == {"done": True}
    truth = load_file(tmp_path / "truth.safetensors")
    for folder in checkpoint.list_folders(tmp_path / "two"):  # two processes, FSDP2; at once, and in the background
        loaded, said = checkpoint.load(folder)
        flat = {f"{group}/{name}": value for group, values in loaded.items() for name, value in values.items()}
        assert same_bits({"": flat}, {"": truth}) and said == {"by": 0}
    assert there(tmp_path / "two") == [8, 16]
    wrote = {}
    for folder in checkpoint.list_folders(tmp_path / "again"):  # one -> FSDP2 on two, DDP on two, HSDP on four -> one
        assert same_bits(checkpoint.load(folder)[0], one)
        shards = [load_file(path) for path in folder.glob("*.safetensors")]
        wrote[int(folder.name)] = sum(value.nbytes for shard in shards for value in shard.values())
    size = sum(value.nbytes for values in one.values() for value in values.values())
    assert wrote == {16: size, 24: size, 32: size}, "every piece is written once"
    first = [load_file(path) for path in (tmp_path / "again" / "000000000024").glob("*-00001-of-00002.safetensors")]
    share = sum(value.nbytes for shard in first for value in shard.values()) / size
    assert 0.4 < share < 0.6, "of what both hold, each writes a half"
    assert [path.name for path in (tmp_path / "dies").iterdir()] == ["000000000008"]
    assert [path.name for path in sorted((tmp_path / "fails").iterdir())] == ["000000000008", "000000000024"]
