"""Runs `experiments.foundations.spatial`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.spatial", run_name="__main__", alter_sys=True
  )
