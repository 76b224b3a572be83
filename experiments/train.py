"""Trains a model with any dropout schedule.

  python -m experiments.train --method=pooled --pool_size=50 --m=8 --seeds=3

On the embedded digits this takes about 15 s on two CPU cores and ends with a
test accuracy of about .95. ``python -m experiments.train --help`` lists all
flags. The folder of the run (``--workdir``) gets metrics.jsonl, TensorBoard
events, checkpoints, curves.png and result.json. The same command continues a
run that was stopped, and ends with the same bits.

``--parallel=jit`` spreads the program over devices by shardings in place of
pmap, with the same result; ``--num_column_devices=2`` then splits the columns
of matrices, too.

On several machines, start one process on each with ``--coordinator_address``,
``--num_processes`` and ``--process_id``, and a workdir that all of them see.
Ctrl-C, or SIGTERM, to one of them stops all, at a checkpoint.
"""

import jax
import numpy as np
from absl import flags as absl_flags

from experiments.run import flags
from experiments.run import runner

flags.define_run()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  config = flags.run_config()
  flags.join_processes()
  folder = FLAGS.workdir or runner.default_workdir([config])
  (result,) = runner.run(
    config,
    folder,
    data_dir=FLAGS.data_dir,
    data_workers=FLAGS.data_workers,
    progress=FLAGS.progress,
    description=config.method,
  )
  if jax.process_index() == 0:
    accuracy = np.array(result["test_accuracy"])
    print(
      f"{config.dataset}, {config.model}, {config.method}: test accuracy"
      f" {accuracy.mean():.4f}"
      + (f" +- {accuracy.std(ddof=1):.4f}" if accuracy.size > 1 else "")
      + f" over {accuracy.size} seeds after {result['steps']} steps,"
      f" {result['examples_per_second']:,.0f} examples/s"
    )
    print(f"everything is in {folder}")


if __name__ == "__main__":
  flags.launch(main)
