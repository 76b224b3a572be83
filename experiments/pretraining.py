"""Runs `experiments.foundations.pretraining`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.pretraining", run_name="__main__", alter_sys=True
  )
