"""What every experiment leaves: table, figure, numbers, verdicts.

``NAME.md``, ``NAME.png`` and ``NAME.json`` in the folder of the run, and again
in ``--publish`` where that is given.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.judge import contrasts
from experiments.judge import statistics
from experiments.judge import verdicts as verdicts_lib
from experiments.report import passport
from experiments.report import tables
from kdropout_jax.training import metrics

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Report:
  """The outcome of an experiment.

  Attributes:
    name: of the binary.
    title: a heading.
    scale: name of the scale.
    setting: what was trained, in a sentence.
    header: of the table.
    table: rows of strings.
    numbers: everything, as plain data.
    seeds: the seeds.
    verdicts: of the claims that this experiment can tell.
    notes: further sentences below the table.
    minutes: that the run took, all calls together where it was continued.
  """

  name: str
  title: str
  scale: str
  setting: str
  header: Sequence[str]
  table: Sequence[Sequence[str]]
  numbers: Mapping[str, Any]
  seeds: Sequence[int]
  verdicts: Sequence[verdicts_lib.Verdict] = ()
  notes: Sequence[str] = ()
  minutes: float = 0.0


def write(
  report: Report,
  folder: pathlib.Path,
  draw: Callable[[pathlib.Path], None] | None = None,
  publish: str | None = None,
) -> pathlib.Path:
  """Prints a report and writes its files.

  Args:
    report: the outcome.
    folder: where to.
    draw: writes the figure to a path; None: no figure.
    publish: a second folder for the same files, such as docs/results/NAME.

  Returns:
    The Markdown file.
  """
  folder.mkdir(parents=True, exist_ok=True)
  machine = passport.of_this_machine()
  text = _text(report, machine, has_figure=draw is not None)
  print(f"\n{text}")
  page = folder / f"{report.name}.md"
  metrics.write_atomically(page, text)
  if draw is not None:
    draw(folder / f"{report.name}.png")
  tables.write_json(
    folder / f"{report.name}.json",
    plain(
      {
        "name": report.name,
        "title": report.title,
        "scale": report.scale,
        "setting": report.setting,
        "command": passport.command(),
        "minutes": round(report.minutes, 2),
        "seeds": list(report.seeds),
        **machine,
        "numbers": report.numbers,
        "verdicts": [v.as_json() for v in report.verdicts],
      }
    ),
  )
  if publish:
    _publish(report.name, folder, pathlib.Path(publish))
  print(f"table, figure and numbers are in {folder}")
  return page


def judge(
  claims: Iterable[contrasts.Claim],
  rows: Sequence[Row],
  *,
  scale: str,
  hits: Mapping[Any, Any] | None = None,
) -> list[verdicts_lib.Verdict]:
  """Returns the verdicts on `claims`.

  Args:
    claims: of a paper.
    rows: measured cells, one a seed, accuracies in points.
    scale: name of the scale.
    hits: {row number: bool [N]} of test images, for the bootstrap of claims
      on plain accuracies.
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
  spent = json.loads(file.read_text()) if file.exists() else {}
  spent[name] = spent.get(name, 0.0) + seconds / 60
  folder.mkdir(parents=True, exist_ok=True)
  tables.write_json(file, spent)
  return spent[name]


def plain(value: Any) -> Any:
  """Returns data that JSON can hold; a number that is not finite is None."""
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, np.ndarray):
    return plain(value.tolist())
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, (np.integer, np.bool_)):
    return value.item()
  if isinstance(value, (float, np.floating)):
    return float(value) if np.isfinite(value) else None
  return value


def points(values: Any) -> str:
  """Returns shares as points, mean and deviation: ``40.12 +- 0.31``."""
  return tables.mean_and_deviation(100 * np.asarray(values, np.float64), 2)


def paired(differences: Any) -> str:
  """Returns paired differences as their mean and 95 % t interval.

  >>> paired([0.1, 0.3, 0.2])
  '+0.20 [-0.05, +0.45]'
  """
  values = np.asarray(differences, np.float64)
  if values.size == 0:
    return "-"
  if values.size == 1:
    return f"{values[0]:+.2f}"
  mean, low, high = statistics.t_interval(values)
  return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _text(report: Report, machine: Mapping[str, Any], has_figure: bool) -> str:
  versions = machine["versions"]
  parts = [
    f"# {report.title}",
    report.setting,
    f"- scale: {report.scale}; seeds: {len(report.seeds)}"
    f" ({', '.join(map(str, report.seeds))})\n"
    f"- command: `{passport.command()}`\n"
    f"- device: {machine['device']}; jax {versions['jax']}, flax"
    f" {versions['flax']}, Python {versions['python']}\n"
    f"- minutes: {report.minutes:.1f}",
    tables.text(report.header, report.table),
    *report.notes,
  ]
  if has_figure:
    parts.append(f"![{report.title}]({report.name}.png)")
  if report.verdicts:
    parts.append("## Verdicts\n\n" + verdicts_lib.table(report.verdicts))
  return "\n\n".join(parts) + "\n"


def _publish(name: str, folder: pathlib.Path, target: pathlib.Path) -> None:
  target.mkdir(parents=True, exist_ok=True)
  for suffix in (".md", ".png", ".json"):
    source = folder / f"{name}{suffix}"
    if source.exists():
      shutil.copyfile(source, target / source.name)


def _image_differences(claim, rows: Sequence[Row], hits) -> dict[str, Any]:
  """Returns {setting: [S, N]}, differences on each test image, in points."""
  # A row's accuracy may be an array: it is only ever subtracted.
  replaced = [
    {**row, "accuracy": 100 * np.asarray(hits[i], np.float32)}
    for i, row in enumerate(rows)
    if i in hits
  ]
  return contrasts.differences(claim, replaced)
