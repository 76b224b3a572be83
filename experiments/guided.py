"""Runs `experiments.gyro.guided.guided`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.gyro.guided.guided", run_name="__main__", alter_sys=True
  )
