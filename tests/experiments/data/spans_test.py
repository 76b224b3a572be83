"""Word pieces, sentence pairs, windows over contexts, and SQuAD's metric."""

import hashlib

import numpy as np
import pytest

from experiments import data
from experiments.data import spans as spans_lib
from experiments.data import squad_metric
from experiments.data import tokens

_VOCABULARY = (
  "[PAD] [UNK] [CLS] [SEP] [MASK] who won ? the game was ##s play ##ed in"
  " 19 ##66 team and lost ."
).split()


@pytest.fixture
def vocabulary(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join(_VOCABULARY) + "\n")
  return path


def test_word_pieces_by_hand(vocabulary):
  encoder = tokens.tokenizer(vocabulary)
  encoded = encoder.encode("Who played?", "The teams, 1966.")
  assert encoded.tokens == [
    *("[CLS] who play ##ed ? [SEP]".split()),
    *("the team ##s [UNK] 19 ##66 . [SEP]".split()),
  ]
  assert encoded.type_ids == [0] * 6 + [1] * 8
  assert encoded.ids[1] == _VOCABULARY.index("who")


def test_case_matters_if_told_so(vocabulary):
  encoder = tokens.tokenizer(vocabulary, lowercase=False)
  assert encoder.encode("Who won").tokens == ["[CLS]", "[UNK]", "won", "[SEP]"]


@pytest.mark.parametrize(
  "lines, message",
  [
    (_VOCABULARY[:3], r"lacks \[SEP\], \[MASK\]; give BERT's vocab.txt"),
    ([*_VOCABULARY, "won"], r"expected each token once, got 'won' twice"),
    ([], r"lacks \[PAD\], \[UNK\]"),
  ],
)
def test_vocabularies_that_are_none_are_refused(lines, message, tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join(lines))
  with pytest.raises(ValueError, match=message):
    tokens.tokenizer(path)


def test_a_missing_vocabulary_is_refused(tmp_path):
  with pytest.raises(
    ValueError, match=r"vocabulary must be a file.*which is not there"
  ):
    tokens.tokenizer(tmp_path / "none.txt")


def test_a_vocabulary_of_another_language_is_refused(
  samples, tmp_path, vocabulary
):
  with pytest.raises(
    ValueError,
    match=r"does not fit the text: [\d,]+ of [\d,]+ tokens are unknown",
  ):
    data.load(
      "mrpc",
      tmp_path / "d",
      local_files=samples,
      progress=False,
      vocabulary=vocabulary,
    )


def test_learnt_vocabulary_is_the_same_again_and_covers_the_text(tmp_path):
  texts = ["the cat sat on the mat", "a dog and the cat ran"] * 30
  a, b = (tokens.learn_vocabulary(texts, 300, tmp_path / name) for name in "ab")
  assert a.read_bytes() == b.read_bytes()
  assert a.read_text().splitlines()[:5] == list(tokens.SPECIAL)
  assert "[UNK]" not in tokens.tokenizer(a).encode(texts[0]).tokens
  with pytest.raises(
    ValueError, match="vocabulary size must be >= 300, got 10"
  ):
    tokens.learn_vocabulary(texts, 10, tmp_path / "c")


def test_mrpc_pairs(samples, tmp_path):
  result = data.load(
    "mrpc", tmp_path / "d", local_files=samples, progress=False, max_length=16
  )
  assert result.info.name == "glue/mrpc"
  assert result.info.class_names == ("not_equivalent", "equivalent")
  # 30 pairs less the three of dev_ids.tsv.
  assert len(result.train_labels) == 27 and len(result.test_labels) == 12
  ids = result.train_x["input_ids"]
  assert ids.shape == (27, 16) and ids.dtype == np.int32
  cls, sep, pad = (tokens.SPECIAL.index(t) for t in ("[CLS]", "[SEP]", "[PAD]"))
  assert (ids[:, 0] == cls).all()
  assert ((ids == sep).sum(1) == 2).all()
  np.testing.assert_array_equal(
    result.train_x["attention_mask"], (ids != pad).astype(np.int32)
  )
  # Row i of the generated file has label 0 where 3 divides i.
  rows = [i for i in range(30) if i not in (0, 4, 10)]
  assert result.train_labels.tolist() == [int(i % 3 > 0) for i in rows]


def test_too_short_windows_are_refused(samples, tmp_path):
  for name in ("mrpc", "squad"):
    with pytest.raises(ValueError, match="max_length must be >= 8, got 4"):
      data.load(
        name,
        tmp_path / "d",
        local_files=samples,
        progress=False,
        max_length=4,
      )
  with pytest.raises(ValueError, match=r"stride must be in \[0, 64\), got 64"):
    data.load("squad", tmp_path / "d", max_length=64, stride=64)


@pytest.fixture
def squad(samples, tmp_path):
  return data.load(
    "squad",
    tmp_path / "d",
    local_files=samples,
    progress=False,
    vocabulary_size=1000,
    max_length=96,
    stride=32,
  )


def test_labels_point_at_the_answers(squad):
  spans = squad.extra
  found = set()
  for n, (first, last) in enumerate(squad.test_labels):
    q = spans.question[n]
    if (first, last) == (0, 0):
      continue
    found.add(q)
    start, end = spans.offsets[n, first, 0], spans.offsets[n, last, 1]
    piece = spans.contexts[q][start:end]
    assert spans.answers[q][0] in piece
    # A token may be a little longer than the answer's end, no more.
    assert len(piece) <= len(spans.answers[q][0]) + 3
  assert found == set(range(15))


def test_windows_overlap_by_the_stride_and_cover_the_context(squad):
  spans = squad.extra
  assert len(spans.question) > 15  # Some contexts need more than one.
  for q in range(15):
    windows = spans.offsets[spans.question == q]
    inside = [w[w[:, 1] > 0] for w in windows]
    assert inside[0][0, 0] == 0
    assert inside[-1][-1, 1] == len(spans.contexts[q])
    for before, after in zip(inside, inside[1:]):
      shared = (before[:, 0] >= after[0, 0]).sum()
      assert shared == 32


def test_perfect_scores_give_perfect_answers(squad):
  spans = squad.extra
  shape = squad.test_x["input_ids"].shape
  start, end = np.full(shape, -5.0), np.full(shape, -5.0)
  rows = np.arange(shape[0])
  start[rows, squad.test_labels[:, 0]] = 5
  end[rows, squad.test_labels[:, 1]] = 5
  result = squad_metric.evaluate(
    spans_lib.best_answers(spans, start, end), spans_lib.answers(spans)
  )
  # 13 of 15: two answers lie inside a word, "8" in 18 and "2" in 2½, where the
  # nearest tokens reach further; no word is then shared.
  assert result["exact_match"] == pytest.approx(100 * 13 / 15)
  assert result["f1"] == pytest.approx(100 * 13 / 15)
  empty = squad_metric.evaluate({}, spans_lib.answers(spans))
  assert empty == {"exact_match": 0, "f1": 0}


def test_best_answer_obeys_order_length_and_context():
  spans = spans_lib.Spans(
    question=np.array([0, 0], np.int32),
    # [CLS] question [SEP], then three words of the context.
    offsets=np.array([[[0, 0], [0, 0], [0, 3], [4, 7], [8, 11]]] * 2, np.int32),
    ids=["q"],
    contexts=["one two six"],
    answers=[["two"]],
  )
  start = np.zeros((2, 5))
  end = np.zeros((2, 5))
  start[0, 0], end[0, 0] = 99, 99  # Not of the context.
  start[0, 4], end[0, 3] = 9, 9  # The end lies before the start: 9 + 0 only.
  start[1, 2], end[1, 3] = 6, 5  # Together 11, in the second window.
  assert spans_lib.best_answers(spans, start, end) == {"q": "one two"}
  # One token only: from 4 to 4 gives 9; from 3 to 3 gives 9, and comes first.
  one = spans_lib.best_answers(spans, start, end, max_answer_tokens=1)
  assert one == {"q": "two"}


def test_number_of_questions(samples, tmp_path):
  def load(**options):
    return data.load(
      "squad", tmp_path / "d", local_files=samples, progress=False, **options
    )

  result = load(num_train=4, num_test=3, vocabulary_size=1000)
  assert dict(result.info.counts)["training questions"] == 4
  assert len(result.extra.ids) == 3
  with pytest.raises(
    ValueError, match=r"in \[1, 30\] for split 'train', got 31"
  ):
    load(num_train=31)


def test_a_wrong_answer_offset_is_refused(samples, tmp_path, monkeypatch):
  from experiments.data.builders import squad as builders

  path = samples / "squad/train-v1.1.json"
  path.write_text(
    path.read_text().replace('"answer_start": ', '"answer_start": 1', 1)
  )
  name, rows = path.name, builders.LocalSquad.FILES["train"][0]
  digest = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
  files = dict(builders.LocalSquad.FILES) | {"train": (rows, {name: digest})}
  monkeypatch.setattr(builders.LocalSquad, "FILES", files)
  with pytest.raises(
    ValueError,
    match=r"train-v1.1.json: expected SQuAD's articles.*is not at character",
  ):
    data.prepare("squad", tmp_path / "d", samples, progress=False)


# (prediction, answer, exact match, F1), worked by hand.
_CASES = [
  ("The Broncos!", "broncos", 1, 1),
  ("an  apple,  a  day", "apple day", 1, 1),
  ("Denver", "Denver Broncos", 0, 2 * 1 * 0.5 / 1.5),
  # 2 shared words of 3 and of 4: 2 (2/3)(1/2) / (2/3 + 1/2) = 4/7.
  ("in New York", "New York City team", 0, 4 / 7),
  # Repeated words count as often as both have them: 1 of 2 and 1 of 1.
  ("no no", "no", 0, 2 / 3),
  ("", "something", 0, 0),
  ("the", "a", 1, 0),  # Both are empty once normalised.
  ("U.S.", "US", 1, 1),
]


@pytest.mark.parametrize("prediction, answer, exact, overlap", _CASES)
def test_metric_by_hand(prediction, answer, exact, overlap):
  assert squad_metric.exact_match(prediction, answer) == exact
  assert squad_metric.f1(prediction, answer) == pytest.approx(overlap)


def test_metric_takes_the_best_answer_and_averages_over_questions():
  answers = {"1": ["a cat", "black cat"], "2": ["x"], "3": ["not answered"]}
  result = squad_metric.evaluate({"1": "the black cat", "2": "y"}, answers)
  assert result["exact_match"] == pytest.approx(100 / 3)
  assert result["f1"] == pytest.approx(100 / 3)
  with pytest.raises(ValueError, match="at least one answer"):
    squad_metric.evaluate({}, {"1": []})


def test_a_question_without_room_beside_the_stride_is_refused(
  samples, tmp_path
):
  """From the first length that leaves room it loads; below, one line says."""
  options = dict(stride=16, num_train=4, num_test=4, vocabulary_size=300)
  data.load("squad", tmp_path / "d", local_files=samples, **options)
  for length in range(17, 100):
    try:
      found = data.load("squad", tmp_path / "d", max_length=length, **options)
    except ValueError as error:
      assert "max_length must be > " in str(error) and "\n" not in str(error)
      continue
    break
  assert 25 < length < 99
  assert found.train_x["input_ids"].shape[1] == length
