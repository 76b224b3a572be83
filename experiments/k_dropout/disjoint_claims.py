"""What disjoint subnets must not cost, fixed before any run."""

from experiments.judge.contrasts import Claim

CLAIMS = (
  Claim(
    name="disjoint_subnets_cost_no_accuracy",
    paper="k-dropout",
    source="not in the paper: arXiv 1910.02120, 2507.09029",
    text="subnets that partition the units lose at most a point to independent"
    " ones",
    measure="accuracy",
    a={"method": "sequential"} | {"partition": True},
    b={"method": "sequential"} | {"partition": False},
    where=(("k_over_T", "<=", 1 / 30 + 1e-9),),
    settings=("k", "m"),
    same=("shuffle", "k", "m"),
    rule="not_worse",
    margin=1.0,
  ),
)
