"""Runs `experiments.foundations.variational`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.variational", run_name="__main__", alter_sys=True
  )
