"""What the page over the older sources' results says."""

from experiments.foundations import claims
from experiments.foundations import paper
from experiments.report import page as page_lib
from experiments.report import rows as rows_lib
from experiments.report import tables

EXPERIMENTS = {
  "classic": ("classic", "dropout as first described, lecture"),
  "averaging": ("averaging", "model averaging, notes 1.3"),
  "gradient_noise": ("gradient_noise", "training time and noise, notes 1.3"),
  "regularizers": ("regularizers", "Srivastava's table 9"),
  "features": ("features", "Srivastava's figure 7, section 7.2"),
  "dropconnect": ("dropconnect", "Wan's tables 2 to 4"),
  "effects": ("effects", "p, width, size of the training set"),
  "pretraining": ("pretraining", "unsupervised pretraining, notes 1.2"),
  "marginalised": ("marginalised", "marginalised dropout, notes 0.3"),
  "batch_norm": ("batch_norm", "batch normalisation, notes 1.3"),
  "wan_cnn": ("wan_cnn", "Wan's tables 3 and 4, smaller"),
  "spatial": ("spatial", "SpatialDropout, lecture"),
  "variational": ("variational", "recurrent networks, notes 1.3"),
}
"""{name of the files: (binary, what of the sources)}."""

_INTRODUCTION = """\
# The older sources, measured

"Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (Srivastava
et al. 2014), "Regularization of Neural Networks using DropConnect" (Wan et al.
2013), and the notes and the lecture on them, each part by one command. At the
`cpu` scale the parts down to `effects` are real MNIST, mean-pooled to 14 x 14,
with 3,000 training images, hidden layers of 256 units, 900 steps and five
seeds: its differences can be held against the papers', its levels cannot. The
`paper` scale has Srivastava et al.'s networks; what the sources do not tell
(learning rates, lengths, penalties) is ours. 900 steps are few for dropout,
which still underfits then, and the networks are narrow: where it loses to none
there, the papers' runs of thousands of epochs are not contradicted. The other
parts have few examples and read them many times over, which is what dropout is
for; fine-tuning is short of steps for it even so. Rules and margins of the
verdicts stood in `experiments/foundations/claims.py` before anything ran."""


def _before(found: page_lib.Found) -> list[str]:
  error = paper.binomial_error(paper.TABLE_9["l2"])
  return [
    "## Table 9 beside ours",
    f"Test errors in per cent. The paper's are of one network each on"
    f" {paper.TEST_IMAGES:,} images, so that each has a binomial standard error"
    f" of {error:.2f} and a difference of two one of {error * 2**0.5:.2f}: its"
    " first three rows cannot be told apart.",
    tables.text(("regularizer", "paper", "ours"), _table_9(found)),
  ]


def _table_9(found: page_lib.Found) -> list[list[str]]:
  rows = page_lib.rows(found, "regularizers")
  ours = rows_lib.means(rows, "regularizer") if rows else {}
  return [
    [
      paper.WORDS[name],
      f"{error:.2f}",
      f"{100 - ours[name,]:.2f}" if (name,) in ours else page_lib.NOT_RUN,
    ]
    for name, error in paper.TABLE_9.items()
  ]


def _after(found: page_lib.Found) -> list[str]:
  return [
    "## Not run",
    "At the papers' scale, which needs an accelerator:",
    page_lib.without_paper_scale(EXPERIMENTS, found),
  ]


PAPER = page_lib.Paper(
  _INTRODUCTION,
  EXPERIMENTS,
  _before,
  _after,
  claims={claim.name: claim for claim in claims.CLAIMS},
)
