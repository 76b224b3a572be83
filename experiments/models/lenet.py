"""LeNet of the gyro dropout paper: 2 convolutions and 3 dense layers.

96 channels, pooling, 256 channels without a second pooling; two hidden dense
layers of 1024 units. Its code crops 32x32 images to 24x24.
"""

import functools

from experiments.models import convnet

MODELS = {
  "lenet": functools.partial(
    convnet.build, name="lenet", channels=(96, 256), pools=(True, False)
  )
}
