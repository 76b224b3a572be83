"""Runs `experiments.bench.data`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.data", run_name="__main__", alter_sys=True
  )
