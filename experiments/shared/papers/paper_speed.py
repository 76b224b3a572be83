"""The gyro dropout paper's figure 7 and table 7, as numbers.

NVIDIA Titan XP, TensorFlow 1.12 with CUTLASS 1.3, float32, batch 256. Table 7
is relative to the paper's own kernel at rate 0.
"""

FIGURE_7 = {
  "mlp": (13.0, 19.3),
  "packet_mlp": (29.8,),
  "cnn": (2.0, 7.9),
  "fc": (14.0, 19.0),
  "forward": (40.0, 54.7),
  "backward": (7.2, 14.4),
}
"""{what: throughput that block-wise gains, in per cent, from and to}."""

TABLE_7 = {
  0.0: (1.0, 100.0, 100.0, 100.0),
  0.1: (1.09, 87.51, 87.50, 88.25),
  0.25: (1.24, 75.02, 75.39, 76.50),
  0.5: (1.58, 50.05, 50.79, 53.00),
  0.75: (2.80, 25.07, 26.18, 28.79),
}
"""{rate: (speed-up, FLOPs, global loads, shared loads; per cent of rate 0)}."""
