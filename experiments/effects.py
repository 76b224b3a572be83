"""Runs `experiments.foundations.effects`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.effects", run_name="__main__", alter_sys=True
  )
