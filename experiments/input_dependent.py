"""Runs `experiments.k_dropout.input_dependent`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.input_dependent", run_name="__main__", alter_sys=True
  )
