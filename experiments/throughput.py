"""Runs `experiments.bench.throughput`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.throughput", run_name="__main__", alter_sys=True
  )
