"""What the gyro dropout paper's experiments share at each size."""

from experiments.run import config as config_lib

MAX_MEMBERS = {"paper": 5, "cpu": 5, "smoke": 64}
"""{scale: runs that train side by side in one program, at most}."""


def max_members(scale: str) -> int:
  """Returns the cells of one program, at most, at a scale.

  Raises:
    ValueError: there is no such scale.
  """
  config_lib.check_choice("scale", scale, MAX_MEMBERS)
  return MAX_MEMBERS[scale]
