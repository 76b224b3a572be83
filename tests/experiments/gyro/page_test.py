"""The page over the gyro paper's results: ours stand beside the paper's."""

import json

import pytest

from experiments.gyro import page as page_lib
from experiments.report import page as report_page


def write(folder, name, **numbers):
  facts = {"scale": "cpu", "seeds": [0, 1], "minutes": 2.5, "device": "cpu"}
  (folder / f"{name}.json").write_text(
    json.dumps(facts | {"verdicts": []} | numbers)
  )


def cells(folder, start):
  """The cells of the only line of the page whose first cell starts so."""
  page = report_page.text(page_lib.PAPER, folder)
  (line,) = [x for x in page.splitlines() if x.startswith(f"| {start}")]
  return [cell.strip() for cell in line.split("|")[1:-1]]


def accuracy(method, seed, value, gap):
  own = {"dataset": "cifar10", "model": "lenet", "method": method}
  own |= {"best_accuracy": value, "train_accuracy": value + gap}
  return own | {"seed": seed, "accuracy": value, "generalization_gap": gap}


def test_an_empty_folder_was_not_run(tmp_path):
  page = report_page.text(page_lib.PAPER, tmp_path)
  for binary, _ in page_lib.EXPERIMENTS.values():
    assert "not run" in cells(tmp_path, f"`experiments.{binary}`")
  # 84.43 and 84.50 less 84.27; gaps of 0.6 and 0.9.
  assert cells(tmp_path, "CIFAR10/LeNet")[1:] == [
    *("not run", "+0.16", "not run", "+0.23", "not run", "-0.3")
  ]
  assert "- SVHN/MLP1" in page and "- CIFAR10/LeNet" in page


def test_differences_are_paired_by_seed(tmp_path):
  rows = [
    accuracy("conventional", 0, 50.0, 10.0),
    accuracy("conventional", 1, 60.0, 10.0),
    accuracy("gyro", 1, 61.0, 8.0),
    accuracy("gyro", 0, 51.0, 8.0),
    accuracy("gyro", 2, 99.0, 0.0),  # no conventional run beside it
  ]
  write(tmp_path, "accuracy_table", numbers={"rows": rows})
  found = cells(tmp_path, "CIFAR10/LeNet")
  assert found[1].startswith("+1.00 [") and found[5].startswith("-2.00 [")
  assert found[3] == "not run"
  page = report_page.text(page_lib.PAPER, tmp_path)
  assert "- CIFAR10/LeNet" not in page


def grid_row(total, tau, value, scheduling="consecutive", trained=None, **own):
  row = {"dataset": "cifar10", "model": "mlp2", "method": "gyro", "seed": 0}
  row |= {"total": total, "concurrent": tau, "scheduling": scheduling}
  count = total if trained is None else trained
  return row | {"num_subnets": count, "accuracy": value} | own


def test_a_cell_that_is_not_all_trained_is_not_the_best(tmp_path):
  rows = [
    grid_row(16, 16, 40.0),
    grid_row(256, 256, 42.0),
    grid_row(4096, 256, 99.0, trained=1000),
    grid_row(256, 16, 41.0),
    grid_row(256, 16, 40.5, "random"),
  ]
  write(tmp_path, "gyro", numbers={"rows": rows})
  assert cells(tmp_path, "best Sigma at")[2] == "Sigma = 256 (42.00)"
  assert cells(tmp_path, "best Sigma and")[2] == (
    "Sigma = 256, tau = 256 (42.00)"
  )
  assert cells(tmp_path, "consecutive minus")[2] == "+0.50"


def test_blocks_are_compared_at_equal_settings(tmp_path):
  rows = [
    grid_row(256, tau, value, method="blockwise", block_of_1024=size, **own)
    for tau, size, value, own in (
      (2, 32, 40.0, {"rows_per_subnet": 128}),
      (2, 16, 41.0, {"rows_per_subnet": 128}),
      (8, 32, 40.0, {"rows_per_subnet": 128}),
      (8, 16, 39.5, {"rows_per_subnet": 128}),
      (8, 16, 10.0, {"rows_per_subnet": 32}),  # nothing of 32 units beside it
    )
  ]
  write(tmp_path, "gyro", numbers={"rows": rows})
  assert cells(tmp_path, "blocks of 32 minus")[2] == "-1.00 to +0.50"


def test_tickets_are_counted_by_their_means(tmp_path):
  rows = [
    {"row": "MLP2", "kind": kind, "percent_left": left, "method": method}
    | {"accuracy": value, "seed": 0}
    for kind, left, method, value in (
      ("weights", 10, "gyro", 40.0),
      ("weights", 10, "conventional", 39.0),
      ("weights", 5, "gyro", 30.0),
      ("weights", 5, "conventional", 31.0),
      ("weights", 45, "gyro", 50.0),
      ("weights", 45, "conventional", 31.0),
      ("units", 10, "gyro", 50.0),
      ("units", 10, "conventional", 31.0),
    )
  ]
  write(tmp_path, "pruning", numbers={"rows": rows})
  assert cells(tmp_path, "tickets")[1:] == ["26 of 42", "1 of 2"]


def test_disagreement_of_trained_subnets_is_paired(tmp_path):
  rows = [
    {"row": "MLP2", "method": method, "subnets": subnets, "seed": seed}
    | {"disagreement": value, "gain": 1.5}
    for method, subnets, seed, value in (
      ("conventional", "last epoch", 0, 0.5),
      ("gyro", "last epoch", 0, 0.75),
      ("gyro", "last epoch", 1, 0.1),  # nothing beside it
      ("conventional", "random", 1, 0.9),
    )
  ]
  write(tmp_path, "diversity", numbers={"rows": rows})
  assert cells(tmp_path, "pairs of subnets")[1:] == ["-", "+25.00"]
  assert cells(tmp_path, "feature distance")[1:] == ["+21.9", "+1.5"]


@pytest.mark.parametrize(
  ("part", "phase", "start"),
  [
    ("mlp", "iteration", "block-wise over conventional, mlp"),
    ("mlp", "forward", "block-wise over conventional, forward"),
    ("cnn", "iteration", "block-wise over conventional, cnn"),
  ],
)
def test_speed_is_a_median_over_rounds(tmp_path, part, phase, start):
  rows = [
    {"model": model, "part": part, "phase": phase, "method": "blockwise"}
    | {"speedup_percent": value}
    for model, values in (("a", (1.0, 2.0, 9.0)), ("b", (5.0, None)))
    for value in values
  ]
  write(tmp_path, "throughput", iterations=rows)
  assert cells(tmp_path, start)[2] == "+2.0 to +5.0"


@pytest.mark.parametrize(("none", "said"), [(60.0, True), (40.0, False)])
def test_rows_where_no_dropout_is_best_are_named(tmp_path, none, said):
  values = {"none": none, "conventional": 50.0, "gyro": 51.0}
  rows = [accuracy(method, 0, v, 1.0) for method, v in values.items()]
  write(tmp_path, "accuracy_table", numbers={"rows": rows})
  page = report_page.text(page_lib.PAPER, tmp_path)
  assert ("best of the four on CIFAR10/LeNet." in page) == said


def test_bert_stands_beside_the_larger_class(tmp_path):
  scores = {
    "model": {"accuracy": 63.421, "f1": 73.1},
    "baseline": {"accuracy": 66.49, "f1": 79.87},
  }
  assert "## BERT" not in report_page.text(page_lib.PAPER, tmp_path)
  facts = {"scores": scores, "fixed_loss": [0.7, 0.25], "steps": 342}
  (tmp_path / "bert_gyro.json").write_text(json.dumps(facts))
  found = ["gyro", "63.42", "73.10", "0.7000", "0.2500", "342"]
  assert cells(tmp_path, "gyro ") == found
  assert cells(tmp_path, "the larger class")[1:3] == ["66.49", "79.87"]
