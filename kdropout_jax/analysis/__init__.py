"""What a network and its subnets are like: pure functions, one idea a file.

Axis letters beside those of `kdropout_jax._types`: M members (subnets or
networks under comparison), C classes, F features. Logits may be given as log
probabilities, too: both mean the same to a softmax.
"""

from kdropout_jax.analysis import calibration
from kdropout_jax.analysis import connectivity
from kdropout_jax.analysis import diversity
from kdropout_jax.analysis import ensembles
from kdropout_jax.analysis import interference
from kdropout_jax.analysis import marginalised
from kdropout_jax.analysis import mc_dropout
from kdropout_jax.analysis import movement
from kdropout_jax.analysis import pruning
from kdropout_jax.analysis import structured_pruning
from kdropout_jax.analysis import subnet_accuracy

__all__ = (
  "calibration",
  "connectivity",
  "diversity",
  "ensembles",
  "interference",
  "marginalised",
  "mc_dropout",
  "movement",
  "pruning",
  "structured_pruning",
  "subnet_accuracy",
)
