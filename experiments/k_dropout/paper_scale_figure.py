"""The figure of the runs at the paper's scale, the paper's points in grey."""

from collections.abc import Sequence
from typing import Any

from experiments.k_dropout import paper
from experiments.report import figures
from experiments.report import rows as rows_lib


def panels(rows: Sequence[rows_lib.Row]) -> list[figures.Panel]:
  """Returns a panel an order of the batches, and the pools."""
  first = paper.FIGURE_1_KS.index(485)  # Ours start there.
  ks = paper.FIGURE_1_KS[first:]
  one, many = (paper.FIGURE_1_SEQUENTIAL[m][first:] for m in (1, 512))
  frozen = {
    **_by_k(rows, "once", ""),
    **_by_k(rows, "rows", ", rows permuted"),
  }
  pools = [r for r in rows if r["method"] == "pooled"]
  shared: dict[str, Any] = dict(
    log_x=True,
    y_range=(48, 61.5),
  )
  k = "steps k that a subnet trains"
  pool_x, pool_y = paper.FIGURE_1_POOL_SIZES[1:5], paper.FIGURE_1_POOLED[8][1:5]
  return [
    figures.Panel(
      title="batches reshuffled each epoch",
      x_label=k,
      run=paper.FIGURE_1_KS[-1],
      lines=_by_k(rows, "every_epoch", ""),
      levels=_levels(rows, "every_epoch"),
      **shared,
    ),
    figures.Panel(
      title="frozen batches, as in the authors' code",
      x_label=k,
      run=paper.FIGURE_1_KS[-1],
      lines=frozen,
      levels=_levels(rows, "once"),
      paper={
        "paper (its device is not said): 1 subnet": (ks, one),
        "paper: 512 subnets": (ks, many),
      },
      **shared,
    ),
    figures.Panel(
      title="pools, batches reshuffled",
      x_label="subnets in the pool",
      lines={"8 subnets at a time": rows_lib.curve(pools, "pool_size")},
      levels=_levels(rows, "every_epoch"),
      paper={"paper: 8 (frozen)": (pool_x, pool_y)},
      **shared,
    ),
  ]


def _by_k(rows, order: str, words: str):
  chosen = [
    r for r in rows if (r["method"], r["shuffle"]) == ("sequential", order)
  ]
  names = {1: "1 subnet at a time", 512: "512"}
  return {
    names[m] + words: rows_lib.curve(same, "k")
    for (m,), same in sorted(rows_lib.group(chosen, "m").items())
  }


def _levels(rows, order: str) -> dict[str, float]:
  means = rows_lib.means(rows, "method", "shuffle")
  names = {"none": "no dropout", "standard": "standard dropout"}
  return {words: means[name, order] for name, words in names.items()}
