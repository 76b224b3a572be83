"""Runs `experiments.bench.slow_link`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.slow_link", run_name="__main__", alter_sys=True
  )
