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

import time

from absl import flags as absl_flags

from experiments.cells import estimates
from experiments.cells import flags as experiment_flags
from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.data import preparation
from experiments.gyro import claims
from experiments.gyro import sizes
from experiments.gyro.accuracy import measured as measured_lib
from experiments.gyro.accuracy import notes as accuracy_notes
from experiments.gyro.accuracy import report as accuracy_report
from experiments.gyro.accuracy import settings
from experiments.report import study
from experiments.run import flags

experiment_flags.define()
experiment_flags.define_sharing()
if "rows" not in absl_flags.FLAGS:
  absl_flags.DEFINE_list("rows", None, "labels or groups of rows; default all")

FLAGS = absl_flags.FLAGS

_NAME = "accuracy_table"


def main(argv: list[str]) -> None:
  del argv
  experiment_flags.refuse_depth()
  all_rows = settings.rows(FLAGS.scale, FLAGS.num_seeds)
  store = experiment_flags.store(sizes.max_members(FLAGS.scale))
  cells = wanted(settings.choose(all_rows, FLAGS.rows), store)
  if FLAGS.dry_run:
    print(
      estimates.describe(cells, store.folder, store.max_members, FLAGS.shard)
    )
    return
  began = time.perf_counter()
  store.train(cells, FLAGS.shard)
  minutes = study.add_minutes(store.folder, _NAME, time.perf_counter() - began)
  left = len(sweeps.unfinished(cells, store.folder))
  if FLAGS.shard != "0/1":
    print(f"shard {FLAGS.shard} is done; {left} of {len(cells)} cells are left")
    return
  write(all_rows, store, minutes)


def wanted(rows, store: sweeps.Store) -> list:
  """Returns the cells of rows whose data is at hand."""
  return [
    cell
    for row in rows
    if not row.not_run
    and preparation.is_at_hand(row.names["dataset"], store.data_dir)
    for cells in row.all_cells().values()
    for cell in cells
  ]


def write(all_rows, store: sweeps.Store, minutes: float) -> None:
  """Writes the report of the cells that are finished."""
  everything = [measured_lib.find(row, store.folder) for row in all_rows]
  judged, cells = accuracy_report.judged(everything)
  header, table = accuracy_report.table(everything)
  measured = [row for found in everything for row in found.measured]
  study.write(
    study.Report(
      name=_NAME,
      title="Accuracy and generalization gap: tables 4 and 5",
      scale=FLAGS.scale,
      setting="No dropout, conventional, gyro and block-wise dropout at the"
      " same settings. Accuracies in points, mean +- standard deviation over"
      " seeds.",
      header=header,
      table=table,
      numbers={"rows": measured},
      seeds=sorted({row["seed"] for row in measured}),
      verdicts=study.judge(
        claims.named(*accuracy_report.CLAIMS),
        judged,
        scale=FLAGS.scale,
        hits=cell_rows.hits(cells, store.folder),
      ),
      notes=accuracy_notes.notes(everything, FLAGS.scale),
      minutes=minutes,
    ),
    store.folder,
    draw=(
      (lambda path: accuracy_report.draw(path, everything))
      if measured
      else None
    ),
    publish=FLAGS.publish,
  )


if __name__ == "__main__":
  flags.launch(main)
