"""Faults of files: each is done to a copy, and the same call made again."""

import functools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments import data as data_lib
from experiments.bench import fault_runs as runs
from kdropout_jax.training import metrics

Rng = np.random.Generator


class Place(NamedTuple):
  """What faults are done to.

  Attributes:
    root: a folder for copies.
    data: prepared digits.
    finished: the workdir of a whole run.
    half: one that was stopped half way, with two checkpoints.
    other: one of another seed, stopped as well.
    expected: the result of the whole run.
    seconds: that the whole run took, as a process.
  """

  root: pathlib.Path
  data: pathlib.Path
  finished: pathlib.Path
  half: pathlib.Path
  other: pathlib.Path
  expected: dict[str, Any]
  seconds: float


def copy_of(place: Place, source: pathlib.Path, number: int) -> pathlib.Path:
  """Returns a copy of a folder."""
  target = place.root / f"copy-{number}"
  shutil.copytree(source, target, symlinks=True)
  return target


def damage(path: pathlib.Path, rng: Rng) -> str:
  """Damages a file in one of five ways; returns which."""
  content = bytearray(path.read_bytes())
  how = str(rng.choice(["bit", "byte", "cut", "empty", "gone"]))
  if how == "gone" or not content:
    path.unlink()
    return f"{path.name} gone"
  place = int(rng.integers(len(content)))
  if how == "bit":
    content[place] ^= 1 << int(rng.integers(8))
  elif how == "byte":
    content[place] ^= int(rng.integers(1, 256))
  else:
    content = content[: place if how == "cut" else 0]
  path.write_bytes(bytes(content))
  return f"{path.name} {how}"


def again(
  place: Place, folder: pathlib.Path, what: str, *, log: bool = True
) -> runs.Outcome:
  """Makes the same call again; says what became of it.

  Args:
    place: what faults are done to.
    folder: where the fault is.
    what: the fault.
    log: whether every record must be there at the end; else what is lost of
      them must be said.
  """
  done = runs.attempt(folder, place.data)
  if done.refusal:
    return runs.Outcome(runs.REFUSED, f"{what}: {done.refusal}")
  if done.failure:
    return runs.Outcome(runs.LOST, f"{what}: {done.failure}")
  wrong = runs.compare(folder, place.expected, log=log)
  if wrong or done.results != [runs.workdirs.result(folder)]:
    return runs.Outcome(runs.SILENT, f"{what}: {wrong or 'another result'}")
  return runs.Outcome(runs.RECOVERED, f"{what}: {done.said.strip()[:200]}")


def checkpoints(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A file of a checkpoint is damaged, of one or of both."""
  folder = copy_of(place, place.half, number)
  steps = sorted((folder / "checkpoints").iterdir(), key=lambda p: int(p.name))
  chosen = steps if rng.random() < 0.2 else steps[-1:]
  what = []
  for step in chosen:
    files = sorted(p for p in step.rglob("*") if p.is_file())
    what.append(damage(files[rng.integers(len(files))], rng))
  return again(place, folder, f"{', '.join(what)} of {len(chosen)}", log=False)


def swapped(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A checkpoint is put in the place of another step's, or run's."""
  folder = copy_of(place, place.half, number)
  own = folder / "checkpoints"
  steps = sorted(int(p.name) for p in own.iterdir())
  how = number % 3
  if how == 0:  # Another step's name, later than all.
    target = steps[-1] + 40 * int(rng.integers(1, 3))
    (own / str(steps[int(rng.integers(2))])).rename(own / str(target))
  elif how == 1:  # Another run's, of the same step.
    step = str(steps[int(rng.integers(2))])
    shutil.rmtree(own / step)
    shutil.copytree(place.other / "checkpoints" / step, own / step)
  else:  # Half of another run's: its arrays, or its digest.
    step, part = str(steps[-1]), ("state", "digest")[int(rng.integers(2))]
    shutil.rmtree(own / step / part)
    theirs = place.other / "checkpoints" / step / part
    shutil.copytree(theirs, own / step / part)
  return again(place, folder, ("renamed", "copied", "mixed")[how], log=False)


_LINES = (
  *("", "3", "[1, 2]", '{"loss": 1}', '{"step": "a"}', "[" * 2000),
  *('{"step": 40, "train_accuracy": "x"}', '{"step": true}', "\ufffd\x00"),
)


def log_lines(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A line of metrics.jsonl is damaged, put in, or gone; or all of it."""
  folder = copy_of(place, place.half, number)
  path = folder / "metrics.jsonl"
  lines = path.read_text().splitlines()
  row, how = int(rng.integers(len(lines))), number % 4
  keeps_all = False
  if how == 0:
    lines.insert(row, _LINES[number // 4 % len(_LINES)])
    what, keeps_all = "a line that is no record", True
  elif how == 1:
    at = int(rng.integers(len(lines[row])))
    flipped = chr(ord(lines[row][at]) ^ (1 << int(rng.integers(5))))
    lines[row] = lines[row][:at] + flipped + lines[row][at + 1 :]
    what = f"a bit of a record at {at}"
  elif how == 2:
    lines[row] = lines[row][: int(rng.integers(len(lines[row])))]
    what = "a cut record"
  else:
    what = "a folder"
  path.write_text("\n".join(lines) + "\n")
  if how == 3:
    path.unlink()
    path.mkdir()
  before = {r["step"]: r for r in metrics.read_jsonl(path)}
  found = again(place, folder, what, log=keeps_all)
  after = {r["step"]: r for r in metrics.read_jsonl(path)}
  if found.kind != runs.RECOVERED:
    return found
  whole = metrics.read_jsonl(place.finished / "metrics.jsonl")
  if not _same_records(after, {r["step"]: r for r in whole}):
    return runs.Outcome(runs.SILENT, f"{what}: a record is another")
  if any(step not in after for step in before):
    return runs.Outcome(runs.LOST, f"{what}: a good record is gone")
  is_less = len(after) < len(whole)
  if is_less and "records are lost" not in found.said:
    return runs.Outcome(runs.SILENT, f"{what}: a lost record is not said")
  return found


def _same_records(found: dict, expected: dict) -> bool:
  """Returns whether records are those of the whole run, but for the clock.

  Losses are sums over windows, which a stop cuts: they may round otherwise.
  """
  return all(
    step in expected
    and np.allclose(
      record["valid_loss"], expected[step]["valid_loss"], rtol=0, atol=0
    )
    and np.allclose(
      record["train_loss"], expected[step]["train_loss"], rtol=1e-5
    )
    for step, record in found.items()
  )


def results(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """result.json is damaged, or other JSON."""
  folder = copy_of(place, place.finished, number)
  path = folder / "result.json"
  whole = json.loads(path.read_text())
  texts = {
    "a list": "[1]",
    "a number": "3",
    "a key less": json.dumps({k: v for k, v in whole.items() if k != "steps"}),
    "nested": "[" * 10**5,
    "another number": json.dumps({**whole, "test_accuracy": [0.99, 0.99]}),
    "no digest": json.dumps({k: v for k, v in whole.items() if k != "digest"}),
  }
  what = [*texts, "a folder", "damage"][min(number % 12, 7)]
  if what in texts:
    path.write_text(texts[what])
  elif what == "a folder":
    path.unlink()
    path.mkdir()
  else:
    what = damage(path, rng)
  found = again(place, folder, what)
  is_said = "was set aside" in found.said or "gone" in what
  if found.kind == runs.RECOVERED and not is_said:
    return runs.Outcome(runs.SILENT, f"{what}: not said")
  return found


def owners(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """config.json or machine.json is damaged."""
  folder = copy_of(place, place.half, number)
  path = folder / ("config.json", "machine.json")[number % 2]
  return again(place, folder, damage(path, rng))


def prepared(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A file of the prepared dataset is damaged, swapped, edited or gone."""
  root = copy_of(place, place.data, number)
  folder = next((root / "digits").iterdir())
  shards = sorted(folder.glob("*array_record*"))
  how = number % 5
  if how == 0:
    shutil.copyfile(shards[0], shards[1])
    what = "a shard over another"
  elif how == 1:
    info = folder / "dataset_info.json"
    rows = str(int(rng.integers(1, 1500)))
    info.write_text(re.sub('"1500"', f'"{rows}"', info.read_text()))
    what = f"a length of {rows}"
  else:
    files = sorted(p for p in folder.iterdir() if p.is_file())
    what = damage(files[rng.integers(len(files))], rng)
  try:
    with runs.written_to(place.root / "loaded.err"):
      found = data_lib.load("digits", root, progress=False)
  except ValueError as error:
    is_one = "\n" not in str(error)
    kind = runs.REFUSED if is_one else runs.LOST
    return runs.Outcome(kind, f"{what}: ValueError: {error}")
  except Exception as error:  # A traceback, to a user.
    return runs.Outcome(runs.LOST, f"{what}: {type(error).__name__}: {error}")
  whole = _digits(place.data)
  same = found.info == whole.info and all(
    getattr(found, name).tobytes() == getattr(whole, name).tobytes()
    for name in ("train_x", "train_labels", "test_x", "test_labels")
  )
  return runs.Outcome(runs.RECOVERED if same else runs.SILENT, what)


@functools.cache
def _digits(data: pathlib.Path) -> data_lib.Dataset:
  return data_lib.load("digits", data)


def links(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A link stands where a file will be written; what it points to stays."""
  del rng
  folder = copy_of(place, place.half, number)
  names = ("metrics.jsonl", "result.json", "curves.png", "machine.json")
  path, mine = folder / names[number % 4], place.root / f"mine-{number}"
  kept = path.read_bytes() if path.exists() else b"{}"
  path.unlink(missing_ok=True)
  mine.write_bytes(kept)
  os.symlink(mine, path)
  found = again(place, folder, f"{path.name} a link")
  if mine.read_bytes() != kept:
    return runs.Outcome(runs.SILENT, f"{path.name}: written through a link")
  return found


KINDS: dict[str, tuple[Callable[[Place, Rng, int], runs.Outcome], int, str]] = {
  "damaged checkpoints": (checkpoints, 30, "half a run, in one process"),
  "swapped checkpoints": (swapped, 15, "half a run, in one process"),
  "damaged metrics.jsonl": (log_lines, 28, "half a run, in one process"),
  "damaged result.json": (results, 18, "a finished run, in one process"),
  "damaged config or machine": (owners, 10, "half a run, in one process"),
  "links in a workdir": (links, 8, "half a run, in one process"),
  "damaged prepared data": (prepared, 60, "digits, loaded in one process"),
}
"""{kind: (what does it, how many at full size, what to)}."""
