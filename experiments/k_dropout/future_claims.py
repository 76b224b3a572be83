"""On what the paper names as future work: MC dropout, and pruning.

Written down before any run of them. The paper expects both to gain from few,
longer trained subnets (section 4), and states no figures.
"""

from experiments.judge.contrasts import Claim

_PAPER = "k-dropout"
_OF_SETTINGS = ("method", "k_over_T", "pool_size")

MC = (
  Claim(
    name="mc_lowers_log_loss",
    paper=_PAPER,
    source="section 4, future work",
    text="averaging fresh subnets (MC dropout) has a lower log loss than the"
    " whole network, of networks trained with k-dropout",
    measure="nll_gain",
    a={"subject": "fresh subnets"},
    where=(("method", "in", ("sequential", "pooled")),),
    settings=_OF_SETTINGS,
  ),
  Claim(
    name="own_subnets_beat_fresh_ones",
    paper=_PAPER,
    source="section 4, a hypothesis of ours",
    text="averaging subnets that were trained has a lower log loss than"
    " averaging as many fresh ones",
    measure="nll_gain_over_fresh",
    a={"subject": "trained subnets"},
    where=(("method", "in", ("sequential", "pooled")),),
    settings=_OF_SETTINGS,
  ),
  Claim(
    name="mc_finds_errors_as_well",
    paper=_PAPER,
    source="section 4, future work",
    text="disagreement of fresh subnets finds errors as well as with standard"
    " dropout (AUROC, points)",
    measure="auroc",
    a={"subject": "fresh subnets"},
    b={"subject": "fresh subnets", "method": "standard"},
    where=(("method", "in", ("sequential", "pooled")),),
    settings=_OF_SETTINGS,
    rule="not_worse",
    margin=1.0,
  ),
)

TICKETS = (
  Claim(
    name="k_dropout_can_be_pruned_further",
    paper=_PAPER,
    source="section 4, future work",
    text="networks trained with k-dropout are better than standard dropout's"
    " once as many of their smallest weights are zero",
    measure="pruned_accuracy",
    a={"method": "sequential"},
    b={"method": "standard"},
    where=(("percent_left", "in", (20, 10, 5)),),
    settings=("k_over_T", "percent_left"),
    same=("percent_left",),
    average=("percent_left",),
  ),
  Claim(
    name="k_dropout_tickets_are_better",
    paper=_PAPER,
    source="section 4, future work",
    text="winning tickets of networks trained with k-dropout are better than"
    " those of standard dropout",
    measure="ticket_accuracy",
    a={"method": "sequential"},
    b={"method": "standard"},
    where=(("percent_left", "in", (20, 10, 5)),),
    settings=("k_over_T", "percent_left"),
    same=("percent_left",),
    average=("percent_left",),
  ),
)

CLAIMS = (*MC, *TICKETS)
