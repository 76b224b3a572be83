"""The claims of the gyro dropout paper, as contrasts fixed before any run.

Rows are as in `claims`, with "dataset" and "model" as fields of `--dataset`
and `--model`, and "method" one of none, conventional, gyro, blockwise.
KDDCup99 and UNSW-NB15 are split otherwise than in the paper, which is another
task, so that they enter no claim.
"""

from experiments.gyro.guided import claims as guided
from experiments.judge import contrasts
from experiments.judge.contrasts import Claim

_PAPER = "gyro"
_OWN_SPLIT = (("dataset", "!=", "kddcup99"), ("dataset", "!=", "unsw_nb15"))
_TABLE = ("dataset", "model")


def _label(dataset: str, model: str) -> str:
  return f"dataset={dataset} model={model}"


_CONVENTIONAL = {"method": "conventional"}
_GYRO = {"method": "gyro"}
_BLOCKWISE = {"method": "blockwise"}

# Table 4: gyro minus conventional.
_GAINS = {
  _label("svhn_cropped", "mlp1"): 0.16,
  _label("svhn_cropped", "resnet18"): 0.02,
  _label("cifar10", "mlp2"): 0.17,
  _label("cifar10", "lenet"): 0.16,
  _label("cifar10", "alexnet"): 0.24,
  _label("cifar10", "resnet18"): 0.03,
  _label("cifar100", "mlp2"): 0.20,
  _label("cifar100", "lenet"): 1.93,
  _label("cifar100", "alexnet"): 1.68,
  _label("cifar100", "resnet18"): 0.23,
  _label("tiny_imagenet", "resnet18"): 0.03,
  _label("imagenet2012", "resnet18"): 0.14,
  _label("nsl_kdd", "mlp3"): 0.31,
  _label("glue/mrpc", "bert"): 0.76,
  _label("squad", "bert"): 0.23,
}

# Table 4: block-wise minus conventional.
_BLOCKWISE_GAINS = {
  _label("svhn_cropped", "mlp1"): -0.05,
  _label("cifar10", "mlp2"): 0.02,
  _label("cifar10", "lenet"): 0.23,
  _label("cifar10", "alexnet"): -0.02,
  _label("cifar100", "mlp2"): 0.17,
  _label("cifar100", "lenet"): 1.71,
  _label("cifar100", "alexnet"): 1.17,
  _label("nsl_kdd", "mlp3"): 0.29,
}

# Table 5, in points: conventional's gap minus gyro's.
_GAPS = {
  _label("svhn_cropped", "mlp1"): 0.1,
  _label("svhn_cropped", "resnet18"): 0.1,
  _label("cifar10", "mlp2"): -2.0,
  _label("cifar10", "lenet"): 0.3,
  _label("cifar10", "alexnet"): 0.2,
  _label("cifar10", "resnet18"): 0.1,
  _label("cifar100", "mlp2"): -1.1,
  _label("cifar100", "lenet"): 0.3,
  _label("cifar100", "alexnet"): -1.1,
  _label("cifar100", "resnet18"): 0.7,
  _label("tiny_imagenet", "resnet18"): -0.6,
  _label("nsl_kdd", "mlp3"): 0.5,
  _label("glue/mrpc", "bert"): 0.2,
  _label("squad", "bert"): 0.5,
}

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
    text="Sigma from 128 to 2048 beats all others (means over cells)",
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
    rule="equivalent",
    margin=1.0,
  ),
  Claim(
    name="wide_blocks_cost_nothing",
    paper=_PAPER,
    source="section 4.2, table 2",
    text="blocks of 32 units are not worse than blocks of 16",
    measure="accuracy",
    a=_BLOCKWISE | {"block_of_1024": 32},
    b=_BLOCKWISE | {"block_of_1024": 16},
    settings=("total", "concurrent"),
    same=("total", "concurrent"),
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


def _speed(name: str, text: str, part: str, percent: float) -> Claim:
  return Claim(
    name=name,
    paper=_PAPER,
    source="figure 7",
    text=text,
    measure="speedup_percent",
    a=_BLOCKWISE | {"part": part},
    settings=("model",),
    paper_difference=percent,
  )


# One round of an interleaved timing is one "seed".
_SPEED = (
  Claim(
    name="gyro_is_as_fast",
    paper=_PAPER,
    source="section 5.4",
    text="gyro's throughput equals conventional dropout's, to 5 %",
    measure="speedup_percent",
    a=_GYRO,
    settings=("model", "part"),
    rule="equivalent",
    margin=5.0,
  ),
  _speed("blockwise_is_faster", "block-wise is faster, MLPs", "mlp", 13.0),
  _speed(
    "blockwise_is_faster_on_packets",
    "block-wise is faster, packet MLPs",
    "packet_mlp",
    29.8,
  ),
  _speed("blockwise_is_faster_on_cnns", "block-wise is faster, CNNs", "cnn", 2),
  _speed(
    "blockwise_is_faster_on_fc_layers",
    "block-wise is faster, FC layers of CNNs",
    "fc",
    14.0,
  ),
  _speed(
    "blockwise_forward_is_faster",
    "block-wise is faster, forward",
    "forward",
    40.0,
  ),
  _speed(
    "blockwise_backward_is_faster",
    "block-wise is faster, backward",
    "backward",
    7.2,
  ),
)

CLAIMS = (*_ACCURACY, *_GRIDS, *_INSIGHT, *_SPEED, *guided.CLAIMS)


def named(*names: str) -> list[Claim]:
  """Returns the claims called `names`."""
  return contrasts.select(CLAIMS, names)
