"""Runs `experiments.k_dropout.first_screen`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.first_screen", run_name="__main__", alter_sys=True
  )
