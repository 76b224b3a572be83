"""Runs `experiments.bench.programs`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.programs", run_name="__main__", alter_sys=True
  )
