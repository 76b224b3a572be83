"""The claims of the gyro dropout paper, as contrasts fixed before any run.

Rows are as in `claims`, with "dataset" and "model" as fields of `--dataset`
and `--model`, and "method" one of none, conventional, gyro, blockwise.
KDDCup99 and UNSW-NB15 are split otherwise than in the paper, which is another
task, so that they enter no claim.
"""

from collections.abc import Mapping, Sequence

from experiments.gyro import paper
from experiments.gyro import seen
from experiments.gyro.accuracy import settings
from experiments.gyro.guided import claims as guided
from experiments.judge import contrasts
from experiments.judge.contrasts import Claim

_PAPER = "gyro"
_OWN_SPLITS = ("kddcup99", "unsw_nb15")
_OWN_SPLIT = tuple(("dataset", "!=", name) for name in _OWN_SPLITS)
_TABLE = ("dataset", "model")


_CONVENTIONAL = {"method": "conventional"}
_GYRO = {"method": "gyro"}
_BLOCKWISE = {"method": "blockwise"}


def _differences(
  table: Mapping[str, Sequence[float]], a: str, b: str, digits: int
) -> dict[str, float]:
  """Returns {setting: a minus b} of the paper's rows that enter claims."""
  a_place, b_place = (paper.METHODS.index(method) for method in (a, b))
  return {
    contrasts.label(row.names): round(values[a_place] - values[b_place], digits)
    for row in settings.rows("paper")
    if row.names["dataset"] not in _OWN_SPLITS
    and len(values := table.get(row.label, ())) > max(a_place, b_place)
  }


_MEANS = {
  label: [mean for mean, _ in row] for label, row in paper.TABLE_4.items()
}
_GAINS = _differences(_MEANS, "gyro", "conventional", 2)
_BLOCKWISE_GAINS = _differences(_MEANS, "blockwise", "conventional", 2)
_GAPS = _differences(paper.TABLE_5, "conventional", "gyro", 1)

_ACCURACY = (
  Claim(
    name="gyro_beats_conventional",
    paper=_PAPER,
    source="table 4",
    text="gyro beats conventional dropout, on every row",
    measure="accuracy",
    a=_GYRO,
    b=_CONVENTIONAL,
    where=_OWN_SPLIT,
    settings=_TABLE,
    same=_TABLE,
    paper_difference=_GAINS,
  ),
  Claim(
    name="blockwise_is_not_worse",
    paper=_PAPER,
    source="abstract",
    text="block-wise is not worse than conventional dropout",
    measure="accuracy",
    a=_BLOCKWISE,
    b=_CONVENTIONAL,
    where=_OWN_SPLIT,
    settings=_TABLE,
    same=_TABLE,
    rule="not_worse",
    margin=0.25,
  ),
  Claim(
    name="blockwise_beats_conventional",
    paper=_PAPER,
    source="table 4",
    text="block-wise beats conventional dropout on 8 of 10 rows",
    measure="accuracy",
    a=_BLOCKWISE,
    b=_CONVENTIONAL,
    where=_OWN_SPLIT,
    settings=_TABLE,
    same=_TABLE,
    paper_difference=_BLOCKWISE_GAINS,
    family=6 / 8,  # without the two rows of own splits, both better
  ),
  Claim(
    name="gap_is_smaller",
    paper=_PAPER,
    source="table 5",
    text="gyro's generalization gap is smaller on 12 of 16 rows",
    measure="generalization_gap",
    reverse=True,
    a=_GYRO,
    b=_CONVENTIONAL,
    where=_OWN_SPLIT,
    settings=_TABLE,
    same=_TABLE,
    paper_difference=_GAPS,
    family=10 / 14,  # without the two rows of own splits, both smaller
  ),
)

_GRIDS = (
  Claim(
    name="best_total",
    paper=_PAPER,
    source="figure 1",
    text="Sigma from 128 to 2048 beats the others (means over cells, from 16)",
    measure="accuracy_inside_minus_outside_total",
    a=_GYRO,
    settings=_TABLE,
  ),
  Claim(
    name="best_concurrent",
    paper=_PAPER,
    source="table 1",
    text="tau from 4 to 16 beats larger ones (means over cells)",
    measure="accuracy_inside_minus_outside_concurrent",
    a=_GYRO,
    settings=_TABLE,
  ),
  Claim(
    name="consecutive_beats_random",
    paper=_PAPER,
    source="table 6",
    text="consecutive scheduling beats random at equal Sigma and tau",
    measure="accuracy",
    a=_GYRO | {"scheduling": "consecutive"},
    b=_GYRO | {"scheduling": "random"},
    settings=(*_TABLE, "total", "concurrent"),
    same=(*_TABLE, "total", "concurrent"),
    average=("total", "concurrent"),
    paper_difference=0.1,  # at equal cells: .21, 1.33, 1.36, .10
  ),
  Claim(
    name="consecutive_is_like_random",
    paper="k-dropout",
    source="section 3.1, sequential and pooled",
    text="consecutive and random scheduling are alike at equal Sigma and tau",
    measure="accuracy",
    a=_GYRO | {"scheduling": "consecutive"},
    b=_GYRO | {"scheduling": "random"},
    settings=(*_TABLE, "total", "concurrent"),
    same=(*_TABLE, "total", "concurrent"),
    average=("concurrent",),
    rule="equivalent",
    margin=1.0,
  ),
  Claim(
    name="wide_blocks_cost_nothing",
    paper=_PAPER,
    source="section 4.2, table 2",
    text="blocks of 32 units are not worse than blocks of 16",
    measure="accuracy",
    a=_BLOCKWISE | {"block_of_1024": 32, "rows_per_subnet": 128},
    b=_BLOCKWISE | {"block_of_1024": 16, "rows_per_subnet": 128},
    settings=("total", "concurrent"),
    same=("total", "concurrent"),
    average=("total", "concurrent"),
    rule="not_worse",
    margin=0.25,
  ),
)

_INSIGHT = (
  Claim(
    name="features_are_more_diverse",
    paper=_PAPER,
    source="figure 5",
    text="features of gyro's subnets are more diverse, in % of conventional's",
    measure="feature_distance_gain_percent",
    a=_GYRO,
    settings=_TABLE,
    paper_difference=21.9,
  ),
  Claim(
    name="winning_tickets_are_better",
    paper=_PAPER,
    source="figure 6",
    text="gyro's winning tickets are better in 26 of 42 cases",
    measure="ticket_accuracy",
    a=_GYRO,
    b=_CONVENTIONAL,
    settings=(*_TABLE, "percent_left"),
    same=(*_TABLE, "percent_left"),
    where=(("percent_left", "in", (20, 10, 5)),),
    family=26 / 42,
  ),
)


def _speed(name: str, text: str, part: str) -> Claim:
  return Claim(
    name=name,
    paper=_PAPER,
    source="figure 7",
    text=text,
    measure="speedup_percent",
    a=_BLOCKWISE | {"part": part},
    settings=("model",),
    paper_difference=paper.FIGURE_7[part][0],
  )


# One round of an interleaved timing is one "seed".
_SPEED = (
  Claim(
    name="gyro_is_as_fast",
    paper=_PAPER,
    source="section 5.4",
    text="gyro is not slower than conventional dropout, to 5 %",
    measure="speedup_percent",
    a=_GYRO,
    settings=("model", "part"),
    rule="not_worse",
    margin=5.0,
  ),
  _speed("blockwise_is_faster", "block-wise is faster, MLPs", "mlp"),
  _speed(
    "blockwise_is_faster_on_packets",
    "block-wise is faster, packet MLPs",
    "packet_mlp",
  ),
  _speed("blockwise_is_faster_on_cnns", "block-wise is faster, CNNs", "cnn"),
  _speed(
    "blockwise_is_faster_on_fc_layers",
    "block-wise is faster, FC layers of CNNs",
    "fc",
  ),
  _speed(
    "blockwise_forward_is_faster", "block-wise is faster, forward", "forward"
  ),
  _speed(
    "blockwise_backward_is_faster",
    "block-wise is faster, backward",
    "backward",
  ),
)

CLAIMS = (
  *_ACCURACY,
  *_GRIDS,
  *_INSIGHT,
  *_SPEED,
  *guided.CLAIMS,
  *seen.CLAIMS,
)


def named(*names: str) -> list[Claim]:
  """Returns the claims called `names`."""
  return contrasts.select(CLAIMS, names)
