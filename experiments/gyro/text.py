"""BERT on MRPC and SQuAD, by their official metrics, beside trivial baselines.

  python -m experiments.text_results --dataset=glue/mrpc --model=bert
      --hidden=64 --num_hidden=2 --rate=0.1 --method=pooled --epochs=10
  python -m experiments.text_results --dataset=squad --model=bert --hidden=64
      --num_hidden=2 --rate=0.1 --method=pooled --num_train=1500
      --num_test=500 --max_length=192 --batch_size=32 --num_steps=150
      --learning_rate=1e-3

Prints accuracy and F1, or exact match and F1, of the network and of a baseline
that reads nothing: the majority class, or the context's first words; and the
loss of a fixed set of training rows before and after. One minute and some, on
two CPU cores each; the first run on SQuAD learns a vocabulary, about a minute.
Expected from random weights: the loss falls, and the scores stay near the
baseline's. ``--pretrained=FILE --vocabulary=FILE`` start from published ones.
The folder of the run holds what that of `experiments.train` does, and the same
command continues a run that was stopped.
"""

import functools

from absl import flags as absl_flags

from experiments.data import preparation
from experiments.gyro import text_scores
from experiments.report import tables
from experiments.run import config as config_lib
from experiments.run import flags
from experiments.run import runner

FLAGS = absl_flags.FLAGS


def define() -> None:
  """Defines the flags, once."""
  flags.define_run()
  if "fixed_rows" not in FLAGS:
    absl_flags.DEFINE_integer(
      "fixed_rows", 256, "training rows whose loss is taken before and after"
    )


define()


def main(argv: list[str]) -> None:
  del argv
  # Nothing is held out here, unless it is asked for.
  is_asked = not FLAGS["valid_fraction"].using_default_value
  config = flags.run_config(**({} if is_asked else {"valid_fraction": 0.0}))
  check(config, FLAGS.fixed_rows)
  folder = FLAGS.workdir or runner.default_workdir([config])
  (result,) = runner.run(
    config,
    folder,
    data_dir=FLAGS.data_dir,
    data_workers=FLAGS.data_workers,
    measure=functools.partial(text_scores.measure, fixed_rows=FLAGS.fixed_rows),
    progress=FLAGS.progress,
    description=config.method,
  )
  if "scores" not in result:
    raise ValueError(
      f"{folder} holds a finished run without scores, not of this command:"
      " choose another --workdir"
    )
  scores = result["scores"]
  names = list(scores["model"])
  rows = [
    (who, *(f"{scores[who][name]:.2f}" for name in names)) for who in scores
  ]
  print(f"{config.dataset}, {result['dataset_note']}, {result['steps']} steps")
  print(tables.text(("", *names), rows))
  before, after = result["fixed_loss"]
  print(
    f"loss of {result['fixed_rows']} fixed rows: {before:.4f} before,"
    f" {after:.4f} after"
  )
  print(f"everything is in {folder}")


def check(config: config_lib.RunConfig, fixed_rows: int) -> None:
  """Raises a ValueError for what no network on text can be scored by."""
  root = preparation.data_folder(FLAGS.data_dir)
  spec = preparation.resolve(config.dataset, root)
  text_scores.check_task(config.dataset, spec.task)
  if config.seeds != 1:
    raise ValueError(f"seeds must be 1 here, got {config.seeds}: give --seed")
  if fixed_rows < 1:
    raise ValueError(f"fixed_rows must be >= 1, got {fixed_rows}")


if __name__ == "__main__":
  flags.launch(main)
