"""Unsupervised pretraining, then fine-tuning that drops units.

  python -m experiments.pretraining --scale=cpu

The notes, 1.2: stacked restricted Boltzmann machines or denoising autoencoders;
pretrained weights are divided by what dropout keeps; a large learning rate
erases what was learnt, a small one keeps it and then dropout helps. With and
without the division, at both rates; machines whose hidden units are dropped in
pretraining, also under k and m (Srivastava et al. 2014, section 8); and a deep
Boltzmann machine, which only has to run and to read images back. 1,000 images
with labels and 5,000 without: few, so that pretraining and dropout can help.
About 2 minutes of one core at the cpu scale, on MNIST. Expected: pretraining
helps by 5 points without dropout; dropout is far from done at the small rate,
where the division gains 2 points, and no rate here erases what was learnt.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

import kdropout_jax as kd
from experiments.cells import experiment
from experiments.foundations import boltzmann
from experiments.foundations import claims
from experiments.foundations import denoising
from experiments.foundations import finetuning
from experiments.foundations import paper
from experiments.foundations import rbm
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import examples

LEARNING_RATES = {"small": 0.03, "large": 0.5}
"""Of fine-tuning, ours and not tuned."""

_BATCH = 50
_BY = ("start", "dropout", "learning_rate")


class Images(NamedTuple):
  """Pixels in [0, 1], the labels of the first training images, and the test."""

  train_x: Float[np.ndarray, "N V"]
  train_labels: Int[np.ndarray, "L"]
  test_x: Float[np.ndarray, "M V"]
  test_labels: Int[np.ndarray, "M"]


def load(
  scale: sizes.Scale, data_dir: str | None, mean_pool: int | None = None
) -> Images:
  """Returns the images: more to pretrain on than there are labels."""
  labelled = scale.common["num_train"]
  own = {} if mean_pool is None else {"mean_pool": mean_pool}
  cell = scale.config(
    **{"method": "none", "num_train": scale.unlabelled * labelled} | own
  )
  found = examples.load(cell, data_dir)
  assert found.data is not None
  pixels = np.asarray(found.data.inputs, np.float32) / found.info.pixel_max
  pixels, labels = pixels.reshape(len(pixels), -1), found.data.labels
  train, test = (slice(*found.splits[name]) for name in ("train", "test"))
  return Images(
    pixels[train],
    np.asarray(labels[train][:labelled]),
    pixels[test],
    np.asarray(labels[test]),
  )


def starts(scale: sizes.Scale) -> dict[str, Any]:
  """Returns {label: what trains a layer, and how}; None: nothing does."""
  recipe = rbm.Recipe(scale.layer_steps, _BATCH)
  dropped = recipe._replace(rate=paper.HIDDEN_RATE)
  window = max(1, scale.layer_steps // 20)
  return {
    "random": None,
    "rbm": (rbm.train, recipe),
    "denoising": (denoising.train, recipe),
    "dropout rbm": (rbm.train, dropped),
    "dropout rbm m=8": (
      rbm.train,
      dropped._replace(schedule=kd.Sequential(k=window, m=8)),
    ),
    "dropout rbm pool": (
      rbm.train,
      dropped._replace(schedule=kd.Pooled(pool_size=50, m=8)),
    ),
  }


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Pretrains, fine-tunes in each way, and compares."""
  images = load(scale, store.data_dir)
  widths = (scale.common["hidden"],) * scale.common["num_hidden"]
  rows = []
  for start, how in starts(scale).items():
    for seed in range(scale.seeds):
      given = None
      if how is not None:
        train, recipe = how
        key = jax.random.key(seed)
        given = finetuning.stack(train, images.train_x, widths, key, recipe)
      own = {"start": start, "seed": seed}
      found = tune(
        given, images, widths, scale, seed, start.startswith("dropout")
      )
      rows += [own | row for row in found]
  return _report(scale, rows, deep_machine(scale, store.data_dir))


def tune(
  given: finetuning.Pretrained | None,
  images: Images,
  widths: tuple[int, ...],
  scale: sizes.Scale,
  seed: int,
  only_scaled: bool = False,
) -> list[rows_lib.Row]:
  """Returns a row for each way of dropping units and learning rate."""
  dropping = finetuning.Classifier(
    widths, rate=paper.HIDDEN_RATE, input_rate=paper.INPUT_RATE
  )
  whole = finetuning.Classifier(widths, rate=0.0, input_rate=0.0)
  ways = {"none": (whole, given), "unscaled": (dropping, given)}
  if given is not None:
    scaled = given.scaled(dropping.rates, dropping.rescale)
    ways["scaled"] = (dropping, scaled)
  if only_scaled:
    ways = {"scaled": ways["scaled"]}
  x = jnp.asarray(images.train_x[: len(images.train_labels)])
  labels = jnp.asarray(images.train_labels)
  rows = []
  for way, (model, layers) in ways.items():
    key = jax.random.key(seed + 1000)
    params = model.start(key, x.shape[1], layers)
    for name, learning_rate in LEARNING_RATES.items():
      found = finetuning.finetune(
        model,
        params,
        x,
        labels,
        key,
        learning_rate,
        num_steps=scale.num_steps,
        batch_size=_BATCH,
      )
      row: rows_lib.Row = {"dropout": way, "learning_rate": name}
      row["accuracy"] = accuracy(model, found, images)
      rows.append(row | {"moved": moved(params, found)})
  return rows


def accuracy(
  model: finetuning.Classifier, params: Any, images: Images
) -> float:
  """Returns the test accuracy of the whole network, in points."""
  logits: Any = model.apply({"params": params}, jnp.asarray(images.test_x))
  said = np.asarray(jnp.argmax(logits, axis=-1))
  return 100 * float(np.mean(said == images.test_labels))


def moved(before: Any, after: Any) -> float:
  """Returns how far the first layer's weights went, over their norm."""
  first, last = (tree["hidden_0"]["kernel"] for tree in (before, after))
  return float(jnp.linalg.norm(last - first) / jnp.linalg.norm(first))


def deep_machine(scale: sizes.Scale, data_dir: str | None) -> rows_lib.Row:
  """Returns how well a deep Boltzmann machine reads whole images back."""
  images = load(scale, data_dir, mean_pool=1)
  layers = rbm.Recipe(scale.layer_steps, _BATCH)
  recipe = rbm.Recipe(scale.layer_steps // 3, _BATCH, learning_rate=0.005)
  machine = boltzmann.train(
    images.train_x, scale.machine, jax.random.key(0), recipe, layers
  )
  test = jnp.asarray(images.test_x[:1000])
  back = boltzmann.read_back(machine, test)
  mean = jnp.asarray(images.train_x).mean(axis=0)
  return {
    "sizes": (test.shape[1], *scale.machine),
    "squared_error": float(jnp.mean((back - test) ** 2)),
    "of_the_mean_image": float(jnp.mean((mean[None] - test) ** 2)),
  }


def _report(scale, rows, machine) -> study.Report:
  labelled = scale.common["num_train"]
  shape = "-".join(map(str, machine["sizes"]))
  panels = [
    figures.Panel(
      title=f"{name} learning rate; one point a run",
      dots={
        ", ".join(key): [row["accuracy"] for row in own]
        for key, own in rows_lib.group(same, "start", "dropout").items()
      },
    )
    for (name,), same in rows_lib.group(rows, "learning_rate").items()
  ]
  return study.Report(
    name="pretraining",
    title="Pretraining, and dropout after it",
    setting=(
      f"{scale.common['dataset']}, {labelled:,} images with labels and"
      f" {scale.unlabelled * labelled:,} to pretrain on; sigmoid units,"
      f" {scale.common['num_hidden']} hidden layers of"
      f" {scale.common['hidden']}; {scale.layer_steps:,} steps a layer, then"
      f" {scale.num_steps:,} of SGD with momentum .9, batch {_BATCH}."
      " Accuracies in points, mean +- standard deviation over seeds."
    ),
    table=columns.table(
      rows,
      _BY,
      {
        "start": columns.setting("start"),
        "dropout": columns.setting("dropout"),
        "learning rate": columns.setting("learning_rate"),
        "test accuracy": columns.spread("accuracy"),
        "first layer moved": columns.spread("moved"),
      },
    ),
    rows=rows,
    numbers={"deep_boltzmann_machine": machine},
    claims=claims.named(
      "pretraining_helps",
      "dropout_helps_after_pretraining",
      "large_rates_erase_pretraining",
      "scaling_pretrained_weights_helps",
    ),
    notes=[
      f"Dropped: {paper.INPUT_RATE:g} of the inputs, {paper.HIDDEN_RATE:g} of"
      " the hidden units, weights scaled at test; scaled: pretrained weights"
      " divided by what is kept of what they read. Learning rates:"
      f" {_rates()}, ours and not tuned. dropout rbm: hidden units dropped in"
      f" pretraining, by fresh masks, by 8 that stand for"
      f" {max(1, scale.layer_steps // 20)} steps, or by 8 of a pool of 50."
      " Moved: the distance that fine-tuning took the first layer's weights"
      " over their norm before it.",
      f"A deep Boltzmann machine, {shape} (from two restricted ones,"
      f" {scale.layer_steps // 3:,} steps of mean field and persistent chains;"
      " no verdict), reads test images"
      f" back with a squared error of {machine['squared_error']:.4f} a pixel;"
      f" the mean image has {machine['of_the_mean_image']:.4f}.",
    ],
    draw=figures.drawing(panels, columns=2),
  )


def _rates() -> str:
  return ", ".join(f"{rate:g} ({n})" for n, rate in LEARNING_RATES.items())


main = experiment.main(measure, sizes.PRETRAINING, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
