"""Run-long keys of linen modules that `nnx.bridge.ToNNX` calls.

It draws a fresh key from every stream at each call, the run-long one included.
"""

import sys

from kdropout_jax.nn import _streams


def hold_run_key() -> None:
  """Sets the stream of run-long keys of a `ToNNX` around us back to its start.

  So the next call draws the key of this one. Found by the call stack, as the
  bridge says nothing to the module that it calls.
  """
  wrappers = sys.modules.get("flax.nnx.bridge.wrappers")
  if wrappers is None:
    return
  code = wrappers.ToNNX.__call__.__code__
  frame = sys._getframe()
  while frame is not None and frame.f_code is not code:
    frame = frame.f_back
  streams = None if frame is None else frame.f_locals.get("rngs")
  stream = getattr(streams, _streams.STREAM, None)
  if stream is not None:
    stream.count[...] = 0 * stream.count[...]
