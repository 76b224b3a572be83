"""The GPU suite on any machine: rows as they come, faults as rows, resume."""

import json
import math
import pathlib

import pytest
from absl.testing import flagsaver

from experiments.bench import gpu
from experiments.bench import gpu_jobs
from experiments.bench import reaches


@pytest.fixture(autouse=True)
def restored_flags():
  saved = flagsaver.save_flag_values(gpu.FLAGS)
  yield
  flagsaver.restore_flag_values(saved, gpu.FLAGS)


JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase>
<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase>
</testsuite></testsuites>"""


def test_it_counts_what_executed(tmp_path: pathlib.Path):
  report = tmp_path / "junit.xml"
  report.write_text(JUNIT)
  counts = gpu.count_tests(report)
  assert counts == {"executed": 3, "failed": 2, "skipped": 1}
  with pytest.raises(SystemExit, match="2 kernel tests failed"):
    gpu.check_counts(counts)
  with pytest.raises(SystemExit, match="no kernel test executed"):
    gpu.check_counts({"executed": 0, "failed": 0, "skipped": 9})


def test_it_refuses_a_machine_without_a_gpu():
  gpu.FLAGS(["gpu_suite"])
  with pytest.raises(SystemExit, match="needs a CUDA device"):
    gpu.main(["gpu_suite"])


def row(candidate, median, **fields):
  own = {"part": "step", "network": "kdropout", "dtype": "float32"}
  own |= {"batch_size": 512, "width": 2048, "ms": 1.0, "ideal": None}
  spread = (median, median - 0.1, median + 0.1)
  return own | {"candidate": candidate, "over_conventional": spread} | fields


def test_a_failing_job_is_a_row_and_the_same_call_continues(tmp_path):
  file, calls = tmp_path / "rows.jsonl", []

  def job(name, fails=False):
    def run():
      calls.append(name)
      if fails:
        raise RuntimeError("out of memory")
      return [row(name, 1.0)]

    return name, run

  jobs = [job("a"), job("b", fails=True), job("c")]
  assert gpu.measure(jobs, file, deadline=math.inf) == []
  found = {line["job"]: line for line in gpu.lines(file)}
  assert found["b"]["error"] == "RuntimeError: out of memory"
  assert found["c"]["rows"][0]["candidate"] == "c"
  assert "device" in found["a"] and "versions" in found["a"]
  with file.open("a") as stream:
    stream.write('{"job": "d", "rows": [')  # Killed in the middle of a line.
  jobs = [job("a"), job("b"), job("c"), job("d")]
  assert gpu.measure(jobs, file, deadline=math.inf) == []
  assert calls == ["a", "b", "c", "b", "d"]
  assert {line["job"] for line in gpu.lines(file)} == {"a", "b", "c", "d"}
  text = gpu.write(tmp_path, [], None, seconds=1.0)
  assert "## Failed" not in text  # "b" has its rows by now.


def test_what_no_time_is_left_for_is_named(tmp_path):
  jobs = list(gpu_jobs.smoke_jobs(rounds=1))
  left = gpu.measure(jobs, tmp_path / "rows.jsonl", deadline=0.0)
  assert left == [name for name, _ in jobs] and len(left) == 4
  assert not (tmp_path / "rows.jsonl").exists()


def test_steps_of_every_schedule_come_before_products():
  names = [name for name, _ in gpu_jobs.jobs(rounds=1)]
  assert len(set(names)) == len(names)
  products = [i for i, name in enumerate(names) if name.startswith("product")]
  before = " ".join(names[: products[0]])
  for words in ("standard", "sequential T=1", "pooled", "gyro", "extracted"):
    assert f": {words}" in before
  assert "wide bfloat16" in before and "kdropout bfloat16" in before


def test_a_reach_is_told_by_its_worst_row():
  rows = [row("sequential T=1", 0.99), row("sequential T=4", 0.9)]
  told = reaches.verdicts([*rows, {"job": "x", "error": "none"}])
  assert len(told) == len(reaches.REACHES)
  line = next(t for t in told if "float32, sequential T=, masks" in t)
  assert line.endswith(
    "at least 0.97: MISSED, 0.90 [0.80, 1.00] (sequential T=4, worst of 2)"
  )
  assert "small T=1: at least 1.4: not run" in "\n".join(told)
  told = reaches.verdicts([row("extracted T=1 k=97 frozen", 1.76)])
  assert any("frozen: at least 1.75: reached, 1.76" in line for line in told)


def test_the_report_has_rows_faults_and_what_is_left(tmp_path: pathlib.Path):
  gpu.FLAGS(["gpu_suite", "--smoke"])
  fault = {"job": "b", "error": "RuntimeError: no"}
  (tmp_path / "rows.jsonl").write_text(json.dumps(fault) + "\n")
  text = gpu.write(tmp_path, ["c"], None, seconds=1.0)
  for words in ("## Failed", "- b: RuntimeError: no", "- c", "not run"):
    assert words in text
  found = json.loads((tmp_path / "gpu_suite.json").read_text())
  assert found["failed"] == {"b": "RuntimeError: no"}
  assert found["left_out"] == ["c"] and found["rows"] == []
