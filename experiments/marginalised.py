"""Runs `experiments.foundations.marginalised`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.marginalised", run_name="__main__", alter_sys=True
  )
