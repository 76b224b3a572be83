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
"""

import pathlib

from absl import flags as absl_flags

from experiments.gyro import text_runs
from experiments.report import tables
from experiments.run import flags

_NUM_TEST = "num_test"

FLAGS = absl_flags.FLAGS


def define() -> None:
  """Defines the flags, once."""
  flags.define_run()
  if _NUM_TEST not in FLAGS:
    absl_flags.DEFINE_integer(
      _NUM_TEST, None, "squad: test questions to keep, at random; default all"
    )
    absl_flags.DEFINE_integer(
      "fixed_rows", 256, "training rows whose loss is taken before and after"
    )


define()


def main(argv: list[str]) -> None:
  del argv
  config = flags.run_config()
  found = text_runs.run(
    config,
    FLAGS.data_dir,
    num_test=FLAGS.num_test,
    fixed_rows=FLAGS.fixed_rows,
    progress=FLAGS.progress,
  )
  scores = found["scores"]
  names = list(scores["model"])
  rows = [
    (who, *(f"{scores[who][name]:.2f}" for name in names)) for who in scores
  ]
  print(f"{config.dataset}, {found['note']}, {found['steps']} steps")
  print(tables.text(("", *names), rows))
  before, after = found["fixed_loss"]
  print(
    f"loss of {found['fixed_rows']} fixed rows: {before:.4f} before,"
    f" {after:.4f} after"
  )
  if FLAGS.workdir is not None:
    folder = pathlib.Path(FLAGS.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_json(folder / "text_results.json", found)


if __name__ == "__main__":
  flags.launch(main)
