"""One deterministic run, or several in one program, in a folder of its own.

`run` starts, continues, or finds finished. What it trains is decided by the
configurations alone; a run that is killed at any moment and started again
ends with the same bits.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from experiments.report import passport
from experiments.report import plots
from experiments.run import compiling
from experiments.run import config as config_lib
from experiments.run import logs
from experiments.run import place
from experiments.run import processes
from experiments.run import progress as progress_lib
from experiments.run import saving
from experiments.run import setup as setup_lib
from experiments.run import shown
from experiments.run import snapshots
from experiments.run import streamed
from experiments.run import workdirs
from kdropout_jax.training import checkpoint
from kdropout_jax.training import digests
from kdropout_jax.training import files
from kdropout_jax.training import loop
from kdropout_jax.training import metrics
from kdropout_jax.training import state as state_lib

METRICS = logs.METRICS

RESULT_KEYS = (
  *("config", "params_sha256", "num_subnets", "steps", "examples_per_second"),
  *("train_accuracy", "test_accuracy", "dataset_note", "device", "versions"),
)
"""What the result of each run holds, at least."""

# Of the products: without a word, float32 would mean less on some devices.
_PRECISIONS = {
  "float32": "float32",
  "tensorfloat32": "tensorfloat32",
  "bfloat16": None,
}

HooksFn = Callable[["Run"], Sequence[loop.Hook]]
"""From a run, just before it trains, to further hooks."""

MeasureFn = Callable[["Run", state_lib.TrainState], Mapping[str, Any]]
"""From a run and its last state to further entries of its result."""

MakeFn = Callable[
  [Sequence[config_lib.RunConfig], str | None, int], setup_lib.Setup
]
"""From configurations, data folder and workers to a set-up."""


def run(
  configs: config_lib.RunConfig | Sequence[config_lib.RunConfig],
  workdir: str | pathlib.Path | None = None,
  *,
  data_dir: str | None = None,
  data_workers: int = 0,
  hooks: HooksFn = lambda _: (),
  measure: MeasureFn = lambda *_: {},
  make: MakeFn | None = None,
  progress: bool = True,
  description: str | None = None,
  save_after: float = 0.0,
) -> list[dict[str, Any]]:
  """Trains, or finishes training, and returns the results.

  Args:
    configs: one configuration, or several that differ in seed, k, pool size
      or learning rate; they train in one program.
    workdir: the folder of the run; default ``runs/`` and a digest of the
      configurations.
    data_dir: where prepared datasets live.
    data_workers: processes that read a stream; 0 reads in threads.
    hooks: further functions to call after chosen steps.
    measure: further entries of the result, as plain data; asked once, after
      the last step.
    make: makes the set-up, in place of `setup.make`; all that it decides must
      be in the configurations' identities.
    progress: whether to show a bar.
    description: the bar's.
    save_after: seconds between checkpoints, at least; a run that is shorter
      leaves none.

  Returns:
    One result a configuration: what ``result.json`` holds.

  Raises:
    ValueError: wrong configurations, or a folder that belongs to another run.
    loop.NonFiniteLoss: a loss became NaN; the last good checkpoint is left.
    loop.Stopped: Ctrl-C; the same call continues.
  """
  if isinstance(configs, config_lib.RunConfig):
    configs = [configs]
  folder = pathlib.Path(workdir or default_workdir(configs))
  setup_lib.check_common(configs)
  identity = identity_of(configs)
  processes.check_alike(identity)

  with contextlib.ExitStack() as held:

    def prepare() -> tuple[dict[str, Any] | None, setup_lib.Setup | None]:
      workdirs.check(folder, identity)
      finished = workdirs.result(folder, RESULT_KEYS, len(configs))
      if finished is None:
        workdirs.check_writable(folder)
        held.enter_context(_alone(folder))
        # The one that held the folder may have finished just before.
        finished = workdirs.result(folder, RESULT_KEYS, len(configs))
      if finished is not None:
        return finished, None
      with progress_lib.stage(f"loading {configs[0].dataset}", progress):
        return None, (make or setup_lib.make)(configs, data_dir, data_workers)

    finished, setup = processes.together(prepare)
    if setup is not None:
      # Not before: what is refused must not own a folder.
      if jax.process_index() == 0:
        workdirs.claim(folder, identity)
      processes.wait("claim")
      with jax.default_matmul_precision(_PRECISIONS[configs[0].precision]):
        finished = Run(folder, list(configs), setup).train(
          hooks, measure, progress, description, save_after
        )
  assert finished is not None  # Found, or trained just now.
  return finished["runs"] if len(configs) > 1 else [finished]


def _alone(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  """Holds the folder of a run; the first of its processes does for all."""
  if jax.process_index() != 0:
    return contextlib.nullcontext()
  return workdirs.locked(folder)


def identity_of(configs: Sequence[config_lib.RunConfig]) -> dict[str, Any]:
  """Returns what names the folder of `configs`: plain data."""
  if len(configs) == 1:
    return configs[0].identity()
  return {"runs": [config.identity() for config in configs]}


def default_workdir(
  configs: Sequence[config_lib.RunConfig],
) -> pathlib.Path:
  """Returns ``runs/DATASET-METHOD-DIGEST``."""
  name = f"{configs[0].dataset}-{configs[0].method}".replace("/", "_")
  return pathlib.Path("runs") / (
    f"{name}-{config_lib.digest(identity_of(configs))}"
  )


_LONGEST_DISPATCH = 1000  # Steps; between two a run is stopped and saved.


@dataclasses.dataclass
class Run:
  """A run that is about to train; hooks get it.

  Attributes:
    folder: where everything goes.
    configs: the configurations.
    setup: program, members and data.
  """

  folder: pathlib.Path
  configs: list[config_lib.RunConfig]
  setup: setup_lib.Setup

  def evaluate(
    self, state: state_lib.TrainState, split: str, ids: Any = None
  ) -> dict[str, np.ndarray]:
    """Evaluates the members, or their subnets `ids`, on a split."""
    setup = self.setup
    if setup.feed is not None:
      return setup.feed.evaluate(state, split, ids)
    start, stop = setup.splits[split]
    return setup.program.evaluate(
      state, setup.arrays(), start, stop, members=setup.members, ids=ids
    )

  def train(
    self,
    hooks: HooksFn,
    measure: MeasureFn,
    progress: bool,
    description: str | None,
    save_after: float = 0.0,
  ) -> dict[str, Any]:
    """Trains from the newest checkpoint, or from the start, to the end."""
    setup = self.setup
    checkpoints = checkpoint.Checkpoints(
      self.folder / "checkpoints", run=identity_of(self.configs)
    )
    model = self.configs[0].model
    with compiling.stage("training", model, setup, progress):
      state, start, since_log = self._restore(checkpoints)
      if compiling.streamed(setup, state):
        state, start, since_log = self._restore(checkpoints)
      if setup.feed is None and self.configs[0].subnet_training == "masked":
        state = compiling.training(setup, state, start)
    with compiling.stage("evaluation", model, setup, progress):
      compiling.evaluation(setup, state)
    processes.go_on()
    self._say_what_moved(start)
    writers = logs.open_writers(self.folder, start, self._eval_every())
    save = saving.Save(checkpoints)
    every = functools.partial(save.when_due, seconds=save_after)
    with (
      progress_lib.Bar(
        setup.num_steps, start, self.examples_per_step, description, progress
      ) as bar,
      processes.training() as should_stop,
    ):
      state = loop.fit(
        self._run_steps,
        state,
        num_steps=setup.num_steps,
        start=start,
        since_log=since_log,
        hooks=[
          loop.Hook(
            _Log(self, writers, bar), every=self._eval_every(), at_end=True
          ),
          snapshots.hook(self.folder, self.configs[0].snapshot_steps),
          *hooks(self),
          loop.Hook(every, every=self._checkpoint_every(), at_end=True),
        ],
        on_progress=bar.advance,
        should_stop=should_stop,
        agree=processes.should_stop,
        on_stop=save,
        max_dispatch=self._max_dispatch(),
      )
    writers.close()
    checkpoints.close()
    result = self._result(state, bar.examples_per_second(), measure)
    if jax.process_index() == 0:
      plots.curves(
        self.folder / "curves.png", self.folder / METRICS, self._window_starts()
      )
      workdirs.write_result(self.folder, result)
    return result

  @property
  def examples_per_step(self) -> int:
    """Rows of a batch, over all members."""
    return self.setup.task.batch_size * self.setup.members.num_members

  def _restore(
    self, checkpoints: checkpoint.Checkpoints
  ) -> tuple[state_lib.TrainState, int, loop.LogSums]:
    state = self.setup.init()
    restored = checkpoints.restore(state)
    if restored is None:
      return state, 0, loop.LogSums()
    for step in restored.damaged:
      tqdm.tqdm.write(
        f"the checkpoint of step {step} is damaged and was set aside:"
        f" continuing from step {restored.step}"
      )
    state = self.setup.program.devices.replicate(restored.tree)
    since_log = loop.LogSums.from_json(dict(restored.extra))
    return state, restored.step, since_log

  def _say_what_moved(self, start: int) -> None:
    """Keeps what bits depend on in the folder; says what changed of it."""
    if jax.process_index() != 0:
      return
    found = workdirs.moved(self.folder, place.here())
    if found and start:
      tqdm.tqdm.write(
        f"continuing elsewhere than before ({found}): the bits may differ from"
        " those of a run that stayed"
      )

  def _run_steps(self, state: state_lib.TrainState, start: int, count: int):
    setup = self.setup
    if setup.feed is not None:
      return setup.feed.run(state, start, count)
    return setup.program.run(state, setup.members, setup.arrays(), start, count)

  def _max_dispatch(self) -> int | None:
    if self.setup.feed is not None:
      return streamed.MAX_DISPATCH
    # Putting a window back and taking it out again in its middle rounds
    # differently, so windows are cut at fixed steps, too: at their ends, where
    # they are longer than an epoch, since several devices exchange all then.
    common, steps = self.configs[0], self.setup.task.steps_per_epoch
    if common.subnet_training == "extract":
      return max(steps, min(common.k, _LONGEST_DISPATCH))
    return steps if jax.process_count() > 1 else None

  def _eval_every(self) -> int:
    return self.configs[0].eval_every or self.setup.task.steps_per_epoch

  def _checkpoint_every(self) -> int:
    tenth = -(-self.setup.num_steps // 10)
    return self.configs[0].checkpoint_every or tenth

  def _window_starts(self) -> Sequence[int]:
    """Returns the first step of each window, where all members share them."""
    num_steps = self.setup.num_steps
    found = [shown.window_starts(c, num_steps) for c in self.configs]
    return found[0] if all(f == found[0] for f in found) else ()

  def _result(
    self, state: Any, rate: float, measure: MeasureFn
  ) -> dict[str, Any]:
    """Returns the results; here, once, the test set is read."""
    scores = {
      f"{split}_{name}": values
      for split in self.setup.splits
      for name, values in self.evaluate(state, split).items()
    }
    shared = {
      "steps": self.setup.num_steps,
      "examples_per_second": rate,
      "dataset_note": self.setup.info.note,
      **passport.of_this_machine(),
      "num_devices": (
        self.setup.task.num_devices * self.configs[0].num_column_devices
      ),
      **measure(self, state),
    }
    params = jax.tree.map(np.asarray, state.params)
    results, first = [], 0
    for config, schedule in zip(self.configs, self.setup.schedules):
      part = slice(first, first + config.seeds)
      first += config.seeds
      own = _take(params, part)
      results.append(
        {
          "config": files.plain(dataclasses.asdict(config)),
          "params_sha256": digests.sha256(own),
          "num_subnets": _num_subnets(schedule, self.setup),
          **_subnet_steps(state, part),
          **files.plain({k: v[part] for k, v in scores.items()}),
          **shared,
        }
      )
    return results[0] if len(results) == 1 else {"runs": results}


@dataclasses.dataclass
class _Log:
  """Logs the means since the last log, and evaluates."""

  run: Run
  writers: metrics.Writers
  bar: progress_lib.Bar

  def __call__(self, done: int, state: Any, since_log: loop.LogSums) -> None:
    record: dict[str, Any] = {
      f"train_{k}": v for k, v in since_log.means().items()
    }
    splits = ["valid"] if "valid" in self.run.setup.splits else []
    if self.run.configs[0].test_curve:
      splits.append("test")
    for split in splits:
      scores = self.run.evaluate(state, split)
      record |= {f"{split}_{k}": v for k, v in scores.items()}
    record["epoch"] = done / self.run.setup.task.steps_per_epoch
    record["examples_per_second"] = self.bar.examples_per_second()
    self.writers.write(done, record)
    since_log.clear()


def _num_subnets(schedule: Any, setup: setup_lib.Setup) -> int:
  """Returns how many subnets a run trains; without dropout it is one."""
  if schedule is None:
    return 1
  return schedule.num_subnets(setup.num_steps, setup.task.batch_size)


def _subnet_steps(state: state_lib.TrainState, part: slice) -> dict[str, Any]:
  """Returns how long each subnet trained, where the schedule remembers it."""
  steps = getattr(state.schedule, "steps", None)
  if steps is None:
    return {}
  return {"subnet_steps": np.asarray(steps)[part].tolist()}


def _take(tree: Any, part: slice) -> Any:
  return jax.tree.map(lambda x: x[part], tree)
