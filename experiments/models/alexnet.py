"""AlexNet of the gyro dropout paper: 3 convolutions and 3 dense layers.

96 and 256 channels with pooling after each, 384 without; two hidden dense
layers of 1024 units. Its code crops 32x32 images to 24x24.
"""

import functools

from experiments.models import convnet

MODELS = {
  "alexnet": functools.partial(
    convnet.build,
    name="alexnet",
    channels=(96, 256, 384),
    pools=(True, True, False),
  )
}
