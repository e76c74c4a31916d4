"""The published recipe composes to the published figures; a plan needs neither weights nor pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from animeflow.app import estimate, exposure, memory
from animeflow.app.compose import compose
from animeflow.app.jobs import family_without_files
from animeflow.app.machines import Gpu, read_machines
from animeflow.app.verbs import plan
from animeflow.app.verbs.plan import curve, figures, run_figures
from animeflow.app.wiring import bucket_plan, optim, recipe, train_settings
from animeflow.bench import step
from animeflow.core import files
from animeflow.core.errors import ConfigError
from animeflow.data.index import LATEST, Row, manifest_path, part_path, write_part
from animeflow.flow.density import kohya_sd3_compat
from animeflow.image.bucket import Bucket
from animeflow.optim.adamw import AdamW
from animeflow.optim.schedule import WSD, Constant

H100 = Gpu(memory_gib=79.1, peak_tflops=989.4, price=(2.0, 3.5))


@pytest.fixture(scope="module")
def nekofantasia() -> dict:
    return compose(["experiment=nekofantasia_0_1"])


@pytest.fixture(scope="module")
def facts(nekofantasia) -> dict[str, dict[str, Any]]:
    return figures(nekofantasia)


def test_nekofantasia_is_the_published_recipe(nekofantasia, facts) -> None:
    assert facts["run"]["effective batch"].startswith("176 = 8 processes x ")
    assert facts["run"]["images"] == "1,333,376 in 7,576 optimizer steps"
    assert facts["model"]["family"] == "sd35/medium"
    assert facts["model"]["parameters"]["backbone"] == "2,243,171,520 (trained)"
    assert facts["run"]["precision"] == "bf16"
    optimizer, schedule = optim(nekofantasia)
    assert isinstance(optimizer, AdamW)
    assert isinstance(schedule, Constant)
    sizes = {(bucket.height, bucket.width) for bucket in bucket_plan(nekofantasia)}
    portraits = {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640)}
    assert sizes == portraits | {(width, height) for height, width in portraits}


@pytest.mark.parametrize(("micro", "accumulated"), [(22, 1), (11, 2), (2, 11)])
def test_176_is_8_times_22_however_it_is_cut(micro, accumulated) -> None:
    config = compose(["experiment=nekofantasia_0_1", f"data.loader.micro_batch={micro}"])
    assert run_figures(config)["effective batch"] == f"176 = 8 processes x {micro} x {accumulated} accumulated"
    assert 8 * micro * accumulated == 8 * 22 == config["data"]["loader"]["batch"]


def test_a_batch_that_cannot_be_cut_names_the_numbers_that_can() -> None:
    with pytest.raises(ConfigError, match="micro-batch of 1 or 2 or 11 or 22"):
        figures(compose(["experiment=nekofantasia_0_1", "data.loader.micro_batch=20"]))


@pytest.mark.parametrize(
    "override, says",
    [
        ("train.precision=fp16", "train.precision=bf16"),
        ("data.bucket.kind=nekofantasy", "did you mean 'nekofantasia'"),
        ("+data.bucket.sizes=[100x100]", "unknown setting 'sizes'"),
        ("+recipe.density.meen=1", "did you mean 'mean'"),
        ("+text.shufle=1", "did you mean 'shuffle'"),
    ],
)
def test_a_plan_finds_what_a_run_would_stumble_over(override, says) -> None:
    with pytest.raises(ConfigError, match=says):
        figures(compose(["experiment=nekofantasia_0_1", override]))


def test_the_compat_recipe_is_the_peers_law() -> None:
    made = recipe(compose(["recipe=kohya_sd3_compat"]), patch=2)(torch.nn.Identity())
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(made.density.quantile(u), kohya_sd3_compat().quantile(u))
    assert made.weight(torch.tensor([0.5])).item() == pytest.approx(0.25)


# -- time and money ----------------------------------------------------------------------------------------------------


def test_the_published_run_and_ours_are_the_same_arithmetic(nekofantasia) -> None:
    """1,333,376 pictures in 194 GPU-hours were 1.91 a second and GPU, 6.5 % of the chip; at 45 % they are 28."""
    images = nekofantasia["train"]["images"]
    flops = estimate.picture_flops(family_without_files(nekofantasia), {Bucket(1024, 1024): 1.0})
    theirs = estimate.speed_of(images / (194 * 3600), flops, H100)
    assert round(theirs.images_per_second, 2) == 1.91
    assert round(100 * theirs.mfu, 1) == 6.5
    assert theirs.gpu_hours(images) == pytest.approx(194)
    ours = estimate.speed_at(0.45, flops, H100)
    assert (round(ours.images_per_second, 1), round(ours.gpu_hours(images))) == (13.2, 28)


def test_the_plan_says_so(facts) -> None:
    told = facts["time and money, estimated"]
    assert told["at 45 % of the chip"]["8 x H100"] == (
        "105.6 images/s (13.19 each), 28 GPU-hours in 3 h 30 min, $56 to $98"
    )
    assert told["at other shares of it"]["6.5 %"] == "1.91 images/s each, 194 GPU-hours"
    assert "estimate" in told["what these are"] and read_machines().date in told["what these are"]


def test_recomputing_everything_costs_a_quarter_of_the_speed() -> None:
    options = {"flops": 33.74e12, "images": 10**6, "world": 1}
    machines = read_machines()
    plain, again = (
        estimate.expected(machines, activation_memory=mode, **options)["1 x H100"] for mode in ("none", "full")
    )
    assert plain.startswith("13.2 images/s")
    assert again.startswith("9.9 images/s")


@pytest.mark.parametrize(
    ("hours", "told"),
    [(28.08, "$56 to $98"), (194, "$388 to $679"), (600, "$1,200 to $2,100"), (1.5, "$3.00 to $5.25")],
)
def test_a_price_is_hours_times_a_range(hours, told) -> None:
    assert estimate.money(estimate.price(hours, H100.price)) == told


def test_prices_are_dated_and_the_users_to_edit(tmp_path, monkeypatch) -> None:
    shipped = read_machines()
    assert shipped.date and shipped.source and shipped.gpus["H100"].memory_gib < shipped.gpus["H200"].memory_gib
    text = Path(shipped.file).read_text()
    (tmp_path / "machines.yaml").write_text(
        text.replace("date: 2026-05", "date: 2027-01").replace("[2.0, 3.5]", "[1, 9]")
    )
    monkeypatch.chdir(tmp_path)
    edited = read_machines()
    assert (edited.date, edited.gpus["H100"].price) == ("2027-01", (1, 9))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mfu: 0.45", "mfu: 45", "45 is not a share"),
        ("price: [2.0, 3.5]", "price: [3.5, 2.0]", r"is not \[low, high\]"),
        ("peak_tflops: 989.4, price: [2.5", "peak_tflop: 989.4, price: [2.5", "did you mean 'peak_tflops'"),
        ("gpus:", "cards:", "cannot be read"),
    ],
)
def test_a_broken_file_of_machines_is_told(tmp_path, old, new, says) -> None:
    text = Path(read_machines().file).read_text()
    assert old in text
    (tmp_path / "machines.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=says):
        read_machines(tmp_path)


def test_a_price_of_ones_own_goes_before_the_file() -> None:
    lines = estimate.expected(
        read_machines(), flops=33.74e12, images=1_333_376, world=8, activation_memory="none", price_per_hour=(10, 10)
    )
    assert lines["8 x H100"].endswith("$281 to $281")


# -- memory ------------------------------------------------------------------------------------------------------------


def kinds(**changes: Any) -> dict[str, float]:
    found = memory.Activations(Bucket(1024, 1024), picture=2**30, copies=0.5 * 2**30)
    options = {"shards": 1, "micro_batch": 4, "optimizer": "adamw", "averages": 2, "low": True}
    learner = memory.Counted(parameters=2**30, trainable=2**29, block=2**20)
    return memory.by_kind(learner, found, **{**options, "reserve_gib": 1.5, **changes})


def test_memory_is_counted_by_kind() -> None:
    assert kinds() == {
        "weights, float32": 4, "gradients, float32": 2, "moments of the optimizer": 4, "averages, 2": 4,
        "bf16 copy of the weights": 0.5, "activations of 4 pictures": 4, "reserve": 1.5,
    }  # fmt: skip


def test_sharding_divides_what_every_process_holds_and_nothing_else() -> None:
    whole, shared = kinds(), kinds(shards=8)
    for name in ("weights, float32", "gradients, float32", "moments of the optimizer", "averages, 2"):
        assert shared[name] == whole[name] / 8
    for name in ("activations of 4 pictures", "reserve"):
        assert shared[name] == whole[name]


def test_what_is_recomputed_is_not_kept() -> None:
    config = compose(["experiment=toonworld_smoke"])
    fam, buckets = family_without_files(config), bucket_plan(config).buckets
    kept = {}
    for mode in ("none", "selective", "full"):
        settings = train_settings(compose(["experiment=toonworld_smoke", f"train.activation_memory={mode}"]))
        kept[mode] = memory.activations(fam, buckets, settings).picture
    assert kept["none"] > kept["selective"] > kept["full"] > 0
    assert kept["full"] > kept["none"] / len(fam.outline().blocks()), "one block is whole again on the way back"


def test_large_is_8_billion_and_its_memory_is_told_for_8_gpus() -> None:
    config = compose(["experiment=nekofantasia_0_1", "model=sd35_large", "train.sharding=fsdp2"])
    learner = memory.counted(family_without_files(config))
    assert round(learner.trainable / 1e9, 3) == 8.057
    found = memory.Activations(Bucket(1024, 1024), picture=0, copies=0)
    told = memory.by_kind(
        learner, found, shards=8, micro_batch=1, optimizer="adamw", averages=2, low=True, reserve_gib=0
    )
    states = sum(size for name, size in told.items() if name != "blocks put together")
    assert states * 2**30 == pytest.approx(8.0566e9 * 24 / 8, rel=1e-3), "weights, gradients, two moments, two averages"
    assert told["blocks put together"] * memory.GIB == 2 * 2 * learner.block
    assert learner.block == pytest.approx(learner.trainable / 38, rel=0.05), "one of 38 alike"


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_buckets_of_two_megapixels_are_valid_and_inside_the_position_table() -> None:
    config = compose(
        ["experiment=nekofantasia_0_1", "data/bucket=pixels", "data.bucket.budget=2097152", "data.bucket.max_aspect=4"]
    )
    plan, fam = bucket_plan(config), family_without_files(config)
    assert max(bucket.pixels for bucket in plan) <= 2_097_152 < 1.04 * max(bucket.pixels for bucket in plan)
    assert max(max(bucket.height, bucket.width) for bucket in plan) // 16 <= fam.shape.pos_embed_max_size == 384
    longest = max(plan, key=lambda bucket: max(bucket.height, bucket.width))
    outline = fam.outline()
    latents, text = fam.random_inputs(1, height=longest.height, width=longest.width, tokens=333)
    with torch.no_grad():
        assert outline(latents.to("meta"), torch.empty(1, device="meta"), text.to("meta")).shape == latents.shape


def test_a_size_that_the_network_cannot_take_is_told() -> None:
    config = compose(["experiment=toonworld_smoke"])
    with pytest.raises(ConfigError, match="do not fit a network"):
        memory.activations(family_without_files(config), [Bucket(96, 96), Bucket(64, 1024)], train_settings(config))


# -- exposure ----------------------------------------------------------------------------------------------------------


def test_exposure_is_read_from_a_cache(tmp_path) -> None:
    config = compose(["experiment=toonworld_smoke", f"set={tmp_path}", "train.images=30"])
    assert exposure.exposure(config) == f"neither cache nor shards in {tmp_path} yet"
    folder = tmp_path / "cache" / "sd35"
    folder.mkdir(parents=True)
    for rank in range(2):
        rows = [
            Row(10 * rank + i, "96x96" if i < 3 else "112x96", "val" if i == 4 else "train", "x", ("y",), ("z",))
            for i in range(5)
        ]
        write_part(
            part_path(folder, "h", rank, 2), rows, {"truncated": {"t5": rank}, "texts_encoded": 3, "texts_reused": 2}
        )
    files.write_json(manifest_path(folder, "h"), {"world": 2})
    files.write_json(folder / LATEST, {"hash": "h"})
    found = exposure.exposure(config)
    assert not isinstance(found, str)
    assert found.images == {Bucket(96, 96): 6, Bucket(112, 96): 2}
    assert found.shares() == {Bucket(96, 96): 0.75, Bucket(112, 96): 0.25}
    assert found.visits(30) == 30 / 8
    assert (found.truncated, found.captions) == ({"t5": 1}, 10)

    told = figures(config)
    assert told["exposure"]["visits"].startswith("each picture 3.75 times")
    assert told["exposure"]["buckets"]["96x96"].split() == ["6", "images", "75.0%", "fewer", "than", "a", "chunk"]
    assert told["exposure"]["captions cut, of 10"] == {"t5": "1 (10.0%)"}
    fam = family_without_files(config)
    mean = sum(
        share * fam.work(height=b.height, width=b.width, text_tokens=fam.text_tokens).train
        for b, share in found.shares().items()
    )
    assert estimate.arithmetic(mean) in told["time and money, estimated"]["arithmetic of a picture"]


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_the_curve_shows_warm_up_and_decay() -> None:
    assert curve(Constant(warmup_images=0), 1000, width=4) == "████"
    drawn = curve(WSD(warmup_images=500, decay_share=0.5), 1000, width=9)
    assert drawn[0] == "▁" and drawn[4] == "█" and drawn[-1] == "▁"
    assert list(drawn[:5]) == sorted(drawn[:5]) and list(drawn[4:]) == sorted(drawn[4:], reverse=True)


def test_measured_steps_give_hours(monkeypatch, capsys) -> None:
    config = compose(
        ["experiment=toonworld_smoke", "train.images=7200", "data.loader.batch=4", "data.loader.micro_batch=4",
         "evaluate.price_per_hour=[1.0, 2.0]", "train.processes=2", "data.loader.micro_batch=2"]
    )  # fmt: skip
    asked = []

    def run(job, **options):
        asked.append((job.images, job.micro_batch))
        return {
            "ours": {"images_per_second": 2.0, "peak_memory_gib": None},
            "machine": {"device": "cpu"},
            "job": {"data": "random"},
        }

    monkeypatch.setattr(step, "run", run)
    told = plan.describe(config, measure=True)["time and money, estimated"]["measured on this machine"]
    assert asked == [(2, 2)], "the share of one process"
    assert told["time"] == "1 device-hours in 30 min 0 s (processes: 2)"
    assert told["price"] == "$1.00 to $2.00"
    assert "measured on this machine" in capsys.readouterr().out


def test_the_table_is_readable_on_a_narrow_terminal(facts) -> None:
    out = Console(width=100, file=io.StringIO())
    for title, section in facts.items():
        out.print(plan._table(title, section))
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 100
    for title in ("run", "model", "memory of one process, estimated", "time and money, estimated", "exposure", "files"):
        assert any(line.strip() == title for line in lines)
