"""Runs `experiments.foundations.features`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.features", run_name="__main__", alter_sys=True
  )
