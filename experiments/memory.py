"""Runs `experiments.k_dropout.memory`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.memory", run_name="__main__", alter_sys=True
  )
