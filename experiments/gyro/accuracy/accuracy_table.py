"""Tables 4 and 5 of the gyro dropout paper: accuracy and generalization gap.

  python -m experiments.accuracy_table --scale=cpu --rows=packets,cnn,mlp

Trains each dataset and model without dropout and with conventional, gyro and
block-wise dropout, several seeds, and writes accuracy_table.{md,png,json}: the
difference to conventional dropout, paired by seed, with its interval, the gap,
the paper's numbers beside ours, and the verdicts. ``--rows`` takes groups
(packets, mlp, cnn, resnet) or labels (NSL-KDD/MLP3); it chooses what is
trained, the page has all rows. At ``--scale=cpu`` and two cores packets take
about 18 minutes, cnn 36, mlp 6. Datasets that are not prepared are left out.
Processes may share the cells,

  python -m experiments.accuracy_table --rows=cnn --shard=0/2

and the same command without ``--shard`` then writes the page. ``--dry_run``
prints the cells and the time that is left. Expected: differences between the
methods that drop units of the size of their deviation over seeds.
"""

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.data import preparation
from experiments.gyro.accuracy import report as accuracy_report
from experiments.gyro.accuracy import settings

experiment_flags.define()
experiment_flags.define_sharing()
if "rows" not in absl_flags.FLAGS:
  absl_flags.DEFINE_list("rows", None, "labels or groups of rows; default all")

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  experiment_flags.refuse_depth()
  scale = experiment_flags.scale(settings.SCALES)
  all_rows = settings.rows(scale.name, experiment_flags.num_seeds())
  store = experiment.store(scale.max_members)
  experiment.share_cells(
    store,
    accuracy_report.name(scale.name),
    wanted(settings.choose(all_rows, FLAGS.rows), store),
    lambda: accuracy_report.report(all_rows, store.folder, FLAGS.scale),
  )


def wanted(rows, store: experiment.Store) -> list:
  """Returns the cells of rows whose data is at hand."""
  return [
    cell
    for row in rows
    if not row.not_run
    and preparation.is_at_hand(row.names["dataset"], store.data_dir)
    for cells in row.all_cells().values()
    for cell in cells
  ]


if __name__ == "__main__":
  experiment.launch(main)
