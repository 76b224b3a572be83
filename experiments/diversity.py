"""Runs `experiments.gyro.diversity`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.gyro.diversity", run_name="__main__", alter_sys=True
  )
