"""Runs `experiments.gyro.accuracy.accuracy_table`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.gyro.accuracy.accuracy_table",
    run_name="__main__",
    alter_sys=True,
  )
