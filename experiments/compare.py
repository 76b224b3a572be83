"""Compares all dropout schedules on letters that matplotlib's fonts draw.

  python -m experiments.compare

A minute and a half on two CPU cores, no download. It trains an MLP on a
thousand distorted letters, 14 x 14 pixels, and tests it on ten thousand: a
setting chosen on 2,000 held-out images, in which dropout helps. Expected:
standard dropout 4 points above none; twenty subnets at a time 3 above it, at
1.4 times standard dropout's speed, since few masks are drawn; a pool of 200
nearly as good; one subnet at a time below none, as 1,000 steps are few.

``--scale=cifar10`` trains the k-dropout paper's network, at width 512, on
10,000 real images (prepare them first with `experiments.prepare_data`): none,
standard and pooled, three seeds, about ten minutes of two cores.

The folder of the run (``--workdir``) gets table.txt, results.json, compare.png
(test accuracy against speed, with intervals), curves.png and one folder a
method.
"""

import pathlib
from typing import Any

import numpy as np
from absl import flags as absl_flags
from jaxtyping import Float

from experiments.judge import statistics
from experiments.report import plots
from experiments.report import tables
from experiments.run import config as config_lib
from experiments.run import flags
from experiments.run import runner
from experiments.run import shown
from experiments.run import workdirs
from kdropout_jax.training import files
from kdropout_jax.training import metrics

if "scale" not in absl_flags.FLAGS:
  absl_flags.DEFINE_string(
    "scale", "full", "full (digits), smoke (a few steps), cifar10 (real images)"
  )
flags.define_machine()

FLAGS = absl_flags.FLAGS

COMMON: dict[str, Any] = dict(
  dataset="letters",
  mean_pool=2,
  num_train=1000,
  valid_fraction=0.2,
  hidden=512,
  init="he",
  learning_rate=1e-3,
  batch_size=100,
  num_steps=1000,
  seeds=5,
  num_devices=1,
  eval_every=100,
  checkpoint_every=1000,
)
"""A thousand training images; 2,000 held-out ones chose the rest."""

METHODS: dict[str, dict[str, Any]] = {
  "no dropout": dict(method="none"),
  "standard": dict(method="standard"),
  "sequential, 20 at a time": dict(method="sequential", k=10, m=20),
  "pool of 200": dict(method="pooled", pool_size=200, m=20),
  "gyro": dict(method="gyro", total=256, concurrent=16),
  "gyro, block-wise": dict(
    method="gyro",
    total=256,
    concurrent=10,
    rows_per_subnet=10,
    pattern="blocks",
    block_size=16,
  ),
  "one at a time": dict(method="sequential", k=1, m=1),
}

_SMOKE: dict[str, Any] = dict(num_steps=4, eval_every=2, hidden=160, seeds=2)

IMAGES: dict[str, Any] = dict(
  dataset="cifar10",
  model="kdropout_mlp",
  num_train=10_000,
  hidden=512,
  batch_size=128,
  epochs=30,
  seeds=3,
  num_devices=1,
)
"""The k-dropout paper's network, narrower, on a fifth of CIFAR-10."""

IMAGE_METHODS: dict[str, dict[str, Any]] = {
  "no dropout": dict(method="none"),
  "standard": dict(method="standard"),
  "pooled": dict(method="pooled", pool_size=50, m=8),
}

SCALES = ("full", "smoke", "cifar10")


def configs(scale: str = "full") -> dict[str, config_lib.RunConfig]:
  """Returns {label: configuration}."""
  config_lib.check_choice("scale", scale, SCALES)
  common = COMMON | (_SMOKE if scale == "smoke" else {})
  chosen = METHODS
  if scale == "cifar10":
    common, chosen = IMAGES, IMAGE_METHODS
  return {
    label: config_lib.RunConfig(**(common | own))
    for label, own in chosen.items()
  }


def default_workdir(chosen: dict[str, config_lib.RunConfig]) -> pathlib.Path:
  """Returns ``runs/compare-DIGEST``."""
  identities = [config.identity() for config in chosen.values()]
  return pathlib.Path("runs") / f"compare-{config_lib.digest(identities)}"


def main(argv: list[str]) -> None:
  del argv
  chosen = configs(FLAGS.scale)
  folder = pathlib.Path(FLAGS.workdir or default_workdir(chosen))
  results = {}
  with workdirs.locked(folder):
    for label, config in chosen.items():
      (results[label],) = runner.run(
        config,
        _folder(folder, label),
        data_dir=FLAGS.data_dir,
        progress=FLAGS.progress,
        description=f"{label:>16}",
      )
    report(folder, chosen, results)


def report(
  folder: pathlib.Path,
  chosen: dict[str, config_lib.RunConfig],
  results: dict[str, dict[str, Any]],
) -> None:
  """Prints the table, and writes table, numbers and figure."""
  first = next(iter(results.values()))
  heading = (
    f"{first['config']['num_train']:,} training images of"
    f" {first['config']['dataset']}"
    f"{_bracketed(first['dataset_note'])}, mean and standard deviation over"
    f" {first['config']['seeds']} seeds; test set read once, at the end;"
    f" {first['device']}"
  )
  table = tables.text(
    ("method", "hyperparameters", "subnets", "test accuracy", "examples/s"),
    [
      (
        label,
        shown.describe(chosen[label]),
        f"{result['num_subnets']:,}",
        tables.mean_and_deviation(result["test_accuracy"]),
        f"{result['examples_per_second']:,.0f}",
      )
      for label, result in results.items()
    ],
  )
  text = f"{heading}\n\n{table}\n"
  print(f"\n{text}")
  files.write_atomically(folder / "table.txt", text)
  tables.write_json(folder / "results.json", results)
  draw_both_axes(folder / "compare.png", folder, results)
  curves = {label: _curve(folder, label) for label in results}
  plots.bands(
    folder / "curves.png",
    curves,
    x_label="step",
    y_label="held-out accuracy",
    title=(
      f"{first['config']['dataset']}, {first['config']['num_train']:,} training"
      " images"
    ),
    y_from=min(values[-1].min() for _, values in curves.values()) - 0.05,
  )
  print(f"table, figure, numbers and runs are in {folder}")


def draw_both_axes(
  path: pathlib.Path, folder: pathlib.Path, results: dict[str, dict[str, Any]]
) -> None:
  """Draws accuracy minus no dropout's against speed over standard dropout's.

  Both with 95 % t intervals: of differences paired by seed, and of the rates
  of the spans between evaluations.
  """
  from matplotlib import figure

  names = list(results)
  base, standard = names[0], names[1]
  reference = float(np.mean(rates(folder, standard, results[standard])))
  drawing = figure.Figure(figsize=(7, 4.5), layout="constrained")
  axes = drawing.subplots()
  axes.axhline(0.0, color="black", lw=1, linestyle=(0, (6, 3)), label=base)
  axes.axvline(1.0, color="black", lw=0.8, alpha=0.5)
  for label, colour in zip(names[1:], plots.COLOURS[1:]):
    gain = statistics.t_interval(_points(results, label, base))
    own = rates(folder, label, results[label]) / reference
    speed = statistics.t_interval(own)
    axes.errorbar(
      *(speed.estimate, gain.estimate),
      xerr=[[speed.estimate - speed.low], [speed.high - speed.estimate]],
      yerr=[[gain.estimate - gain.low], [gain.high - gain.estimate]],
      **{"fmt": "o", "color": colour, "capsize": 3, "label": label},
    )
  axes.set_xlabel(f"speed of training, over {standard} dropout's (x)")
  axes.set_ylabel(
    f"test accuracy minus {base} (points)\nmean and 95 % t interval"
  )
  axes.grid(alpha=0.3)
  drawing.legend(loc="outside right upper", frameon=False, fontsize=8)
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=150)


def rates(
  folder: pathlib.Path, label: str, result: dict[str, Any]
) -> Float[np.ndarray, "spans"]:
  """Returns examples a second of the spans between a run's evaluations.

  The log holds the mean rate since the start at each.
  """
  records = metrics.read_jsonl(_folder(folder, label) / runner.METRICS)
  own = [r for r in records if r.get("examples_per_second")]
  steps = np.array([record["step"] for record in own], np.float64)
  since = steps / np.array([record["examples_per_second"] for record in own])
  spans, seconds = np.diff(steps), np.diff(since)
  told = seconds > 0
  if told.sum() < 2:  # Too short a run for spans.
    return np.full(2, float(result["examples_per_second"]))
  return spans[told] / seconds[told]


def _points(results: dict[str, dict[str, Any]], label: str, base: str):
  ours, theirs = (
    100 * np.array(results[name]["test_accuracy"]) for name in (label, base)
  )
  return ours - theirs


def _bracketed(note: str | None) -> str:
  return f" ({note})" if note else ""


def _folder(folder: pathlib.Path, label: str) -> pathlib.Path:
  return folder / label.replace(", ", "-").replace(" ", "-")


def _curve(folder: pathlib.Path, label: str) -> plots.Curve:
  log = _folder(folder, label) / runner.METRICS
  return plots.accuracy_curve(metrics.read_jsonl(log))


if __name__ == "__main__":
  flags.launch(main)
