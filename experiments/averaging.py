"""Runs `experiments.foundations.averaging`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.averaging", run_name="__main__", alter_sys=True
  )
