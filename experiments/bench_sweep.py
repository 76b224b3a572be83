"""Runs `experiments.bench.sweeps`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.sweeps", run_name="__main__", alter_sys=True
  )
