"""Writes the page over a paper's results from the numbers that lie there.

  python -m experiments.results_page --paper=gyro

Every experiment leaves its numbers by ``--publish=docs/results/gyro`` (k-dropout,
foundations); what left none says "not run". A second or two. The page judges all
numbers by the rules of today; ``--again`` writes those verdicts into the
numbers and pages of the experiments, too, where the old ones stay, dated.
"""

import pathlib

from absl import flags as absl_flags

from experiments.foundations import page as foundations_page
from experiments.gyro import page as gyro_page
from experiments.k_dropout import page as k_dropout_page
from experiments.report import again
from experiments.report import page
from experiments.run import flags
from kdropout_jax.training import files

PAPERS = {
  "k-dropout": k_dropout_page.PAPER,
  "gyro": gyro_page.PAPER,
  "foundations": foundations_page.PAPER,
}


def main(argv: list[str]) -> None:
  del argv
  name = absl_flags.FLAGS.paper
  folder = pathlib.Path(absl_flags.FLAGS.folder or f"docs/results/{name}")
  folder.mkdir(parents=True, exist_ok=True)
  if absl_flags.FLAGS.again:
    _again(PAPERS[name], folder)
  text = page.text(PAPERS[name], folder)
  files.write_atomically(folder / "README.md", text)
  print(f"{folder / 'README.md'} is written")


def _again(paper: page.Paper, folder: pathlib.Path) -> None:
  for name in paper.experiments:
    revised = again.write(
      folder / f"{name}.json", paper.claims, paper.sources.get(name), paper.why
    )
    for old in revised:
      print(f"{name}: {old['claim']} was: {old['outcome']}")


if __name__ == "__main__":
  absl_flags.DEFINE_enum("paper", "k-dropout", list(PAPERS), "whose results")
  absl_flags.DEFINE_string(
    "folder", None, "where the numbers lie; default docs/results/PAPER"
  )
  absl_flags.DEFINE_bool(
    "again", False, "also write today's verdicts into the experiments' files"
  )
  flags.launch(main)
