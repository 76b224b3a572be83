"""What every experiment leaves: table, figure, numbers, verdicts.

``NAME.md``, ``NAME.png`` and ``NAME.json`` in the folder of the run, and again
in ``--publish`` where that is given.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import filelock
import numpy as np

from experiments.judge import contrasts
from experiments.judge import verdicts as verdicts_lib
from experiments.report import figures
from experiments.report import passport
from experiments.report import rows as rows_lib
from experiments.report import tables
from experiments.report import verdict_table
from kdropout_jax.training import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What an experiment found, and how it says so.

  Flags, folder, minutes, verdicts and files are the frame's.

  Attributes:
    name: of the files.
    title: a heading.
    setting: what was trained, in sentences.
    table: header and lines.
    rows: what was measured, one a cell and seed, accuracies in points; None
      where `numbers` say it all.
    numbers: further numbers, as plain data.
    seeds: default those of the rows.
    claims: that this experiment can tell.
    judged: rows that the claims read; default `rows`.
    hits: {number of a judged row: bool [N]}, of test images, for the bootstrap
      of claims on plain accuracies.
    void: {setting: reason}: where nothing can be told of any claim.
    notes: further sentences and tables below the table.
    draw: writes the figure to a path; None: no figure.
    made: {"device", "versions"} of the runs, where it was another machine.
  """

  name: str
  title: str
  setting: str
  table: tables.Table
  rows: Sequence[rows_lib.Row] | None = None
  numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seeds: Sequence[int] | None = None
  claims: Sequence[contrasts.Claim] = ()
  judged: Sequence[rows_lib.Row] | None = None
  hits: Mapping[int, Any] | None = None
  void: Mapping[str, str] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
  draw: Callable[[pathlib.Path], None] | None = None
  made: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def all_seeds(self) -> list[int]:
    """Returns the seeds, ascending where the rows tell them."""
    if self.seeds is not None:
      return list(self.seeds)
    return sorted({row["seed"] for row in self.rows or ()})

  def all_numbers(self) -> dict[str, Any]:
    """Returns the rows and the further numbers."""
    rows = {} if self.rows is None else {"rows": list(self.rows)}
    return {**rows, **self.numbers}

  def verdicts(self, scale: str) -> list[verdicts_lib.Verdict]:
    """Returns the verdicts on the claims, at the scale of that name."""
    rows = (self.rows or ()) if self.judged is None else self.judged
    return judge(self.claims, rows, scale=scale, hits=self.hits, void=self.void)


def write(
  report: Report,
  folder: pathlib.Path,
  *,
  scale: str,
  minutes: float,
  publish: str | None = None,
) -> None:
  """Judges the claims, prints the page, and writes page, figure and numbers.

  Args:
    report: the outcome.
    folder: where to.
    scale: name of the scale.
    minutes: that the run took, all calls together where it was continued.
    publish: a second folder for the same files, such as docs/results/NAME.
  """
  verdicts = report.verdicts(scale)
  facts = {
    "scale": scale,
    "seeds": report.all_seeds(),
    "command": passport.command(),
    "minutes": minutes,
    **passport.of_this_machine(),
    **report.made,
  }
  numbers = {
    **{n: getattr(report, n) for n in ("name", "title", "setting")},
    **facts,
    "minutes": round(minutes, 2),
    "numbers": report.all_numbers(),
    "verdicts": [verdict.as_json() for verdict in verdicts],
  }
  page = _page(report, facts, verdicts)
  leave(report.name, page, numbers, folder, draw=report.draw, publish=publish)


def leave(
  name: str,
  page: str,
  numbers: Mapping[str, Any],
  folder: pathlib.Path,
  *,
  draw: Callable[[pathlib.Path], None] | None = None,
  publish: str | None = None,
) -> None:
  """Prints a page, and writes it with its figure and its numbers.

  Args:
    name: of the files.
    page: Markdown.
    numbers: plain data.
    folder: where to.
    draw: writes the figure to a path; None: no figure.
    publish: a second folder for the same files.
  """
  folder.mkdir(parents=True, exist_ok=True)
  print(f"\n{page}")
  files.write_atomically(folder / f"{name}.md", page)
  if draw is not None:
    draw(folder / f"{name}.png")
  tables.write_json(folder / f"{name}.json", files.plain(numbers))
  if publish:
    target = pathlib.Path(publish)
    # Verdicts that were changed stay with what is published, run by run.
    revised = (files.read_object(target / f"{name}.json") or {}).get("revised")
    if revised:
      numbers = {**numbers, "revised": revised}
      tables.write_json(folder / f"{name}.json", files.plain(numbers))
    _publish(name, folder, target)
  print(f"table, figure and numbers are in {folder}")


def judge(
  claims: Iterable[contrasts.Claim],
  rows: Sequence[rows_lib.Row],
  *,
  scale: str,
  hits: Mapping[Any, Any] | None = None,
  void: Mapping[str, str] | None = None,
) -> list[verdicts_lib.Verdict]:
  """Returns the verdicts on `claims`.

  Args:
    claims: of a paper.
    rows: measured cells, one a seed, accuracies in points.
    scale: name of the scale.
    hits: {row number: bool [N]} of test images, for the bootstrap of claims
      on plain accuracies.
    void: {setting: reason}: where nothing can be told of any claim.
  """
  found = []
  for claim in claims:
    images = None
    if hits and claim.measure == "accuracy":
      images = _image_differences(claim, rows, hits)
    found.append(
      verdicts_lib.judge(
        claim,
        contrasts.differences(claim, rows),
        at_paper_scale=scale == "paper",
        hits=images,
        void=void,
      )
    )
  return found


def describe(cell: Any) -> str:
  """Returns what a cell, a `RunConfig`, trains, in a sentence."""
  pooled = f", mean-pooled {cell.mean_pool} x" if cell.mean_pool > 1 else ""
  images = f"{cell.num_train:,}" if cell.num_train else "all"
  depth = (
    f"{cell.num_hidden} hidden layers" if cell.num_hidden else "its layers"
  )
  width = f" of {cell.hidden}" if cell.hidden else ""
  return (
    f"{cell.dataset}{pooled}, {images} training images; {cell.model} with"
    f" {depth}{width}; {cell.optimizer}, learning rate {cell.learning_rate:g},"
    f" batch {cell.batch_size}, {cell.epochs} epochs; last epoch, test set read"
    " once at the end. Accuracies in points, mean +- standard deviation over"
    " seeds."
  )


def add_minutes(folder: pathlib.Path, name: str, seconds: float) -> float:
  """Adds to the minutes that `name` took in all calls, and returns them."""
  file = folder / "minutes.json"
  folder.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(folder / ".lock-minutes"):  # Shards share the file.
    spent = files.read_object(file)
    if spent is None or not all(map(_is_number, spent.values())):
      if files.is_there(file):
        aside = files.set_aside(file).name
        print(f"{file} is damaged and was set aside as {aside}")
      spent = {}
    spent[name] = spent.get(name, 0.0) + seconds / 60
    tables.write_json(file, spent)
  return spent[name]


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _page(
  report: Report,
  facts: Mapping[str, Any],
  verdicts: Sequence[verdicts_lib.Verdict],
) -> str:
  versions, seeds = facts["versions"], facts["seeds"]
  parts = [
    f"# {report.title}",
    report.setting,
    f"- scale: {facts['scale']}; seeds: {len(seeds)}"
    f" ({', '.join(map(str, seeds))})\n"
    f"- command: `{facts['command']}`\n"
    f"- device: {facts['device']}; jax {versions['jax']}, flax"
    f" {versions['flax']}, Python {versions['python']}\n"
    f"- minutes: {facts['minutes']:.1f}",
    tables.text(*report.table),
    *report.notes,
  ]
  if report.draw is not None:
    count = getattr(report.draw, "num_files", 1)
    parts += [
      f"![{report.title}]({figures.numbered(pathlib.Path(name), i)})"
      for i in range(count)
      for name in [f"{report.name}.png"]
    ]
  if verdicts:
    parts.append("## Verdicts\n\n" + verdict_table.text(verdicts, len(seeds)))
  return "\n\n".join(parts) + "\n"


_SUFFIXES = (".md", ".png", ".json")


def _publish(name: str, folder: pathlib.Path, target: pathlib.Path) -> None:
  target.mkdir(parents=True, exist_ok=True)
  drawn = folder.glob(f"{name}-[0-9].png")
  for source in (*(folder / f"{name}{s}" for s in _SUFFIXES), *drawn):
    if source.exists():
      with files.replacing(target / source.name) as whole:
        shutil.copyfile(source, whole)


def _image_differences(
  claim, rows: Sequence[rows_lib.Row], hits
) -> dict[str, Any]:
  """Returns {setting: [S, N]}, differences on each test image, in points."""
  # A row's accuracy may be an array: it is only ever subtracted.
  replaced = [
    {**row, "accuracy": 100 * np.asarray(hits[i], np.float32)}
    for i, row in enumerate(rows)
    if i in hits
  ]
  return contrasts.differences(claim, replaced)
