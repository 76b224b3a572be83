"""The named shapes that the masked product is timed on: data only."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shape:
  """A named product without masks: ``[rows, inputs] @ [inputs, outputs]``."""

  name: str
  rows: int
  inputs: int
  outputs: int
  masks: str = "both"  # The sides that are masked: "in", "out" or "both".


# Gyro Dropout (Lee et al., MLSys 2023), table 7.
TABLE_7 = Shape("gyro-table7", 256, 1024, 1024, "in")
# SparseDrop: its square product.
SPARSEDROP = Shape("sparsedrop", 1024, 1024, 1024, "in")
SQUARE_4096 = Shape("square-4096", 4096, 4096, 4096)
SQUARE_4096_IN = Shape("square-4096-in", 4096, 4096, 4096, "in")
# The layers of MLP1 to MLP3 (gyro paper) and of the k-dropout paper's network.
MLP_FIRST = Shape("mlp-first", 512, 3072, 1024, "out")
MLP_HIDDEN = Shape("mlp-hidden", 512, 1024, 1024)
KDROPOUT_FIRST = Shape("kdropout-first", 512, 3072, 2048, "out")
KDROPOUT_HIDDEN = Shape("kdropout-hidden", 512, 2048, 2048)
KDROPOUT_LAST = Shape("kdropout-last", 512, 2048, 10, "in")

SHAPES = (
  TABLE_7,
  SPARSEDROP,
  SQUARE_4096,
  SQUARE_4096_IN,
  MLP_FIRST,
  MLP_HIDDEN,
  KDROPOUT_FIRST,
  KDROPOUT_HIDDEN,
  KDROPOUT_LAST,
)
RATES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
GROUPS = (1, 4, 8, 16)
BLOCK_SIZES = (1, 32, 64, 128)
