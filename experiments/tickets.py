"""Runs `experiments.k_dropout.tickets`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.tickets", run_name="__main__", alter_sys=True
  )
