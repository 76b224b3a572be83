"""Runs `experiments.bench.fault_suite`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.bench.fault_suite", run_name="__main__", alter_sys=True
  )
