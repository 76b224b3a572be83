"""Runs `experiments.k_dropout.mc_dropout`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.mc_dropout", run_name="__main__", alter_sys=True
  )
