"""Fair timings: candidates take turns in one process; ratios and spreads.

Single calls measure the dispatch, and a machine drifts: so each candidate is
one compiled program of many steps, all are called in turn, round after round,
and a ratio is taken within a round before the median over rounds.
"""

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of one candidate in each round.

  Attributes:
    seconds: float64 [rounds], per call.
  """

  seconds: np.ndarray

  @property
  def median(self) -> float:
    """Median seconds per call."""
    return float(np.median(self.seconds))

  def speedup_over(self, other: "Timing") -> tuple[float, float, float]:
    """Returns median, lowest and highest of other / self, round by round.

    A value of 2 says that this candidate takes half the other's time.
    """
    ratios = other.seconds / self.seconds
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


@dataclasses.dataclass
class Program:
  """A compiled run of `num_steps` steps that keeps its own state.

  Attributes:
    run: from the state to the next state.
    state: donated to `run`.
    num_steps: steps of one call.
    ideal: ratio of the baseline's multiplications to those left, if known.
  """

  run: Callable[[Any], Any]
  state: Any
  num_steps: int
  ideal: float | None = None

  def __call__(self):
    self.state = self.run(self.state)
    return self.state

  @property
  def temp_bytes(self) -> int:
    """Bytes of temporaries that the compiled program allocates."""
    analysis = self.run.memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]
    assert analysis is not None  # CPU and GPU both report it.
    return analysis.temp_size_in_bytes


Compiler = Callable[[Callable[[Any], Any], Any], Callable[[Any], Any]]
"""From a function and its state to the function compiled."""

_COMPILER: contextvars.ContextVar[Compiler | None] = contextvars.ContextVar(
  "compiler", default=None
)


@contextlib.contextmanager
def compiling_by(compiler: Compiler) -> Iterator[None]:
  """Compiles programs that are built inside otherwise than for this machine."""
  token = _COMPILER.set(compiler)
  try:
    yield
  finally:
    _COMPILER.reset(token)


def donating(run: Callable[[Any], Any], state: Any) -> Callable[[Any], Any]:
  """Compiles `run` for `state`, which it is given to keep."""
  compiler = _COMPILER.get()
  if compiler is not None:
    return compiler(run, state)
  return jax.jit(run, donate_argnums=0).lower(state).compile()


def repeated(
  fn: Callable[[Any, Any], tuple[Any, Any]], operands: Any, num_steps: int
) -> Program:
  """Compiles a scan of `num_steps` calls of `fn`.

  Operands and results pass a barrier and are carried on, so that no step is
  left out or taken out of the loop.

  Args:
    fn: from the number of the step and the operands to the next operands and
      any results; it makes its masks anew.
    operands: of the first step.
    num_steps: calls.
  """

  def body(state, step):
    # Results in the carry, too: what nobody reads behind a barrier is dropped.
    return jax.lax.optimization_barrier(fn(step, state[0])), None

  def run(state):
    return jax.lax.scan(body, state, jnp.arange(num_steps))[0]

  shapes = jax.eval_shape(fn, jnp.int32(0), operands)[1]
  results = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  state = (operands, results)
  return Program(donating(run, state), state, num_steps)


def interleave[Name](
  candidates: Mapping[Name, Callable[[], object]],
  rounds: int = 5,
  on_round: Callable[[int], None] | None = None,
) -> dict[Name, Timing]:
  """Times candidates in turn; the first, untimed round compiles.

  Each round has an order of its own, the same in every call: who comes after a
  candidate that empties the caches, or gives its memory back, pays for it, and
  that must not always be the same one.

  Args:
    candidates: {name: function of nothing that returns arrays}.
    rounds: timed rounds.
    on_round: called with the number of rounds done, for a progress bar.

  Returns:
    {name: `Timing`}, in the order of `candidates`.
  """
  for run in candidates.values():
    jax.block_until_ready(run())
  seconds = {name: [] for name in candidates}
  names, random = list(candidates), np.random.default_rng(0)
  for done in range(rounds):
    for place in random.permutation(len(names)):
      name = names[place]
      start = time.perf_counter()
      jax.block_until_ready(candidates[name]())
      seconds[name].append(time.perf_counter() - start)
    if on_round is not None:
      on_round(done + 1)
  return {name: Timing(np.array(s)) for name, s in seconds.items()}
