"""The loop. Knows phases, images seen and hooks; knows no family, no data set and no config.

    for every optimizer step: for every phase: for every micro-batch: recipe.loss -> backward; then clip, judge, step, average

The formula of the loss is in the recipe, one hop away. Every draw is keyed by image, visit or step, so nothing here holds a
random state: a checkpoint is weights, optimizer, averages, counters and the place in the order of data.

No step waits for the device: what the host wants to know of one it reads while the next is under way.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..core import seed as keyed
from ..core.batch import Batch
from ..model.state import draws
from ..optim import groups
from ..optim.power_ema import PowerEMA
from ..optim.protocol import Optim
from ..optim.schedule import Schedule
from ..recipe.protocol import LossReport, Recipe
from . import outcome
from .books import Books
from .claim import Claim
from .feed import Fed, Feed, Steps
from .guard import Guard, Verdict
from .incidents import Incidents, Note
from .keeper import Keeper
from .panel import Panel
from .parallel import Parallel
from .settings import Progress, Settings
from .signals import Signals
from .snapshots import Snapshots
from .speed import Speed
from .totals import Later, Totals, agree
from .tracker import Tracker
from .watchdog import Watchdog

log = logging.getLogger(__name__)

DATA_SECONDS = 60.0  # a process that waits so long for data is named: the others wait for it in a collective
KEYS = {"q": "stop", "c": "checkpoint", "s": "sample", "p": "pause"}  # of the panel


class Hook(Protocol):
    """Something done every so many images: validation, samples, adherence."""

    name: str
    every_images: int

    def __call__(self, trainer: Trainer) -> Mapping[str, float]:
        """Runs on every process with the averaged weights applied; what the main process returns is logged."""


class Trainer:
    """Trains `learner` with `recipe(learner)` over `steps` in `folder`. Raises AnimeflowError where the run cannot go on.

    Args:
        flops: of one image of a batch, forward and backward, by the closed form; None tells no arithmetic.
        peak_flops: of one device, if known.
        on_base: what is frozen is a base that lies on disk anyway: it stays in its dtype, and checkpoints hold only what learns.
        speed: makes the speed that the settings ask for, given the processes; by default without a look at attention.
        panel: what a person sees; lines by default.
    """

    def __init__(
        self,
        *,
        learner: nn.Module,
        recipe: Callable[[nn.Module], Recipe],
        steps: Steps,
        optim: Optim,
        schedule: Schedule,
        settings: Settings,
        folder: Path,
        tracker: Tracker,
        hooks: Iterable[Hook] = (),
        identity: Mapping[str, Any] | None = None,
        flops: Callable[[Batch], float] | None = None,
        peak_flops: float | None = None,
        on_base: bool = False,
        speed: Callable[[Parallel], Speed] | None = None,
        panel: Panel | None = None,
    ) -> None:
        settings.require_device(cuda=torch.cuda.is_available())
        self.settings, self.schedule, self.steps, self.folder, self.tracker = settings, schedule, steps, folder, tracker
        self.parallel = Parallel(settings)
        self.device = self.parallel.device
        self.on_base = on_base
        self.learner = learner.to(self.device) if on_base else learner.to(device=self.device, dtype=torch.float32)
        self.speed = speed(self.parallel) if speed else Speed(settings, device=self.device)
        self.speed.prepare(self.learner)
        self.wrapped = self.parallel.wrap(self.learner)
        self.names = {parameter: name for name, parameter in self.learner.named_parameters()}
        self.optim, self.optimizer = optim, optim.build(self.learner)
        self.peak_rates = {"optim/lr": optim.lr} | {f"optim/lr/{part}": rate for part, rate in optim.rates.items()}
        self.recipe = recipe(self.wrapped)
        self.ema = PowerEMA(self.learner, sigma_rels=settings.ema.sigma_rels)
        self.hooks = list(hooks)
        self.progress, self.place = Progress(), steps.state_dict()
        self.guard = Guard(settings.guard, self.device)
        self.incidents = Incidents(folder, settings.guard, self.parallel)
        self.identity = dict(identity or {})
        self.claim = Claim(folder, mine=self.parallel.is_main)
        self.keeper = Keeper(self)
        self.snapshots = Snapshots(folder / "snapshots", settings.ema, total_images=settings.images)
        self.panel = panel or Panel(total_images=settings.images, mode="lines", title="training")
        self.books = Books(
            folder, parallel=self.parallel, tracker=tracker, panel=self.panel, flops=flops, peak_flops=peak_flops,
            with_ledger=settings.ledger,
        )  # fmt: skip
        self.watchdog = Watchdog(
            folder,
            rank=self.parallel.rank,
            processes=self.parallel.world,
            seconds=settings.watchdog_seconds,
            loader=lambda: f"the last step of data that came ends at {self.place}",
        )
        self.signals = Signals()
        self.stopped = False
        # A decision that changes weights is not put off: one step later would be another run after a resume in between.
        self._later: Later[Note] = Later(lag=0 if settings.guard.spike == "rollback" else 1)
        self._wishes: set[str] = set()
        self._norm = self._no_norm = torch.full((), float("nan"), dtype=torch.float64, device=self.device)
        self._factor, self._clock = 0.0, 0.0
        self._drops = draws(self.learner)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end, from wherever `resume` put us, or until a signal or a key asks for a stop: see `exit_code`."""
        for line in (*groups.tell(self.learner, self.optimizer.param_groups), *self.speed.lines()):
            log.info("%s", line)
        self.claim.take()
        try:
            with ExitStack() as stack:
                stack.enter_context(self.signals)
                stack.enter_context(self.panel)
                stack.enter_context(self.watchdog)
                stack.enter_context(self.speed.applied())
                self._train()
                self.keeper.finish(last=True)
        except BaseException as error:
            outcome.write(self.folder, outcome.of(error), self.progress, rank=self.parallel.rank, error=error)
            raise
        finally:
            gc.unfreeze()  # else what was frozen is never taken down, and libraries call that a leak when the program ends
            self.keeper.checkpoints.join()  # of a run that failed: the folder is nobody's when nothing is written into it
            self.claim.release()
        if self.parallel.is_main:
            reason = outcome.FINISHED if self.finished else outcome.PREEMPTED
            outcome.write(self.folder, reason, self.progress, exit_code=self.exit_code)
        return self.progress

    @property
    def finished(self) -> bool:
        return self.progress.images_seen >= self.settings.images

    @property
    def exit_code(self) -> int:
        """0 when the run is done; else that of a run that was asked to stop and is saved."""
        return 0 if self.finished else self.signals.exit_code

    @property
    def over(self) -> bool:
        """Nothing more is to be trained by this process."""
        return self.finished or self.stopped

    def _train(self) -> None:
        self._clock = time.perf_counter() - self.progress.seconds
        self.wrapped.train()
        self.books.begin(self.progress)
        self._tell_due()
        gc.collect()
        gc.freeze()  # model and optimizer live as long as the run: later collections need not walk through them
        if self.progress.images_seen == 0:
            with self.books.telemetry.paused(), self.watchdog.phase("samples and validation"):
                self._run_hooks()
        while not self.over:
            self.steps.load_state_dict(self.place)
            with Feed(self.steps, self.recipe.prepare, self.device) as feed:
                try:
                    self._follow(feed)
                except BaseException:
                    self.steps.close()  # as at the end: the feed may wait for a store that is away
                    raise

    def _follow(self, feed: Feed) -> None:
        """Step after step, until nothing is left or the run has gone back to another place."""
        while not self.over:
            with self.watchdog.phase("data", seconds=DATA_SECONDS):
                fed = feed.next()
            back = self._advance(fed)
            self.watchdog.beat(self.progress.step, self.progress.images_seen)
            self.progress.seconds = time.perf_counter() - self._clock
            if back and self.keeper.roll_back():
                self._clock = time.perf_counter() - self.progress.seconds
                return
            self._look()

    def _advance(self, fed: Fed) -> bool:
        """One step of data: trained on, or passed over after a rollback. Whether the run has to go back."""
        self.place = fed.place
        self._factor = self.schedule.factor(self.progress.images_seen, self.settings.images)
        if fed.step in self.progress.passed_over:
            self._norm = self._no_norm
            self._count(fed)
            return False
        reports, totals, verdict = self.step(fed.batches)
        self._count(fed)
        self._norm = verdict.report[4]
        self.books.add(fed, reports, totals)
        uids = tuple(uid for batch in fed.batches for uid in batch.uids)
        losses = torch.cat([report.loss_B for report in reports[: len(fed.batches)]])
        note = Note(fed.step, self.progress.images_seen, uids, losses)
        return self._handle(self._later.put(note, torch.cat([verdict.report, totals.values])))

    def _count(self, fed: Fed) -> None:
        self.progress.images_seen += fed.images
        self.progress.step += 1
        self.ema.update(
            self.progress.images_seen, fed.images
        )  # also where nothing was learned: its time is images seen
        self.panel.advance(fed.images)

    def step(self, micro_batches: list[Batch]) -> tuple[list[LossReport], Totals, Verdict]:
        """One optimizer step: every phase of the recipe over every micro-batch."""
        self.speed.before_step(self.learner, self.progress.images_seen)
        reports: list[LossReport] = []
        for phase in self.recipe.phases():
            for i, batch in enumerate(micro_batches):
                if self._drops:  # torch's dropout draws from a state that no checkpoint has
                    torch.manual_seed(keyed.key("dropout", self.progress.step, self.parallel.rank, i))
                with self.parallel.accumulating(phase.learner, last=i == len(micro_batches) - 1):
                    with self.books.own_work():
                        report = phase.loss(batch)
                    self.parallel.backward(report.loss)
                reports.append(report)
        norm = self.parallel.clip(self.learner.parameters(), self.settings.clip)
        losses = [(report.loss_B, report.t_B) for report in reports]
        totals = Totals.of(losses, norm=norm, wishes=self._ask(), sum_up=self.parallel.sum, world=self.parallel.world)
        verdict = self.guard.judge(totals)
        factor = self.schedule.factor(self.progress.images_seen, self.settings.images)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        # Read on the device, as from torch's own gradient scaler.
        self.optimizer.found_inf = verdict.skip  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return reports, totals, verdict

    def _ask(self) -> set[str]:
        """What this process wants of all: from signals, and from the keys of the panel."""
        wishes = {KEYS[key] for key in self.panel.wishes()}
        if self.signals.received is not None:
            wishes.add("stop")
        return wishes

    def _handle(self, due: list[tuple[Note, Tensor]]) -> bool:
        """Read what the device has said of earlier steps. Whether the run has to go back."""
        back = False
        for note, values in due:
            self._wishes |= Totals(values[5:]).wishes()
            back |= self.incidents.handle(note, values[:5], self.progress)
        return back

    # -- rhythm --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """After a step: lines, hooks, saves, and what was asked for."""
        if self.finished:
            self._handle(self._later.drain())
        if self.progress.due("line", self.settings.log_every_images) or self.finished:
            rates = {name: peak * self._factor for name, peak in self.peak_rates.items()}
            rates |= self.optim.values(self.optimizer)
            self.books.line(self.progress, self._norm, rates | self.speed.values() | self.steps.values())
            self.speed.warmed_up()
        wishes, self._wishes = self._wishes, set()
        with self.books.telemetry.paused(), self.watchdog.phase("samples, validation and checkpoint"):
            self._run_hooks(asked="sample" in wishes)
            self.snapshots.keep(self.progress.images_seen, self.ema)
            due = self.progress.due("checkpoint", self.settings.checkpoint_every_images)
            if due:
                self._handle(self._later.drain())
            if due and self.incidents.troubled:
                log.warning("no checkpoint while step after step is left out: it would take the place of a good one")
                due = False
            if self.finished or due or wishes & {"stop", "checkpoint"}:
                self.save(last=self.finished or "stop" in wishes)
        self.stopped = "stop" in wishes and not self.finished
        if self.over:
            self.steps.close()  # the feed has read on, and may wait for a store that is away
        if self.over and self.progress.skipped_steps and self.parallel.is_main:
            log.warning("%d steps were left out; see %s", self.progress.skipped_steps, self.incidents.path)
        if self.stopped and self.parallel.is_main:
            log.warning("asked to stop: all is saved at %s images", f"{self.progress.images_seen:,}")
        if "pause" in wishes and not self.over:
            self._pause()

    def _pause(self) -> None:
        """Wait, all processes together, until the key is pressed again or a stop is asked for."""
        self.panel.mark("paused")
        with self.books.telemetry.paused(), self.watchdog.phase("paused", seconds=float("inf")):
            wishes: set[str] = set()
            while not wishes & {"pause", "stop"}:
                time.sleep(0.5)
                wishes = agree(self._ask(), device=self.device, sum_up=self.parallel.sum)
        self._wishes |= wishes - {"pause"}
        self.panel.mark("training")

    def _run_hooks(self, *, asked: bool = False) -> None:
        first, ran = self.progress.images_seen == 0, False
        for hook in self.hooks:
            due = self.progress.due(hook.name, hook.every_images)
            if not (due or first or self.finished or (asked and hook.name == "samples")):
                continue
            ran = True
            self.wrapped.eval()
            try:
                with self.ema.applied(self.settings.ema.use), torch.no_grad():
                    values = hook(self)
            except OSError as error:  # a disk that is full ends no run for a picture
                log.error("%s could not be written, training goes on: %s", hook.name, error)
                values = {}
            self.wrapped.train()
            self.books.show(self.progress, values)
        if ran:
            self.parallel.meet()  # most hooks keep the main process alone

    def _tell_due(self) -> None:
        """What the panel shows as next."""
        every = {"checkpoint": self.settings.checkpoint_every_images} | {h.name: h.every_images for h in self.hooks}
        seen = self.progress.images_seen
        self.panel.due(**{name: (seen // images + 1) * images for name, images in every.items() if images})

    # -- state ---------------------------------------------------------------------------------------------------------

    def save(self, *, last: bool = False) -> None:
        """Begin a checkpoint; see `Keeper.save`."""
        self._handle(self._later.drain())
        self.books.flush()
        self.keeper.save(last=last)
        self._tell_due()

    def resume(self) -> bool:
        """Continue from the newest checkpoint; see `Keeper.resume`."""
        return self.keeper.resume()

    def start_anew(self) -> None:
        """Begin at no images; see `Keeper.start_anew`."""
        self.keeper.start_anew()

    def close(self) -> None:
        """Wait for the other processes and leave their group. Nothing can be trained after."""
        self.keeper.close()
        self.snapshots.close()
        self.parallel.close()
