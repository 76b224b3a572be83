"""Runs `experiments.foundations.gradient_noise`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "experiments.foundations.gradient_noise",
    run_name="__main__",
    alter_sys=True,
  )
