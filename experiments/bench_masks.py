"""Runs `experiments.bench.masks`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.masks", run_name="__main__", alter_sys=True
  )
