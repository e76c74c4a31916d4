"""The step benchmark on tiny networks: sane JSON, and two loops over the same weights that learn the same."""

from __future__ import annotations

import json

import pytest
import torch

from animeflow.app.compose import compose
from animeflow.app.jobs import step_job
from animeflow.bench import machine, step
from animeflow.bench.job import Job
from animeflow.bench.random_data import RandomData, some_sizes
from animeflow.core.errors import ConfigError
from animeflow.image.bucket import BucketPlan

EXPERIMENTS = ["toonworld_smoke", "anima_toonworld_smoke"]
SMALL = ("data.loader.batch=2", "data.loader.micro_batch=1", "train.threads=1", "train.processes=1")


def job(experiment: str, *words: str) -> Job:
    return step_job(compose([f"experiment={experiment}", *SMALL, *words]))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_our_step_and_the_stock_one_learn_the_same(experiment):
    found = step.run(job(experiment), against="stock", rounds=2)
    assert json.loads(json.dumps(found)) == found
    ours, stock = found["ours"], found["stock"]
    sizes = len(found["job"]["sizes"])
    assert len(ours["losses"]) == len(stock["losses"]) == sizes * (step.WARM_UP + 2)
    assert ours["losses"] == pytest.approx(stock["losses"], rel=2e-4)
    assert max(ours["losses"]) - min(ours["losses"]) > 1e-2, "nothing was learned, so nothing was compared"
    for side in (ours, stock):
        assert side["images_per_second"] == pytest.approx(2 / side["seconds_per_step"])
        assert side["mfu"] is None and side["peak_memory_gib"] is None and side["kernels"] is None
        assert 0 < side["share_of_gemm_peak"] < 2
        assert 0 <= side["stall_share"] < 0.5
        assert side["recompiles_after_warmup"] == 0
    pairs = list(zip(stock["seconds_of_rounds"], ours["seconds_of_rounds"], strict=True))
    assert found["ratio"] == pytest.approx(sum(theirs / mine for theirs, mine in pairs) / len(pairs))
    assert ours["attention"]["kernel"] == "torch CPU" and stock["attention"] == "as torch chooses"
    assert found["order"] == "ours and stock, in turns"
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert found["job"]["padding_share"] in (None, 0.0)


def test_two_loops_over_different_weights_do_not_agree(monkeypatch):
    """What the comparison above would say of a peer that computes something else."""
    measured = job(EXPERIMENTS[0])
    plain = measured.family.stock

    def other(backbone):
        with torch.no_grad():
            network = plain(backbone)
            for parameter in network.parameters():
                parameter.mul_(1.1)
        return network

    monkeypatch.setattr(measured.family, "stock", other)
    found = step.run(measured, against="stock", rounds=1)
    assert found["ours"]["losses"] != pytest.approx(found["stock"]["losses"], rel=2e-4)


def test_the_rate_of_arithmetic_is_the_closed_form_over_the_clock():
    measured = job(EXPERIMENTS[0])
    found = step.run(measured, rounds=1)
    tokens = measured.family.text_tokens
    pictures = [measured.family.work(height=b.height, width=b.width, text_tokens=tokens) for b in measured.buckets]
    (seconds,) = found["ours"]["seconds_of_rounds"]
    assert found["ours"]["tflops"] == pytest.approx(2 * sum(work.train for work in pictures) / seconds / 1e12)
    assert "stock" not in found and "ratio" not in found and found["order"] == "ours, alone"


def test_two_that_do_not_fit_together_are_measured_one_after_another(monkeypatch):
    monkeypatch.setattr(step, "_fits_twice", lambda device: False)
    found = step.run(job(EXPERIMENTS[0]), against="stock", rounds=1)
    assert found["order"] == "ours and stock, one after another"
    assert len(found["ours"]["seconds_of_rounds"]) == len(found["stock"]["seconds_of_rounds"]) == 1
    assert found["ours"]["losses"] == pytest.approx(found["stock"]["losses"], rel=2e-4)


def test_every_round_shows_the_same_pictures_with_new_noise():
    measured = job(EXPERIMENTS[0])
    data = RandomData(
        measured.family,
        measured.buckets,
        images=5,
        micro_batch=2,
        tokens=80,
        dtype=torch.float32,
        prepare=measured.recipe(torch.nn.Identity()).prepare,
    )
    first, second, again = data.round(0), data.round(1), data.round(0)
    assert [[len(batch) for batch in batches] for batches in first] == [[2, 2, 1]] * len(measured.buckets)
    flat = [[batch for batches in steps for batch in batches] for steps in (first, second, again)]
    for one, other, same in zip(*flat, strict=True):
        assert torch.equal(one.latents, other.latents) and one.uids == other.uids
        assert not torch.equal(one.draws["noise"], other.draws["noise"])
        assert torch.equal(one.draws["noise"], same.draws["noise"]) and torch.equal(one.draws["t"], same.draws["t"])
        assert one.global_count == 5
    places = [place for batch in first[0] for place in batch.places]
    assert places == list(range(5))


def test_sizes_are_taken_evenly_from_tall_to_wide():
    plan = BucketPlan.tokens()
    taken = some_sizes(plan.buckets)
    assert len(taken) == len(set(taken)) == 9
    assert taken[0].log_aspect == min(b.log_aspect for b in plan)
    assert taken[-1].log_aspect == max(b.log_aspect for b in plan)
    assert set(some_sizes(BucketPlan.nekofantasia().buckets)) == set(BucketPlan.nekofantasia())


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA A100-SXM4-80GB", 312),
    ],
)
def test_peaks_are_known_by_name(name, tera):
    assert machine.peak_flops(name) == tera * 1e12


def test_an_unknown_device_has_no_peak_and_the_facts_need_no_gpu():
    assert machine.peak_flops("Graphics 3000") is None
    assert machine.peak_flops(machine.device_name(torch.device("cpu"))) is None
    facts = machine.facts(torch.device("cpu"))
    assert facts["device"] == "cpu" and facts["cores"] >= 1 and facts["cpu"]
    assert machine.gemm_peak(torch.device("cpu"), torch.float32, size=64, tries=1)["tflops"] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"against": "stok"}, "did you mean 'stock'"),
        ({"against": "bf16"}, "computes in bf16 itself"),
        ({"rounds": 0}, "0 rounds"),
    ],
)
def test_what_cannot_be_measured_is_told(options, says):
    with pytest.raises(ConfigError, match=says):
        step.run(job(EXPERIMENTS[0]), **options)
