"""Runs `experiments.bench.links`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.links", run_name="__main__", alter_sys=True
  )
