"""The wheel works in an empty environment, without the experiments' packages.

Slow, and the only test that needs a package index.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_EXAMPLE = re.search(
  r"```python\n(.*?)```", (_ROOT / "README.md").read_text(), flags=re.DOTALL
).group(1)
_CODE = (
  """
import sys, time
start = time.perf_counter()
import kdropout_jax
seconds = time.perf_counter() - start
for name in ("tensorflow_datasets", "matplotlib", "triton", "grain"):
  try:
    __import__(name)
  except ImportError:
    continue
  raise SystemExit(f"{name} is installed: this is no bare environment")
assert "kdropout_jax.nn.nnx" not in sys.modules
"""
  + _EXAMPLE
  + """
assert logits.shape == (64, 10)
print("seconds", seconds)
"""
)


def run(*command, cwd):
  result = subprocess.run(
    command, cwd=cwd, capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
  return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_the_wheel_installs_imports_and_runs(python, tmp_path):
  uv = shutil.which("uv")
  assert uv, "this test needs uv"
  if not shutil.which(f"python{python}"):
    pytest.skip(f"no python{python} on the path")
  source = tmp_path / "source"
  ignore = shutil.ignore_patterns(".*", "docs", "tests", "runs", "data")
  shutil.copytree(_ROOT, source, ignore=ignore)
  run(uv, "build", "--wheel", "--out-dir", str(tmp_path), cwd=source)
  (wheel,) = tmp_path.glob("*.whl")
  environment = tmp_path / "environment"
  run(uv, "venv", "--python", python, str(environment), cwd=tmp_path)
  interpreter = environment / "bin" / "python"
  pip = (uv, "pip", "install", "--python", str(interpreter))
  run(*pip, str(wheel), cwd=tmp_path)
  program = tmp_path / "program.py"
  program.write_text(_CODE)
  run(str(interpreter), str(program), cwd=tmp_path)  # writes the bytecode
  out = run(str(interpreter), str(program), cwd=tmp_path)
  assert float(out.split()[-1]) < 5.0
