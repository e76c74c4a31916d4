"""The loop is exact: accumulation, resume and the number of processes change nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from animeflow.core import files
from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.train import checkpoint, outcome, run_state
from animeflow.train.incidents import Diverged
from animeflow.train.run_state import require_same_run
from animeflow.train.settings import Guard, Progress, Settings
from animeflow.train.telemetry import Telemetry
from animeflow.train.totals import Totals
from animeflow.train.tracker import Tracker

sys.path.insert(0, str(Path(__file__).parent))
from toy import trainer


def final(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    return checkpoint.load(newest)[0]


def same(a, b, *, exact: bool) -> None:
    assert a.keys() == b.keys()
    for group in a:
        assert a[group].keys() == b[group].keys()
        for name in a[group]:
            if exact:
                assert torch.equal(a[group][name], b[group][name]), name
            else:
                torch.testing.assert_close(a[group][name], b[group][name], rtol=2e-5, atol=2e-6, msg=name)


def lines_of(folder: Path) -> list[dict]:
    """The lines of a run without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def incidents_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "incidents.jsonl").read_text().splitlines()]


def test_two_micro_batches_of_four_train_as_one_of_eight(tmp_path) -> None:
    trainer(tmp_path / "whole", images=80, micro_batch=8).run()
    trainer(tmp_path / "halves", images=80, micro_batch=4).run()
    same(final(tmp_path / "whole"), final(tmp_path / "halves"), exact=False)


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


def test_every_part_follows_the_schedule_from_its_own_peak_and_is_named_in_log_and_lines(tmp_path, caplog) -> None:
    with caplog.at_level("INFO", logger="animeflow"):
        run = trainer(tmp_path, images=32, rates={"text": 1e-3}, settings={"log_every_images": 8})
        run.run()
    for line in lines_of(tmp_path):
        factor = min(1, (line["images"] - 8 + 1) / 16)  # of the step that ended here, with 16 images of warm-up
        assert line["optim/lr"] == pytest.approx(1e-2 * factor)
        assert line["optim/lr/text"] == pytest.approx(1e-3 * factor)
    assert "all others: 148 parameters at a peak learning rate of 0.01" in caplog.text
    assert "text: 16 parameters at a peak learning rate of 0.001" in caplog.text
    assert "frozen" not in caplog.text


def test_a_frozen_part_keeps_its_bits_and_costs_no_moment_and_no_average(tmp_path, caplog) -> None:
    with caplog.at_level("INFO", logger="animeflow"):
        run = trainer(tmp_path, images=48, frozen=["text"])
        before = {name: value.clone() for name, value in run.learner.state_dict().items()}
        run.run()
    saved = final(tmp_path)
    for name, value in before.items():
        assert torch.equal(saved["learner"][name], value) == name.startswith("text")
    assert run.learner.text.weight.grad is None
    assert set(saved["ema-0.100"]) == {"conv.weight", "conv.bias"}
    assert {name.split("/")[0] for name in saved["optimizer"]} == {"conv.weight", "conv.bias"}
    assert "frozen: 16 parameters" in caplog.text
    again = trainer(tmp_path, images=96, frozen=["text"])
    assert again.resume()
    again.run()
    assert torch.equal(again.learner.text.weight, before["text.weight"])


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


def test_a_non_finite_loss_is_counted_and_harms_no_later_average(tmp_path) -> None:
    trainer(tmp_path, images=64, poison=2).run()
    lines = lines_of(tmp_path)
    assert sum(line["train/nonfinite_images"] for line in lines) == 1
    assert all(line["train/loss"] is not None and line["train/loss_ema"] is not None for line in lines)


def test_a_window_without_one_finite_loss_has_no_mean_and_leaves_the_average(tmp_path) -> None:
    telemetry = Telemetry(torch.device("cpu"))
    for loss in (1.0, float("nan"), 3.0):
        losses = [(torch.tensor([loss]), torch.tensor([0.5]))]
        one = Totals.of(losses, norm=torch.tensor(1.0), wishes=(), sum_up=lambda values: values)
        telemetry.add(one, images=2000, wait_s=0.0)
        values = telemetry.flush()
        if loss != loss:
            assert values["train/loss"] != values["train/loss"]
            assert values["train/loss_ema"] == 1.0
    assert values["train/loss_ema"] == pytest.approx(2.0)


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


def test_a_rhythm_of_0_means_only_at_the_end(tmp_path) -> None:
    trainer(tmp_path, images=64, settings={"log_every_images": 0, "checkpoint_every_images": 0}).run()
    assert [line["images"] for line in lines_of(tmp_path)] == [64]
    assert [int(f.name) for f in checkpoint.list_folders(tmp_path / "checkpoints")] == [64]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 0),
        ("clip", -1.0),
        ("clip", float("nan")),
        ("sharding", "fsdp"),
        ("activation_memory", "some"),
        ("keep_every_images", -1),
        ("replicas", 0),
        ("log_every_images", -1),
        ("checkpoint_every_images", -1),
        ("keep_checkpoints", 0),
        ("device", "gpu"),
        ("precision", "int8"),
    ],
)
def test_a_setting_that_makes_no_run_is_refused_by_name(name, value) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{"images": 1, name: value})
    assert caught.value.where == f"train.{name}"
    assert caught.value.do


def test_cuda_without_a_device_is_refused_instead_of_training_on_the_cpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        trainer(tmp_path, images=8, settings={"device": "cuda"})


def test_time_in_hooks_and_saves_is_not_training_time(tmp_path, monkeypatch) -> None:
    class Slow:
        name, every_images = "slow", 16

        def __call__(self, run):
            time.sleep(0.3)
            return {}

    run = trainer(tmp_path, images=48, hooks=[Slow()])
    started = time.perf_counter()
    run.run()
    whole = time.perf_counter() - started
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["time/hooks_seconds"] >= 0.3 for line in lines)
    training = sum(16 / line["time/images_per_second"] for line in lines)
    assert training < whole - 4 * 0.3, "hooks ran at 0, 16, 32 and 48 images"


def test_training_lowers_the_loss(tmp_path) -> None:
    trainer(tmp_path, images=1600).run()
    losses = [json.loads(line)["train/loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]


def test_bf16_autocast_keeps_float32_masters_and_optimizer_state(tmp_path) -> None:
    run = trainer(tmp_path, images=16, precision="bf16")
    run.run()
    assert {p.dtype for p in run.learner.parameters()} == {torch.float32}
    assert {v.dtype for v in final(tmp_path)["optimizer"].values()} == {torch.float32}


def test_updates_of_a_hundred_thousandth_of_a_weight_are_not_lost_under_bf16(tmp_path) -> None:
    """A bf16 weight of 1 moves in steps of 1/128: a thousand updates of 1e-5 would leave it where it was."""
    run = trainer(tmp_path, images=800, precision="bf16", rates={"conv": 1e-5})
    with torch.no_grad():
        run.learner.conv.bias.fill_(1.0)
    run.run()
    moved = (run.learner.conv.bias - 1).abs()
    assert (moved > 1e-4).all() and (moved < 1 / 256).all()
    assert torch.equal(run.learner.conv.bias.bfloat16(), torch.ones(4, dtype=torch.bfloat16)), (
        "as bf16 nothing has moved"
    )


def test_fp16_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"train\.precision=bf16"):
        Settings(images=1, precision="fp16")


def test_a_non_finite_step_is_skipped_and_its_pictures_named(tmp_path, caplog) -> None:
    run = trainer(tmp_path, images=24, poison=2)
    with caplog.at_level("WARNING", logger="animeflow"):
        run.run()
    assert run.progress.skipped_steps == 1
    assert run.progress.images_seen == 24
    assert all(torch.isfinite(p).all() for p in run.learner.parameters())
    assert "no finite loss for 1 of 8 pictures" in caplog.text


def test_one_spike_is_skipped_and_three_in_a_row_lead_back_past_them(tmp_path, caplog) -> None:
    loud = {45: 6.0, 60: 6.0, 61: 6.0, 62: 6.0}
    guard = Guard(spike="rollback", max_share=0.5)
    options = {"images": 600, "loud": loud, "settings": {"guard": guard, "checkpoint_every_images": 40}}
    run = trainer(tmp_path / "whole", **options)
    with caplog.at_level("WARNING", logger="animeflow"):
        run.run()
    assert run.progress.rollbacks == 1
    assert run.progress.passed_over == [59, 60, 61], "steps are counted from 0"
    assert run.progress.images_seen == 600
    lines = [json.loads(line) for line in (tmp_path / "whole" / "incidents.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [44], "those that were gone back over are done again, without them"
    assert len(lines[0]["pictures"]) == 8 and lines[0]["skipped"]
    assert "steps 59 to 61 are passed over" in caplog.text

    seen = final(tmp_path / "whole")["ledger"]["seen"].sum()
    assert int(seen) == 600 - 3 * 8, "what was gone back over is not counted twice, and what was passed over not at all"
    assert [line["images"] for line in lines_of(tmp_path / "whole")] == [*range(16, 600, 16), 600]


@pytest.mark.parametrize("die_at", [440, 480, 488, 520])
def test_a_run_that_is_killed_around_the_way_back_takes_the_same_way(tmp_path, die_at) -> None:
    """480 is the newest checkpoint when the third spike comes, 472 the last image before them, 496 the first after."""
    loud = {60: 6.0, 61: 6.0, 62: 6.0}
    guard = Guard(spike="rollback", max_share=0.5)
    options = {"images": 560, "loud": loud, "settings": {"guard": guard, "checkpoint_every_images": 8}}
    trainer(tmp_path / "whole", **options).run()
    killed = trainer(tmp_path / "parts", **options)
    save = killed.save

    def save_and_die(**more: bool) -> None:
        save(**more)
        killed.keeper.finish()
        if killed.progress.images_seen == die_at:
            raise KeyboardInterrupt

    killed.save = save_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = trainer(tmp_path / "parts", **options)
    assert again.resume() and again.progress.images_seen == die_at
    again.run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "parts")
    assert incidents_of(tmp_path / "whole") == incidents_of(tmp_path / "parts")


def test_spikes_in_the_last_steps_lead_back_too(tmp_path) -> None:
    guard = Guard(spike="rollback", max_share=0.5)
    loud = {48: 8.0, 49: 8.0, 50: 8.0}
    run = trainer(tmp_path, images=400, loud=loud, settings={"guard": guard, "checkpoint_every_images": 40})
    run.run()
    assert run.progress.rollbacks == 1
    assert int(checkpoint.newest(tmp_path / "checkpoints").name) == 400, "and what is saved at the end is whole"


def test_spikes_without_a_checkpoint_before_them_do_not_end_the_run_unsaved(tmp_path, caplog) -> None:
    guard = Guard(spike="rollback", max_share=0.5)
    loud = {48: 8.0, 49: 8.0, 50: 8.0}
    run = trainer(tmp_path, images=400, loud=loud, settings={"guard": guard, "checkpoint_every_images": 0})
    run.run()
    assert run.progress.rollbacks == 0
    assert "no checkpoint before them" in caplog.text
    assert int(checkpoint.newest(tmp_path / "checkpoints").name) == 400


def test_steps_without_a_number_in_a_row_lead_back_too_and_keep_the_good_checkpoints(tmp_path) -> None:
    loud = {step: float("nan") for step in (48, 49, 50)}
    options = {"images": 480, "loud": loud}
    rhythm = {"checkpoint_every_images": 40, "keep_checkpoints": 1}
    run = trainer(tmp_path / "back", **options, settings={**rhythm, "guard": Guard(spike="rollback", max_share=0.5)})
    run.run()
    assert (run.progress.rollbacks, run.progress.passed_over) == (1, [47, 48, 49])

    ruined = dict.fromkeys(range(48, 61), float("nan"))
    run = trainer(tmp_path / "ruined", images=480, loud=ruined, settings=rhythm)
    with pytest.raises(Diverged):
        run.run()
    run.keeper.finish()  # a process that ends waits for what it began
    kept = [int(folder.name) for folder in checkpoint.list_folders(tmp_path / "ruined" / "checkpoints")]
    assert kept == [360], "none of those that came while step after step was left out"


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path) -> None:
    first = trainer(tmp_path, images=24)
    first.start_anew()
    with pytest.raises(ConfigError, match=r"in use by .*process"):
        trainer(tmp_path, images=24).resume()
    first.run()
    again = trainer(tmp_path, images=48)
    assert again.resume(), "a run that has ended holds nothing"
    again.run()


def test_half_a_line_of_incidents_is_dropped(tmp_path) -> None:
    trainer(tmp_path, images=24, poison=2).run()
    whole = (tmp_path / "incidents.jsonl").read_text()
    (tmp_path / "incidents.jsonl").write_text(whole + '{"step": 2, "ima')
    run = trainer(tmp_path, images=48, poison=2)
    assert run.resume()
    assert (tmp_path / "incidents.jsonl").read_text() == whole


def test_a_hook_that_cannot_write_ends_no_run(tmp_path, caplog) -> None:
    class Full:
        name, every_images = "samples", 16

        def __call__(self, run):
            raise OSError(28, "No space left on device")

    run = trainer(tmp_path, images=48, hooks=[Full()])
    run.run()
    assert run.progress.images_seen == 48
    assert "samples could not be written" in caplog.text
    trainer(tmp_path / "b", images=48).run()
    same(final(tmp_path), final(tmp_path / "b"), exact=True)


def test_what_a_person_can_act_on_is_not_hidden_by_another_process_that_fails_after(tmp_path) -> None:
    outcome.write(tmp_path, outcome.FAILED, Progress(), rank=0, error=ConfigError("the disk is gone"))
    outcome.write(tmp_path, outcome.FAILED, Progress(), rank=1, error=RuntimeError("connection closed by peer"))
    assert files.read_json(tmp_path / "EXIT.json")["exit_code"] == 2
    outcome.write(tmp_path, outcome.FINISHED, Progress(), exit_code=0)
    assert files.read_json(tmp_path / "EXIT.json")["reason"] == "finished"


def test_a_run_that_keeps_going_back_stops(tmp_path) -> None:
    loud = {step: 8.0 for first in (45, 60) for step in range(first, first + 3)}
    guard = Guard(spike="rollback", rollbacks=1, max_share=0.5)
    run = trainer(tmp_path, images=600, loud=loud, settings={"guard": guard, "checkpoint_every_images": 40})
    with pytest.raises(Diverged, match="gone back 1 times"):
        run.run()
    assert files.read_json(tmp_path / "EXIT.json")["reason"] == "diverged"


def test_a_skipped_step_leaves_weights_and_moments_as_they_were(tmp_path) -> None:
    run, state = trainer(tmp_path, images=24, poison=2), []
    step = run.step

    def watched(micro_batches):
        before = {n: t.clone() for g in run_state.tensors(run).values() for n, t in g.items() if "/" in n or "." in n}
        result = step(micro_batches)
        after = {n: t.clone() for g in run_state.tensors(run).values() for n, t in g.items() if "/" in n or "." in n}
        state.append(before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before))
        return result

    run.step = watched
    run.run()
    assert state == [False, True, False]


def test_too_many_skipped_steps_end_the_run(tmp_path) -> None:
    run = trainer(tmp_path, images=800)
    run.steps.loud = dict.fromkeys(range(1, 100), float("nan"))
    with pytest.raises(Diverged, match="11 of 1"):
        run.run()


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


def test_the_ledger_of_a_run_counts_every_visit(tmp_path) -> None:
    trainer(tmp_path, images=144).run()  # six epochs of 24 pictures, of which a chunk of 8 takes parts
    table = pq.read_table(tmp_path / "ledger.parquet").to_pydict()
    assert table["times_seen"] == [6] * 24
    assert len(set(table["uid"])) == 24


def test_a_run_folder_of_other_settings_is_not_continued(tmp_path) -> None:
    trainer(tmp_path, images=24, identity={"optim.lr": 0.01}).run()
    with pytest.raises(ConfigError, match=r"optim.lr: 0.01 there, 0.02 here"):
        trainer(tmp_path, images=24, identity={"optim.lr": 0.02}).resume()


def test_hooks_see_the_average_and_leave_the_weights(tmp_path) -> None:
    seen = []

    class Hook:
        name, every_images = "probe", 16

        def __call__(self, run):
            seen.append((run.progress.images_seen, run.learner.conv.weight.clone()))
            return {"probe/x": 1.0}

    with_hook = trainer(tmp_path / "a", images=48, hooks=[Hook()])
    with_hook.run()
    trainer(tmp_path / "b", images=48).run()
    assert [images for images, _ in seen] == [0, 16, 32, 48]
    same(final(tmp_path / "a"), final(tmp_path / "b"), exact=True)
    torch.testing.assert_close(seen[-1][1], final(tmp_path / "a")["ema-0.100"]["conv.weight"])


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


def _launch(processes: int, *arguments: str) -> str:
    """Through torchrun, on the CPU with gloo. Returns what was logged."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(Path(__file__).parent / "two_processes.py"), *arguments],
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def _two(folder: Path, images: int, stop: int, **options: object) -> str:
    return _launch(2, str(folder), str(images), str(stop), json.dumps({"sharding": "none", **options}))


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_processes_train_as_one_and_resume_bit_for_bit(tmp_path, sharding) -> None:
    """Gradients are accumulated over two micro-batches on each."""
    trainer(tmp_path / "one", images=48, micro_batch=4).run()
    _two(tmp_path / "two", 48, 48, sharding=sharding)
    same(final(tmp_path / "one"), final(tmp_path / "two"), exact=False)
    _two(tmp_path / "parts", 48, 24, sharding=sharding)
    _two(tmp_path / "parts", 48, 48, sharding=sharding)
    same(final(tmp_path / "two"), final(tmp_path / "parts"), exact=True)


@pytest.mark.slow
def test_a_process_that_computes_slower_than_the_other_is_named(tmp_path) -> None:
    """Whole steps take both equally long: they meet in each."""
    told = _two(tmp_path / "slow", 160, 160, slow=0.05)
    assert "rank 1 is slow for 3 windows: steps of" in told
    assert "rank 0 is slow" not in told


@pytest.mark.slow
def test_two_sharded_processes_in_bf16_train_as_one_within_its_rounding(tmp_path) -> None:
    trainer(tmp_path / "one", images=48, precision="bf16").run()
    _two(tmp_path / "two", 48, 48, sharding="fsdp2", precision="bf16")
    one, two = lines_of(tmp_path / "one"), lines_of(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-3)
        assert a["train/grad_norm"] == pytest.approx(b["train/grad_norm"], rel=2e-2)
    assert final(tmp_path / "two")["learner"]["conv.weight"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_processes_skip_and_go_back_as_one_does(tmp_path, sharding) -> None:
    options = {"poison": 20, "loud": {45: 6.0, 60: 6.0, 61: 6.0, 62: 6.0}}
    more = {"guard": {"spike": "rollback", "max_share": 0.5}, "checkpoint_every_images": 40}
    settings = {**more, "guard": Guard(**more["guard"])}
    trainer(tmp_path / "one", images=600, settings=settings, **options).run()
    _two(tmp_path / "two", 600, 600, sharding=sharding, **options, **more)
    for told, expected in zip(incidents_of(tmp_path / "two"), incidents_of(tmp_path / "one"), strict=True):
        assert (told["step"], told["kind"], told["skipped"]) == (
            expected["step"],
            expected["kind"],
            expected["skipped"],
        )
        assert {p["uid"] for p in told["pictures"]} == {p["uid"] for p in expected["pictures"]}, "of both processes"
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert torch.equal(one["ledger"]["seen"], two["ledger"]["seen"])
    state = checkpoint.load_state(checkpoint.newest(tmp_path / "two" / "checkpoints"))
    assert state["progress"]["rollbacks"] == 1
    for name, weight in one["learner"].items():
        torch.testing.assert_close(two["learner"][name], weight, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_another_sharding(tmp_path) -> None:
    """One process, then two sharded ones, then one again: the same batches, noise and counts; weights equal to rounding."""
    trainer(tmp_path / "one", images=72, micro_batch=4).run()
    first = trainer(tmp_path / "elastic", images=72, micro_batch=4)
    first.settings = replace(first.settings, images=24)
    first.run()
    _two(tmp_path / "elastic", 72, 48, sharding="fsdp2")
    last = trainer(tmp_path / "elastic", images=72, micro_batch=4)
    assert last.resume() and last.progress.images_seen == 48
    last.run()
    one, elastic = final(tmp_path / "one"), final(tmp_path / "elastic")
    same(one, elastic, exact=False)
    assert torch.equal(one["ledger"]["seen"], elastic["ledger"]["seen"]), "every picture as often"
    torch.testing.assert_close(one["ledger"]["scores"], elastic["ledger"]["scores"], rtol=1e-3, atol=1e-3)
    # At what t every picture was seen: exactly, since no number of processes changes a draw.
    assert torch.equal(one["ledger"]["counts"], elastic["ledger"]["counts"])


def test_a_setting_that_was_off_and_is_no_longer_written_makes_no_other_run(tmp_path) -> None:
    require_same_run({"lr": 1.0, "dropout": 0.0}, {"lr": 1.0}, tmp_path)
    with pytest.raises(ConfigError, match=r"dropout: 0\.1 there, None here"):
        require_same_run({"lr": 1.0, "dropout": 0.1}, {"lr": 1.0}, tmp_path)
