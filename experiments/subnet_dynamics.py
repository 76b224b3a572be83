"""Runs `experiments.k_dropout.subnet_dynamics`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.subnet_dynamics", run_name="__main__", alter_sys=True
  )
