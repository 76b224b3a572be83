"""Wan et al. 2013's networks: convolutions, then ONE hidden dense layer.

`cnn_wan` is that of their table 3 (MNIST): 32 and 64 channels, pooled after
each, and 150 hidden units. `cnn_wan_cifar` is that of table 4, after
Krizhevsky's layers-80sec: 32, 32 and 64 channels and 64 hidden units; maximum
pooling of 2x2 stands for its pooling of 3x3. The hidden layer drops weights
with ``drops=weights``.
"""

import functools

from experiments.models import convnet

MODELS = {
  "cnn_wan": functools.partial(
    convnet.build,
    name="cnn_wan",
    channels=(32, 64),
    pools=(True, True),
    hidden=150,
    num_hidden=1,
  ),
  "cnn_wan_cifar": functools.partial(
    convnet.build,
    name="cnn_wan_cifar",
    channels=(32, 32, 64),
    pools=(True, True, True),
    hidden=64,
    num_hidden=1,
  ),
}
