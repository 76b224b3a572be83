"""The k-dropout paper's figures as numbers, accuracies in points.

Read off the plots, to +-.3 points. They come from the authors' code: three
hidden layers, frozen batches, one seed in figure 1.
"""

FIGURE_1_KS = (1, 5, 15, 50, 97, 485, 970, 2425, 4850, 9700, 29_100)

FIGURE_1_SEQUENTIAL = {
  1: (59.2, 59.4, 58.7, 59.1, 58.0, 58.4, 57.2, 56.8, 56.1, 56.3, 54.9),
  8: (59.8, 59.5, 59.2, 59.5, 59.1, 58.7, 57.3, 54.9, 54.4, 54.5, 54.2),
  64: (59.4, 59.9, 59.6, 59.5, 59.7, 59.8, 57.1, 54.4, 53.0, 51.8, 53.5),
  128: (59.8, 59.5, 59.4, 60.1, 59.9, 59.4, 57.4, 53.7, 52.6, 52.0, 53.0),
  512: (59.5, 59.4, 59.4, 58.9, 60.0, 59.4, 57.5, 52.0, 49.4, 50.6, 52.1),
}
"""{m: accuracy at each k}."""

FIGURE_1_POOL_SIZES = (1, 10, 20, 50, 200, 1000, 50_000, 1_000_000)

FIGURE_1_POOLED = {
  1: (54.4, 55.4, 57.5, 58.2, 59.5, 58.8, 59.8, 59.8),
  8: (54.5, 56.0, 57.5, 58.6, 58.9, 59.3, 60.2, 59.1),
  64: (54.5, 57.1, 57.9, 59.2, 59.3, 59.9, 59.8, 59.8),
  128: (54.4, 56.9, 57.5, 58.6, 59.7, 59.6, 59.4, 59.5),
  512: (54.5, 56.0, 57.8, 58.8, 59.4, 60.0, 60.1, 59.3),
}
"""{m: accuracy at each pool size}."""

FIGURE_1_LINES = {"none": 55.3, "standard": 59.6}

FIGURE_2 = {
  "none": (54.5, 54.9, 55.6, 55.7, 56.1),
  "standard": (59.2, 59.5, 59.6, 59.8, 60.0),
  "sequential k=1 m=1": (59.1, 59.3, 59.4, 60.1, 60.2),
  "sequential k=485 m=512": (58.9, 59.0, 59.1, 59.3, 59.4),
  "sequential k=485 m=1": (56.1, 57.2, 57.2, 58.0, 58.2),
  "pooled pool_size=50 m=512": (58.7, 59.0, 59.0, 59.2, 60.0),
  "pooled pool_size=50 m=1": (58.4, 58.7, 58.7, 58.9, 59.0),
}
"""{setting: accuracy of each of five runs}."""

FIGURE_3 = {
  4850: (55.5, 50.2, 51.2, 52.0, 51.7, 53.7),
  2425: (
    *(54.1, 47.1, 48.0, 47.0, 49.9, 49.9),
    *(49.4, 50.0, 51.4, 50.9, 53.0, 53.7),
  ),
}
"""{k: final accuracy of each trained subnet by its index, m = 1}."""

FIGURE_5 = {
  "none, random": 40.0,
  "standard, random": 53.7,
  "k=15 random": 52.3,
  "k=15 trained": 52.7,
  "k=97 random": 49.2,
  "k=97 trained": 50.7,
  "k=485 random": 46.8,
  "k=485 trained": 49.7,
  "k=970 random": 44.9,
  "k=970 trained": 49.5,
  "k=2425 random": 42.0,
  "k=2425 trained": 49.9,
  "k=4850 random": 42.1,
  "k=4850 trained": 51.8,
}
"""{box: median accuracy of its subnets}."""

FIGURE_6 = {
  "none_random_subnets": 40.0,
  "standard_random_subnets": 53.6,
  "pooled_random_subnets": 49.0,
  "pooled_subnets": 55.0,
  "independent_networks": 54.5,
  "none_network": 54.5,
  "standard_network": 59.5,
  "pooled_network": 59.0,
  "independent_ensemble": 62.3,
}
"""{subject: accuracy}; of subnets, the median."""

FIGURE_7 = {
  "independent_ensemble": 62.3,
  "standard_random_ensemble": 60.6,
  "pooled_ensemble": 59.8,
}
"""{subject: accuracy of an ensemble of 50}."""
