"""Claims as contrasts between measured cells, which a machine computes.

d = a - b, paired by seed (two arms of a seed share their initialisation, data
subset and batch order), and oriented so that a positive d speaks for the
claim. `verdicts` says what follows from d.
"""

import dataclasses
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Rule = Literal["superior", "equivalent", "not_worse"]

_OPERATORS = {
  "==": operator.eq,
  "!=": operator.ne,
  "<": operator.lt,
  "<=": operator.le,
  ">": operator.gt,
  ">=": operator.ge,
  "in": lambda a, b: a in b,
}

Row = Mapping[str, Any]
"""One measured cell and seed: its settings, "seed", and measured values."""


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim of a paper, as a contrast that a machine can compute.

  Attributes:
    name: unique.
    paper: "k-dropout" or "gyro".
    source: where the paper says so.
    text: the claim in words.
    measure: the value of a row that is compared, in points of accuracy where
      nothing else is said.
    a: fields that the first arm's rows have.
    b: fields of the second arm's rows; empty compares `measure` with 0.
    where: conditions on the first arm's rows, (field, operator, value).
    settings: fields that tell one setting of the claim from another.
    same: fields in which both arms agree, beside the seed.
    reverse: take b - a (-a where b is empty), so that a positive d speaks for
      the claim.
    rule: see `verdicts`.
    margin: of equivalence, or of what counts as not worse.
    paper_difference: what the paper has for d: one number, or one for
      each setting's label; the smallest where a claim covers several.
    average: those of `settings` over which a test takes the mean of d, seed by
      seed, so that a claim is one test for each of the others. What a claim's
      words single out ("every pool", "at each k") stays apart; what they do
      not speak of (m in a claim on pools, tau in one on Sigma), or call by one
      name ("m >= 32"), is averaged; an equivalence never over the setting that
      it says does not matter, where opposite signs would cancel.
    family: "all" settings must hold, or "any" one of them, or the share that
      must; p values are Holm's over all tests of the claim.
    absolute: about a setting that only the paper's own scale has.
  """

  name: str
  paper: str
  source: str
  text: str
  measure: str
  a: Row
  b: Row = dataclasses.field(default_factory=dict)
  where: Sequence[tuple[str, str, Any]] = ()
  settings: Sequence[str] = ()
  same: Sequence[str] = ()
  reverse: bool = False
  rule: Rule = "superior"
  margin: float | None = None
  paper_difference: float | Mapping[str, float] = 0.0
  average: Sequence[str] = ()
  family: Literal["all", "any"] | float = "all"
  absolute: bool = False

  def __post_init__(self):
    if (self.margin is None) == (self.rule != "superior"):
      raise ValueError(
        f"margin of {self.name!r} must be given for equivalent and not_worse,"
        f" and for them only, got {self.margin} for {self.rule}"
      )
    if self.margin is not None and not self.margin > 0:
      raise ValueError(f"margin of {self.name!r} must be > 0: {self.margin}")
    if isinstance(self.family, float) and not 0 < self.family <= 1:
      raise ValueError(
        f"family of {self.name!r} must be all, any or a share in (0, 1], got"
        f" {self.family}"
      )
    if unknown := set(self.average) - set(self.settings):
      raise ValueError(
        f"average of {self.name!r} must be among its settings,"
        f" {tuple(self.settings)}, got {sorted(unknown)}"
      )
    for _, symbol, _ in self.where:
      if symbol not in _OPERATORS:
        raise ValueError(
          f"where of {self.name!r} knows {tuple(_OPERATORS)}, got {symbol!r}"
        )

  def expected(self, label: str) -> float:
    """Returns the paper's difference at a setting; 0 where it has none."""
    if isinstance(self.paper_difference, Mapping):
      return self.paper_difference.get(label, 0.0)
    return self.paper_difference


def select(claims: Iterable[Claim], names: Iterable[str]) -> list[Claim]:
  """Returns the claims called `names`, in that order.

  Raises:
    ValueError: there is none of that name.
  """
  known = {claim.name: claim for claim in claims}
  for name in names:
    if name not in known:
      raise ValueError(f"claim must be one of {', '.join(known)}, got {name!r}")
  return [known[name] for name in names]


def differences(
  claim: Claim, rows: Iterable[Row]
) -> dict[str, Float[np.ndarray, "S"]]:
  """Returns d of every seed, for each setting that the rows have.

  Args:
    claim: whose contrast it is.
    rows: the measured cells.

  Returns:
    {label of the setting: [S] by ascending seed}. Seeds that only one arm
    has are left out.

  Raises:
    ValueError: two rows of one arm have the same setting and seed.
  """
  rows = list(rows)
  partners = _matching(rows, claim.b) if claim.b else []
  second = _table(claim, partners, claim.same)
  first = _matching(rows, claim.a, claim.where)
  fields = (
    *claim.settings,
    *(f for f in claim.same if f not in claim.settings),
  )
  found = {}
  for key, seeds in _table(claim, first, fields).items():
    setting = dict(zip(fields, key))
    if claim.b:
      partner = second.get(tuple(setting[f] for f in claim.same), {})
      pairs = [v - partner[s] for s, v in sorted(seeds.items()) if s in partner]
    else:
      pairs = [value for _, value in sorted(seeds.items())]
    if pairs:
      sign = -1.0 if claim.reverse else 1.0
      found[label(setting)] = sign * np.array(pairs, np.float64)
  return dict(sorted(found.items()))


def label(setting: Mapping[str, Any]) -> str:
  """Returns the name of a setting: "m=8 pool_size=50"; "all" of none."""
  words = [
    f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
    for name, value in sorted(setting.items())
    if value is not None
  ]
  return " ".join(words) or "all"


def averaged(
  claim: Claim, found: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns {setting that is tested: mean of d over those it averages}.

  Args:
    claim: whose `average` it is.
    found: {label: differences [S] or [S, N]} of single settings.

  Raises:
    ValueError: settings of one mean have unequal numbers of seeds, so that no
      number is a seed's.
  """
  if not claim.average:
    return dict(found)
  groups: dict[str, list[np.ndarray]] = {}
  for name, values in found.items():
    kept = [w for w in name.split() if w.split("=")[0] not in claim.average]
    groups.setdefault(" ".join(kept) or "all", []).append(values)
  for name, many in groups.items():
    if len({len(values) for values in many}) > 1:
      raise ValueError(
        f"settings of {claim.name!r} at {name} must have the same seeds, got"
        f" {[len(values) for values in many]} of them"
      )
  return {name: np.mean(many, axis=0) for name, many in groups.items()}


def asked(claim: Claim, name: str) -> bool:
  """Returns whether a setting, by its label, meets the claim's conditions."""
  values = dict(word.split("=", 1) for word in name.split() if "=" in word)
  return all(
    _OPERATORS[symbol](_number(values[field]), wanted)
    for field, symbol, wanted in claim.where
    if field in values
  )


def _number(text: str) -> Any:
  try:
    return float(text)
  except ValueError:
    return text


def _matching(rows: Iterable[Row], fields: Row, where=()) -> list[Row]:
  return [
    row
    for row in rows
    if all(name in row and _is(row[name], v) for name, v in fields.items())
    and all(f in row and _OPERATORS[op](row[f], v) for f, op, v in where)
  ]


def _is(value: Any, wanted: Any) -> bool:
  if isinstance(wanted, float):
    return math.isclose(value, wanted, rel_tol=1e-3)
  return value == wanted


def _table(claim: Claim, rows: Iterable[Row], fields: Sequence[str]):
  """Returns {values of the fields: {seed: measure}}."""
  found: dict[tuple, dict[int, float]] = {}
  for row in rows:
    if claim.measure not in row:
      continue
    seeds = found.setdefault(tuple(row.get(f) for f in fields), {})
    if row["seed"] in seeds:
      raise ValueError(
        f"rows for {claim.name!r} hold seed {row['seed']} twice at"
        f" {[f'{f}={row.get(f)}' for f in fields]}"
      )
    seeds[row["seed"]] = row[claim.measure]
  return found
