"""Runs `experiments.foundations.batch_norm`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.batch_norm", run_name="__main__", alter_sys=True
  )
