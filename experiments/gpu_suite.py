"""Runs `experiments.bench.gpu`."""

import runpy

if __name__ == "__main__":
  runpy.run_module("experiments.bench.gpu", run_name="__main__", alter_sys=True)
