"""How to sample: what was asked for, and what a family's advice makes of it. Knows solvers by name; knows no tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..flow.solver import ADAPTIVE, ATOL, MAX_NFE, RTOL
from ..model.protocol import SamplingDefaults


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample. What is None is the family's own default.

    Args:
        solver: one of flow/solver.py. `bosh3` and `dopri5` choose their own steps; with `steps`, they take that fixed grid.
        steps, schedule, shift: of the fixed grid, see flow/schedule.py. An adaptive solver reads none of them.
        eta, s_noise: of the solvers of flow/stochastic.py. The others read none of them.
        cfg: guidance; 1 turns it off and halves the cost.
        negative: the negative prompt; the family's when None.
        prompt_weights: read `(smile:1.3)` in prompts and negative as emphasis; otherwise a parenthesis is a parenthesis.
        rtol, atol, max_nfe: of the adaptive solvers.
        joined: both halves of guidance in one forward; False needs half the memory.
    """

    solver: str | None = None
    steps: int | None = None
    schedule: str | None = None
    cfg: float | None = None
    shift: float | None = None
    eta: float = 1.0
    s_noise: float = 1.0
    negative: str | None = None
    prompt_weights: bool = False
    rtol: float = RTOL
    atol: float = ATOL
    max_nfe: int = MAX_NFE
    joined: bool = True

    def settled(self, defaults: SamplingDefaults) -> SamplingSettings:
        """The settings as they will be used: nothing None but the steps of an adaptive solver."""
        solver = defaults.solver if self.solver is None else self.solver
        adaptive = solver in ADAPTIVE and self.steps is None
        return replace(
            self,
            solver=solver,
            steps=None if adaptive else (defaults.steps if self.steps is None else self.steps),
            schedule=defaults.schedule if self.schedule is None else self.schedule,
            cfg=defaults.cfg if self.cfg is None else self.cfg,
            shift=defaults.shift if self.shift is None else self.shift,
            negative=defaults.negative if self.negative is None else self.negative,
        )
