"""Runs `experiments.gyro.text`."""

import runpy

if __name__ == "__main__":
  runpy.run_module("experiments.gyro.text", run_name="__main__", alter_sys=True)
