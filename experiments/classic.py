"""Runs `experiments.foundations.classic`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.classic", run_name="__main__", alter_sys=True
  )
