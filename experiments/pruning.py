"""Runs `experiments.gyro.tickets.pruning`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.gyro.tickets.pruning", run_name="__main__", alter_sys=True
  )
