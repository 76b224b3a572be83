"""What a run logs, and where; a log that lost lines is said."""

import pathlib

import jax
import tqdm

from kdropout_jax.training import metrics

METRICS = "metrics.jsonl"


def open_writers(
  folder: pathlib.Path, done: int, every: int
) -> metrics.Writers:
  """Returns what takes the records of a run after `done` steps.

  Args:
    folder: of the run.
    done: steps that are done; what was logged later is dropped.
    every: steps between two records.
  """
  if jax.process_index() != 0:
    return metrics.Writers()
  there = {record["step"] for record in metrics.read_jsonl(folder / METRICS)}
  due = range(every, done + 1, every)
  lost = [step for step in due if step not in there]
  if lost:
    tqdm.tqdm.write(
      f"{folder / METRICS} is damaged: {len(lost)} of {len(due)} records are"
      f" lost (step {lost[0]:,} first), the others are kept"
    )
  writers: list[metrics.Writer] = [metrics.JsonlWriter(folder / METRICS, done)]
  try:
    writers.append(metrics.TensorBoardWriter(folder / "tensorboard", done))
  except ImportError:  # An extra: the same numbers are in the JSON lines.
    pass
  return metrics.Writers(writers)
