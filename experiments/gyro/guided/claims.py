"""What the papers suggest and do not try, as contrasts fixed before any run.

The gyro dropout paper, section 5.1: train weak subnets for longer. The
k-dropout paper, section 4.3: subnets that depend on the task. Neither gives a
number, so that a claim fails where its interval lies below 0.
"""

from experiments.judge.contrasts import Claim

_GUIDED = {"method": "guided"}
_RANDOM = {"method": "gyro", "scheduling": "random"}
_SIZES = ("total", "concurrent")


def _guided(
  name: str, text: str, measure: str, b: dict, reverse: bool = False
) -> Claim:
  return Claim(
    name=name,
    paper="gyro",
    source="section 5.1, future work",
    text=text,
    measure=measure,
    a=_GUIDED,
    b=b,
    settings=(*_SIZES, "temperature"),
    same=_SIZES,
    reverse=reverse,
    family="any",
  )


SCHEDULES = (
  _guided(
    "guided_beats_random",
    "guided beats random scheduling at equal Sigma and tau",
    "accuracy",
    _RANDOM,
  ),
  _guided(
    "guided_beats_consecutive",
    "guided beats consecutive scheduling at equal Sigma and tau",
    "accuracy",
    _RANDOM | {"scheduling": "consecutive"},
  ),
  _guided(
    "guided_lifts_the_weakest",
    "guided scheduling lifts the weakest twentieth of the subnets over random",
    "weakest_subnets",
    _RANDOM,
  ),
  _guided(
    "guided_narrows_the_spread",
    "guided scheduling narrows the deviation over subnets, against random",
    "subnet_deviation",
    _RANDOM,
    reverse=True,
  ),
)


def _tasks(
  name: str, text: str, measure: str, b: str, reverse: bool = False, **rule
) -> Claim:
  return Claim(
    name=name,
    paper="k-dropout",
    source="section 4.3, future work",
    text=text,
    measure=measure,
    a={"kind": "task"},
    b={"method": b},
    settings=("method",),
    reverse=reverse,
    **rule,
  )


TASKS = (
  _tasks(
    "task_subnets_are_not_worse",
    "trained jointly, a subnet a task is not worse than one shared network",
    "joint",
    "shared",
    rule="not_worse",
    margin=1.0,
  ),
  _tasks(
    "task_subnets_forget_less",
    "a subnet a task forgets task A less than a shared network",
    "forgetting",
    "shared",
    reverse=True,
  ),
  _tasks(
    "task_subnets_forget_less_than_dropout",
    "a subnet a task forgets task A less than standard dropout",
    "forgetting",
    "standard",
    reverse=True,
  ),
)

CLAIMS = (*SCHEDULES, *TASKS)
