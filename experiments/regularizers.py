"""Runs `experiments.foundations.regularizers`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.regularizers", run_name="__main__", alter_sys=True
  )
