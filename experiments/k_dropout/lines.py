"""Is a subnet still where it was? Lines between its snapshots, and movement."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cells import finished
from experiments.cells import networks
from experiments.k_dropout import lines_words
from kdropout_jax.analysis import connectivity
from kdropout_jax.analysis import movement
from kdropout_jax.analysis import subnet_accuracy
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.training import task as task_lib


class Lines:
  """Loss and error of a subnet between two states of its network.

  Args:
    nets: the networks.
    rows: images of the split that may be watched.
    num_alphas: points of a line.
  """

  def __init__(
    self, nets: networks.Networks, rows: int | None, num_alphas: int = 11
  ):
    self._nets = nets
    self._inputs, self._labels = nets.split(nets.watched(), rows)
    self.alphas = jnp.linspace(0.0, 1.0, num_alphas)
    self._along = jax.jit(self._values)
    self._whole = jax.jit(self._whole_values)
    self._features = jax.jit(self._last_features)

  def between(self, seed: int, subnet: int, start, end) -> dict[str, list]:
    """Returns loss and error, a share, at each point of the line."""
    masks = self._nets.masks(seed, np.array([subnet]))
    loss, error = self._along(start, end, masks)
    return {
      "loss": np.asarray(loss).tolist(),
      "error": np.asarray(error).tolist(),
    }

  def between_networks(self, start, end) -> dict[str, list]:
    """Returns loss and error, a share, of whole networks along the line."""
    loss, error = self._whole(start, end)
    return {
      "loss": np.asarray(loss).tolist(),
      "error": np.asarray(error).tolist(),
    }

  def compare(self, seed: int, subnet: int, start, end) -> dict:
    """Returns the line, its barriers, and how far the subnet has moved."""
    line = self.between(seed, subnet, start, end)
    masks = self._nets.masks(seed, np.array([subnet]))
    tables = indexing.make_tables(masks, self._nets.sizes)
    small = [
      extraction.take(params, self._nets.layout, tables)
      for params in (start, end)
    ]
    features = [
      self._features(params, networks.run_key(seed), jnp.uint32(subnet))
      for params in (start, end)
    ]
    weights = movement.of_weights(*small)
    activations = movement.of_activations(*features)
    return {
      "line": line,
      "loss_barrier": self._barrier(line["loss"]),
      "error_barrier": self._barrier(line["error"]),
      "error_over_mean": lines_words.over_mean(np.array(line["error"])),
      "weights_moved": float(weights.relative),
      "activations_moved": float(activations.relative),
    }

  def _barrier(self, values: list[float]) -> float:
    return float(connectivity.barrier(jnp.asarray(values), self.alphas))

  def _values(self, start, end, masks):
    def at(params):
      logits = subnet_accuracy.logits(
        self._nets.apply,
        params,
        masks,
        jnp.asarray(self._inputs),
        layout=self._nets.layout,
        sizes=self._nets.sizes,
      )[0]
      return self._scores(logits)

    return connectivity.along_line(at, start, end, self.alphas)

  def _whole_values(self, start, end):
    inputs = jnp.asarray(self._inputs)
    return connectivity.along_line(
      lambda params: self._scores(self._nets.apply(params, inputs)),
      start,
      end,
      self.alphas,
    )

  def _scores(self, logits):
    losses, hits = task_lib.losses_and_hits(logits, jnp.asarray(self._labels))
    return jnp.mean(losses), 1.0 - jnp.mean(hits)

  def _last_features(self, params, key, subnet):
    """Returns the last hidden layer of a subnet, scaled as in training."""
    return self._nets.subnet(params, key, subnet, self._inputs)[1]


def follow(
  run: finished.Trained, lines: Lines, subnets: int, later: int
) -> list[dict]:
  """Compares the first subnets at their window's end with later snapshots.

  Args:
    run: of sequential dropout, m = 1, with a snapshot at every window's end.
    lines: of the same networks.
    subnets: how many of the first.
    later: how many of the later snapshots, the last among them.
  """
  rows = []
  for cell in run.cells:
    for subnet in range(subnets):
      begin = (subnet + 1) * cell.k
      after = [step for step in run.steps if step > begin]
      picks = np.linspace(0, len(after) - 1, min(later, len(after)))
      start = run.params(cell, begin)
      for step in dict.fromkeys(after[round(i)] for i in picks):
        found = lines.compare(cell.seed, subnet, start, run.params(cell, step))
        own = {"seed": cell.seed, "k": cell.k, "subnet": subnet}
        rows.append(own | {"from_step": begin, "step": step} | found)
  return rows


def control(run: finished.Trained, lines: Lines) -> list[dict]:
  """Returns the lines between whole networks of independent runs.

  The positive control: where two runs share neither initialisation nor
  batches, a measure of barriers must see one.

  Args:
    run: of several seeds.
    lines: of the same networks.
  """
  pairs = zip(run.cells, (*run.cells[1:], run.cells[0]))
  return [
    {
      "seed": first.seed,
      "other_seed": second.seed,
      "line": lines.between_networks(run.params(first), run.params(second)),
    }
    for first, second in pairs
  ]
