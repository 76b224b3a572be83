"""Runs `experiments.k_dropout.paper_scale`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.k_dropout.paper_scale", run_name="__main__", alter_sys=True
  )
