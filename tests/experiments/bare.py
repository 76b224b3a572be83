"""Runs a module where packages are absent.

python -m tests.experiments.bare grain,scipy experiments.gpu_suite --smoke
"""

import importlib.abc
import runpy
import sys


class Absent(importlib.abc.MetaPathFinder):
  """Refuses packages, installed as they may be."""

  def __init__(self, packages: list[str]):
    self.packages = set(packages)

  def find_spec(self, fullname, path=None, target=None):
    del path, target
    if fullname.partition(".")[0] in self.packages:
      raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


if __name__ == "__main__":
  _, packages, module, *sys.argv[1:] = sys.argv
  sys.meta_path.insert(0, Absent(packages.split(",")))
  runpy.run_module(module, run_name="__main__", alter_sys=True)
