"""What autoencoders of 256 ReLU units learn with and without dropout.

  python -m experiments.features --scale=cpu

Srivastava et al. 2014, sections 7.1 and 7.2: figure 7 shows the filters, and
the activations of test images are said to be sparser with dropout. Images of
28 x 28. About 3 minutes of two cores at the cpu scale. Expected: with dropout
filters look like strokes, without it like noise; fewer units are active.
"""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.cells import experiment
from experiments.cells import finished
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import study
from kdropout_jax.training import files

ARMS = {
  "none": dict(method="none"),
  "standard": dict(method="standard", rate=paper.HIDDEN_RATE),
}
_WORDS = {"none": "without dropout", "standard": "with dropout"}
_FIELDS = dict(model="autoencoder", hidden=256, num_hidden=None, mean_pool=1)
_NEAR_ZERO = 0.01
_ROWS = 2000  # Test images.
_SHOWN = 100  # Filters.


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains both autoencoders, and looks at their hidden units."""
  rows, shown = [], {}
  for label, fields in ARMS.items():
    run = finished.train(store, scale, **_FIELDS, **fields)
    inputs, _ = run.nets.split("test", _ROWS)
    pixels = np.asarray(run.nets.task.preprocess(inputs), np.float32)
    pixels = pixels.reshape(len(pixels), -1)
    for cell in run.cells:
      params = run.params(cell)
      hidden = activations(params, pixels)
      own = {"method": label, "seed": cell.seed} | sparsity(hidden)
      rows.append(own | {"squared_error": squared_error(params, pixels)})
      if cell.seed == run.seeds[0]:
        kernel = np.asarray(params["hidden_0"]["kernel"])
        shown[label] = (kernel, hidden)
  return study.Report(
    name="features",
    title="Features of autoencoders",
    setting=study.describe(run.cells[0]),
    table=columns.table(
      rows,
      ("method",),
      {
        "dropout": columns.setting("method"),
        "mean activation": columns.spread("mean_activation", 4),
        f"share below {_NEAR_ZERO:g}": columns.spread("share_near_zero", 3),
        "share of images a unit fires for": columns.spread("fires_for", 3),
        "squared error of a pixel": columns.spread("squared_error", 4),
      },
    ),
    rows=rows,
    claims=claims.named(
      "dropout_lowers_the_mean_activation", "dropout_makes_units_sparse"
    ),
    notes=[
      "Activations of the hidden units on test images, nothing dropped. The"
      " figure shows the first seed: incoming weights of the first"
      f" {_SHOWN} units, each scaled by its largest; below, all activations,"
      " and each unit's mean."
    ],
    draw=lambda path: draw(path, shown),
  )


def activations(
  params: Any, pixels: Float[np.ndarray, "N I"]
) -> Float[np.ndarray, "N H"]:
  """Returns the hidden units' outputs, nothing dropped."""
  layer = params["hidden_0"]
  kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
  return np.maximum(pixels @ kernel + bias, 0)


def sparsity(hidden: Float[np.ndarray, "N H"]) -> dict[str, float]:
  """Returns how active units are: on average, and how often at all."""
  return {
    "mean_activation": float(hidden.mean()),
    "share_near_zero": float((hidden < _NEAR_ZERO).mean()),
    "fires_for": float(np.median((hidden > 0).mean(axis=0))),
  }


def squared_error(params: Any, pixels: Float[np.ndarray, "N I"]) -> float:
  """Returns the mean squared error of the images as they are read back."""
  layer = params["logits"]
  kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
  outputs = activations(params, pixels) @ kernel + bias
  return float(np.mean((outputs - pixels) ** 2))


def tiles(kernel: Float[np.ndarray, "I H"], count: int = _SHOWN) -> np.ndarray:
  """Returns the incoming weights of units as one square image of squares."""
  side, across = round(kernel.shape[0] ** 0.5), round(count**0.5)
  image = np.zeros((across * (side + 1) - 1,) * 2)
  for unit in range(min(across**2, kernel.shape[1])):
    own = kernel[:, unit].reshape(side, side)
    row, column = divmod(unit, across)
    top, left = row * (side + 1), column * (side + 1)
    image[top : top + side, left : left + side] = own / np.abs(own).max()
  return image


def draw(path: pathlib.Path, shown: rows_lib.Row) -> None:
  """Draws filters above, and activations below, a column a method."""
  from matplotlib import figure

  drawing = figure.Figure(figsize=(10, 8), layout="constrained")
  axes = drawing.subplots(2, 2, height_ratios=(5, 2), squeeze=False)
  top = max(hidden.mean(axis=0).max() for _, hidden in shown.values())
  for column, (label, (kernel, hidden)) in enumerate(shown.items()):
    axes[0, column].imshow(tiles(kernel), cmap="gray", vmin=-1, vmax=1)
    axes[0, column].axis("off")
    axes[0, column].set_title(_WORDS[label])
    ax = axes[1, column]
    edges = np.linspace(0, top, 40)
    share = np.full(hidden.size, 1 / hidden.size)
    ax.hist(hidden.ravel(), edges, weights=share, alpha=0.5, label="all")
    means = hidden.mean(axis=0)
    share = np.full(means.size, 1 / means.size)
    ax.hist(means, edges, weights=share, alpha=0.5, label="mean of a unit")
    ax.set(xlabel="activation", ylabel="share", yscale="log")
    ax.legend(fontsize=7)
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=100)


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
