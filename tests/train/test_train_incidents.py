"""What goes wrong in a run is skipped, gone back over or told, and the run is what it would have been without it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from animeflow.core import files
from animeflow.core.errors import ConfigError
from animeflow.train import checkpoint, outcome, run_state
from animeflow.train.incidents import Diverged
from animeflow.train.settings import Guard, Progress
from animeflow.train.telemetry import Telemetry
from animeflow.train.totals import Totals

sys.path.insert(0, str(Path(__file__).parent))
from run_files import final, incidents_of, lines_of, same
from toy import trainer


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
