"""The long kill test, as a program: a run that is killed again and again equals one that never was, bit for bit.

    python tests/train/kill_runs.py --family sd35 --processes 2 --sharding fsdp2 --kills 50

Lives are forks of this process, which has only imported, so one costs a second instead of ten. Half of the kills wait for a
checkpoint that is being written; every fifth is a SIGTERM to one process, after which all have to save and leave with 75. Prints
a JSON line with what happened, and exits with 1 where a bit differs. `test_train_kill_runs.py` runs a short form.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from animeflow.app.cli import execute
from animeflow.app.compose import compose
from animeflow.app.verbs.train import learn
from animeflow.train import checkpoint

EXPERIMENTS = {"sd35": "toonworld_smoke", "anima": "anima_toonworld_smoke"}
BATCH = 8


def words(folder: Path, run: str, arguments: argparse.Namespace) -> list[str]:
    return [
        f"experiment={EXPERIMENTS[arguments.family]}", "name=killed", f"set={folder}/set", f"run={folder}/{run}",
        "toonworld.count=64", "toonworld.workers=0", "catalogue.workers=0", "data.shard.workers=0", "data.cache.variants=2",
        "model.codec=null", "evaluate.oracle=null", f"data.loader.batch={BATCH}", "data.loader.micro_batch=2",
        "optim.schedule.warmup_images=8", f"train.images={BATCH * arguments.steps}",
        f"train.checkpoint_every_images={BATCH}", "train.keep_checkpoints=3", f"train.log_every_images={2 * BATCH}",
        "train.threads=1", "train.samples.every_images=0", "train.samples.count=0", "train.validate.images=4",
        f"train.validate.every_images={4 * BATCH}", f"train.sharding={arguments.sharding}", "train.panel=off",
        "train.timeout_seconds=300", "train.watchdog_seconds=0", "train.ema.snapshots=3",
    ]  # fmt: skip


class Life:
    """One start of a run: a fork per process, as a launcher would make."""

    def __init__(self, config: dict[str, Any], processes: int) -> None:
        # Bound, and not listening, for as long as this life: the store of rank 0 may still listen there, and nobody else takes it.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        port = self._held.getsockname()[1]
        self.children = [self._begin(config, rank, processes, port) for rank in range(processes)]

    @staticmethod
    def _begin(config: dict[str, Any], rank: int, world: int, port: int) -> int:
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            if world > 1:
                os.environ.update(
                    RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
                    MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                )  # fmt: skip
            if os.environ.get("KILL_RUNS_QUIET", "1") == "1":
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = learn(config)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> bool:
        return any(os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) for child in self.children)

    def kill(self, children: list[int]) -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)

    def wait(self, *, seconds: float = 600) -> list[int]:
        """Exit codes; a process that does not end in time is an error."""
        end, codes = time.monotonic() + seconds, []
        for child in self.children:
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > end:
                    self.kill(self.children)
                    raise SystemExit("a process did not end")
                time.sleep(0.01)
            codes.append(os.waitstatus_to_exitcode(done[1]))
        self._held.close()
        return codes


def checkpoints(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("[0-9]*")}


def saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".*.tmp"))


def interrupt(life: Life, run: Path, draw: random.Random, *, how: str) -> str:
    """Let it get one to three checkpoints further, then end it; what was done: `kill`, `kill in a save` or `term`, or `done` when
    the run was faster."""
    before, further = checkpoints(run), draw.randint(1, 3)
    newer: set[str] = set()
    while len(newer) < further or (how == "kill in a save" and not saving(run)):
        time.sleep(0.004)  # a save takes longer, and the run needs the cores
        newer |= checkpoints(run) - before
        if life.ended():
            codes = life.wait()
            assert codes == [0] * len(codes), f"the run ended by itself with {codes}"
            return "done"
    time.sleep(draw.uniform(0, 0.003 if how == "kill in a save" else 0.3))
    if how == "term":
        os.kill(draw.choice(life.children), signal.SIGTERM)
        codes = life.wait()
        assert set(codes) in ({75}, {0}), f"after SIGTERM the processes left with {codes}"
        return "term" if codes[0] else "done"
    inside = saving(run)
    first = draw.choice(life.children)  # one dies; the launcher then ends the others
    life.kill([first])
    time.sleep(draw.uniform(0, 0.05))
    life.kill([child for child in life.children if child != first])
    life.wait()
    return "kill in a save" if inside else "kill"


def state_of(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = checkpoint.newest(run / "checkpoints")
    assert folder is not None
    tensors, state = checkpoint.load(folder)
    del state["progress"]["seconds"]
    return {f"{group}/{name}": tensor for group, named in tensors.items() for name, tensor in named.items()}, state


def lines_of(run: Path) -> list[dict[str, Any]]:
    """Of `metrics.jsonl`, without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]


def differences(run: Path, whole: Path, *, exact: bool) -> list[str]:
    """What differs. Under another number of processes sums are rounded otherwise: then weights may differ by that, and what was
    seen, how often and at what t may not."""
    (ours, our_state), (theirs, their_state) = state_of(run), state_of(whole)
    wrong = [name for name in {*ours, *theirs} if name not in ours or name not in theirs]
    wrong += [name for name in ours.keys() & theirs.keys() if not _same(name, ours[name], theirs[name], exact=exact)]
    if not exact:
        return sorted(wrong)
    wrong += [f"state {key}" for key in {*our_state, *their_state} if our_state.get(key) != their_state.get(key)]
    if lines_of(run) != lines_of(whole):
        wrong.append("metrics.jsonl")
    kept = [sorted(folder.name for folder in (place / "snapshots").iterdir()) for place in (run, whole)]
    if kept[0] != kept[1]:
        wrong.append("snapshots")
    for name in kept[1] if kept[0] == kept[1] else []:
        (mine, _), (other, _) = (checkpoint.load(place / "snapshots" / name) for place in (run, whole))
        wrong += [
            f"snapshot {name}/{g}/{n}" for g in other for n in other[g] if not torch.equal(mine[g][n], other[g][n])
        ]
    return sorted(wrong)


def _same(name: str, a: torch.Tensor, b: torch.Tensor, *, exact: bool) -> bool:
    if exact or not a.is_floating_point():
        return torch.equal(a, b)
    if name.startswith(("optimizer/", "ledger/")):
        return a.shape == b.shape  # Adam's ratios amplify rounding where a gradient is nearly zero
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """The set, and the run that nothing interrupts."""
    settings = words(folder, "whole", arguments)
    for verb in ("toonworld", "catalogue", "shard", "cache"):
        assert execute(verb, settings) == 0, verb


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=EXPERIMENTS, default="sd35")
    parser.add_argument("--processes", default="1", help="or several numbers, 1,2,1, taken by the lives in turn")
    parser.add_argument("--sharding", choices=["none", "fsdp2"], default="none")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--term", type=int, default=None, help="which kill is a SIGTERM; by default every fifth")
    parser.add_argument("--steps", type=int, default=0, help="of the run; by default enough for the kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or 4 * arguments.kills + 10
    processes = [int(number) for number in arguments.processes.split(",")]
    folder = arguments.folder or Path(tempfile.mkdtemp())
    started = time.perf_counter()
    prepare(folder, arguments)
    torch.set_num_threads(1)
    whole, killed = (compose(words(folder, name, arguments)) for name in ("whole", "killed"))
    codes = Life(whole, processes[0]).wait(seconds=3600)
    assert codes == [0] * len(codes), f"the uninterrupted run left with {codes}"

    draw, told = random.Random(arguments.seed), {"kill": 0, "kill in a save": 0, "term": 0, "done": 0}
    for i in range(arguments.kills):
        asked = i % 5 == 4 if arguments.term is None else i == arguments.term
        how = "term" if asked else "kill in a save" if i % 2 == 0 else "kill"
        told[interrupt(Life(killed, processes[i % len(processes)]), folder / "killed", draw, how=how)] += 1
        if told["done"]:
            break
    if not told["done"]:
        codes = Life(killed, processes[-1]).wait(seconds=3600)
        assert codes == [0] * len(codes), f"the last life left with {codes}"
    wrong = differences(folder / "killed", folder / "whole", exact=len(set(processes)) == 1)
    facts = {
        "family": arguments.family, "processes": arguments.processes, "sharding": arguments.sharding,
        "steps": arguments.steps, **told, "differences": wrong, "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    print(json.dumps(facts))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
