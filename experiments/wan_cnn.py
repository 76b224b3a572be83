"""Runs `experiments.foundations.wan_cnn`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.wan_cnn", run_name="__main__", alter_sys=True
  )
