"""Guided subnets: the weak for longer, and one subnet for each task.

  python -m experiments.guided --scale=cpu

(a) "schedules": the gyro dropout paper suggests to train weak subnets for
longer (section 5.1). `kd.Guided` draws them with a weight that rises with
their average loss, here against random and consecutive scheduling at equal
Sigma and tau: the full network, and the spread of all single subnets. The gyro
grid's stand-in for SVHN, MLP2 on CIFAR-10. (b) "tasks": one task, one subnet
(k-dropout paper, section 4.3, after PathNet) on two tasks of digits, trained
jointly and in turn, against one shared network and standard dropout.

About 9 minutes of two cores at the cpu scale. Writes guided and guided_tasks,
each .md, .png and .json. Expected, from few seeds: guided scheduling is as
accurate as random, and its weakest subnets gain little; a subnet a task
forgets little of the first task where a shared network forgets half, and
disjoint ones nothing.
"""

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.gyro.guided import cells as guided_cells
from experiments.gyro.guided import report as guided_report
from experiments.gyro.guided import two_tasks
from experiments.report import study

absl_flags.DEFINE_multi_enum(
  "part",
  ["schedules", "tasks"],
  ["schedules", "tasks"],
  "parts to run; repeat the flag",
)
experiment_flags.define()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  size = experiment_flags.scale(guided_cells.SIZES)
  store = experiment.store(size.max_members)
  if "schedules" in FLAGS.part:
    experiment.report(store.folder, lambda: compare_schedules(store, size))
  if "tasks" in FLAGS.part:
    tasks = experiment_flags.scale(two_tasks.SIZES)
    experiment.report(store.folder, lambda: compare_tasks(tasks))


def compare_schedules(
  store: experiment.Store, size: guided_cells.Size
) -> study.Report:
  """Trains, evaluates and reports part (a)."""
  rows, hits = [], []
  for fields in guided_cells.methods(size):
    own_rows, own_hits = guided_cells.follow(store, size, fields)
    rows += own_rows
    hits += own_hits
  return guided_report.schedules(rows, dict(enumerate(hits)), size)


def compare_tasks(size: two_tasks.Size) -> study.Report:
  """Trains, evaluates and reports part (b)."""
  rows = []
  for method in two_tasks.METHODS:
    rows += two_tasks.run(method, size)
  return guided_report.tasks(rows, size)


if __name__ == "__main__":
  experiment.launch(main)
