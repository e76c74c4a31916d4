"""A run that was stopped, killed or resumed ends as the one that nobody touched; its folder belongs to it alone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from animeflow.core import files
from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.train import checkpoint
from animeflow.train.run_state import require_same_run
from animeflow.train.settings import Settings
from animeflow.train.tracker import Tracker

sys.path.insert(0, str(Path(__file__).parent))
from run_files import final, lines_of, same
from toy import trainer


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path) -> None:
    trainer(tmp_path / "whole", images=96).run()
    stopped = trainer(tmp_path / "parts", images=96)
    stopped.settings = Settings(
        **{**vars(stopped.settings), "images": 48}
    )  # as a kill after the checkpoint at 48 leaves it
    stopped.run()
    again = trainer(tmp_path / "parts", images=96)
    assert again.resume()
    assert again.progress.images_seen == 48
    again.run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)
    lines = lines_of(tmp_path / "parts")
    seen = [line["images"] for line in lines if "train/loss" in line]
    assert seen == sorted(set(seen)), "no line is there twice"


def test_a_resumed_run_with_a_rate_per_part_is_the_uninterrupted_one(tmp_path) -> None:
    options = {"images": 96, "rates": {"text": 1e-3}}
    trainer(tmp_path / "whole", **options).run()
    stopped = trainer(tmp_path / "parts", **options)
    stopped.settings = Settings(**{**vars(stopped.settings), "images": 48})
    stopped.run()
    again = trainer(tmp_path / "parts", **options)
    assert again.resume() and again.progress.images_seen == 48
    again.run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)
    assert lines_of(tmp_path / "whole")[-1] == lines_of(tmp_path / "parts")[-1]
    trainer(tmp_path / "one_rate", images=96).run()
    assert not torch.equal(
        final(tmp_path / "one_rate")["learner"]["text.weight"], final(tmp_path / "whole")["learner"]["text.weight"]
    )


def test_a_run_resumed_between_two_log_lines_logs_what_the_uninterrupted_one_does(tmp_path) -> None:
    trainer(tmp_path / "whole", images=96, poison=2).run()
    killed = trainer(tmp_path / "parts", images=96, poison=2)
    save = killed.save

    def save_and_die(**options: bool) -> None:
        save(**options)
        killed.keeper.finish()
        raise KeyboardInterrupt

    killed.save = save_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = trainer(tmp_path / "parts", images=96, poison=2)
    assert again.resume()
    assert again.progress.images_seen == 24, "the line at 32 is made of steps before and after"
    again.run()
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    assert [line["images"] for line in lines_of(tmp_path / "parts")] == [16, 32, 48, 64, 80, 96]


def test_a_new_run_does_not_begin_in_the_folder_of_another(tmp_path) -> None:
    trainer(tmp_path, images=96).run()
    with pytest.raises(ConfigError, match=r"checkpoints up to 96 images[^$]*train\.resume=true"):
        trainer(tmp_path, images=48).start_anew()
    assert [f.name for f in checkpoint.list_folders(tmp_path / "checkpoints")] == ["000000000072", "000000000096"]


def test_a_new_run_forgets_the_lines_of_one_that_left_no_checkpoint(tmp_path) -> None:
    Tracker(tmp_path).log(16, 2, {"train/loss": 5.0})
    run = trainer(tmp_path, images=16)
    run.start_anew()
    run.run()
    assert [line["images"] for line in lines_of(tmp_path)] == [16]
    assert lines_of(tmp_path)[0]["train/loss"] != 5.0


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path) -> None:
    first = trainer(tmp_path, images=24)
    first.start_anew()
    with pytest.raises(ConfigError, match=r"in use by .*process"):
        trainer(tmp_path, images=24).resume()
    first.run()
    again = trainer(tmp_path, images=48)
    assert again.resume(), "a run that has ended holds nothing"
    again.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_a_code_that_says_so(tmp_path, number) -> None:
    class Send:
        name, every_images = "send", 40

        def __call__(self, run):
            if run.progress.images_seen == 40:
                os.kill(os.getpid(), number)
            return {}

    run = trainer(tmp_path / "parts", images=96, hooks=[Send()])
    before = signal.getsignal(number)
    run.run()
    assert run.stopped and 40 < run.progress.images_seen <= 56
    assert run.exit_code == (130 if number is signal.SIGINT else 75)
    told = files.read_json(tmp_path / "parts" / "EXIT.json")
    assert (told["reason"], told["exit_code"], told["images"]) == ("preempted", run.exit_code, run.progress.images_seen)
    assert int(checkpoint.newest(tmp_path / "parts" / "checkpoints").name) == run.progress.images_seen
    assert signal.getsignal(number) is before

    again = trainer(tmp_path / "parts", images=96)
    assert again.resume()
    again.run()
    assert again.exit_code == 0 and files.read_json(tmp_path / "parts" / "EXIT.json")["reason"] == "finished"
    trainer(tmp_path / "whole", images=96).run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)


def test_a_save_that_fails_is_told_and_tried_again(tmp_path, caplog, monkeypatch) -> None:
    run, save, tries = trainer(tmp_path, images=96), checkpoint.Checkpoints.save, []

    def full(self, images, tensors, state):
        tries.append(images)
        if images == 48:
            raise checkpoint.SaveFailed("no room")
        return save(self, images, tensors, state)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", full)
    with caplog.at_level("ERROR", logger="animeflow"):
        run.run()
    assert tries == [24, 48, 72, 96]
    assert "no room" in caplog.text
    assert [int(f.name) for f in checkpoint.list_folders(tmp_path / "checkpoints")] == [72, 96]


def test_a_run_folder_of_other_settings_is_not_continued(tmp_path) -> None:
    trainer(tmp_path, images=24, identity={"optim.lr": 0.01}).run()
    with pytest.raises(ConfigError, match=r"optim.lr: 0.01 there, 0.02 here"):
        trainer(tmp_path, images=24, identity={"optim.lr": 0.02}).resume()


class TestCheckpoints:
    def test_a_broken_newest_is_passed_over(self, tmp_path) -> None:
        run = trainer(tmp_path, images=48)
        run.run()
        folders = checkpoint.list_folders(tmp_path / "checkpoints")
        assert [f.name for f in folders] == ["000000000024", "000000000048"]
        file = sorted(folders[-1].glob("*.safetensors"))[0]
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert "not the file" in checkpoint.verify(folders[-1])
        assert checkpoint.newest(tmp_path / "checkpoints") == folders[0]
        with pytest.raises(AnimeflowError, match="broken"):
            checkpoint.load(folders[-1])

    def test_only_the_newest_are_kept(self, tmp_path) -> None:
        for images in (1, 2, 3, 4):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [f.name for f in checkpoint.list_folders(tmp_path)] == ["000000000003", "000000000004"]

    def test_the_one_just_written_stays_also_among_ones_of_more_images(self, tmp_path) -> None:
        for images in (72, 96, 48):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [int(f.name) for f in checkpoint.list_folders(tmp_path)] == [48, 96]

    @pytest.mark.parametrize("harm", ["cut", "manifest"])
    def test_a_broken_one_is_not_counted_among_those_kept(self, tmp_path, harm) -> None:
        for images in (1, 2):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        newest = checkpoint.list_folders(tmp_path)[-1]
        if harm == "cut":
            (newest / "x.safetensors").write_bytes(b"")
        else:
            (newest / "MANIFEST.json").write_text("{")
        checkpoint.save(tmp_path, 3, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [int(f.name) for f in checkpoint.list_folders(tmp_path)] == [1, 3]

    def test_what_a_killed_save_left_is_cleared_and_what_it_moved_aside_comes_back(self, tmp_path) -> None:
        folder = checkpoint.save(tmp_path, 5, {"x": {"w": torch.ones(1)}}, {})
        (tmp_path / ".000000000009.4194304-0123abcd.tmp").mkdir()
        folder.rename(tmp_path / ".000000000005.4194304-0123abcd.old")
        assert checkpoint.newest(tmp_path) == folder
        assert [path.name for path in tmp_path.iterdir()] == ["000000000005"]

    def test_nothing_is_pickled(self, tmp_path) -> None:
        trainer(tmp_path, images=8).run()
        folder = checkpoint.newest(tmp_path / "checkpoints")
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        assert all(load_file(path) for path in folder.glob("*.safetensors"))


def test_a_setting_that_was_off_and_is_no_longer_written_makes_no_other_run(tmp_path) -> None:
    require_same_run({"lr": 1.0, "dropout": 0.0}, {"lr": 1.0}, tmp_path)
    with pytest.raises(ConfigError, match=r"dropout: 0\.1 there, None here"):
        require_same_run({"lr": 1.0, "dropout": 0.1}, {"lr": 1.0}, tmp_path)
