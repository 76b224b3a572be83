"""Runs `experiments.foundations.dropconnect`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.dropconnect", run_name="__main__", alter_sys=True
  )
