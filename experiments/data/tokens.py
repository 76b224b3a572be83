"""WordPiece tokenizers from a local vocabulary file, or learnt from a text."""

import collections
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from kdropout_jax.training import files

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_MAX_UNKNOWN = 0.1


def tokenizer(vocabulary: str | os.PathLike[str], lowercase: bool = True):
  """Returns BERT's WordPiece tokenizer over a local vocabulary file.

  Args:
    vocabulary: a text file with one token a line, as BERT publishes it.
    lowercase: whether text is lowered and accents are stripped.

  Raises:
    ValueError: there is no such file, a token stands in it twice, or BERT's
      special tokens are not in it.
  """
  import tokenizers  # pylint: disable=g-import-not-at-top

  tokens = _read(vocabulary)
  result = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(
      {token: i for i, token in enumerate(tokens)},
      unk_token="[UNK]",
      max_input_chars_per_word=100,
    )
  )
  _pre_process(result, lowercase)
  result.add_special_tokens(list(SPECIAL))
  ends = [(name, result.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
  result.post_processor = tokenizers.processors.BertProcessing(*ends)
  result.decoder = tokenizers.decoders.WordPiece()
  return result


def learn_vocabulary(
  texts: Iterable[str],
  size: int,
  path: str | os.PathLike[str],
  lowercase: bool = True,
) -> pathlib.Path:
  """Writes a WordPiece vocabulary learnt from texts; returns its path.

  For where no published vocabulary is at hand. The file appears by a rename.
  """
  import tokenizers  # pylint: disable=g-import-not-at-top

  if size < 300:
    raise ValueError(f"vocabulary size must be >= 300, got {size}")
  model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
  _pre_process(model, lowercase)
  texts = list(texts)
  # The trainer numbers pieces in the order of a hash map and settles ties by
  # these numbers, so that no two runs agree; pieces of one character that are
  # given as special tokens are numbered first, in our order.
  letters = _letters(map(model.normalizer.normalize_str, texts), size // 8)
  pieces = [*letters, *(f"##{letter}" for letter in letters)]
  trainer = tokenizers.trainers.WordPieceTrainer(
    vocab_size=size,
    special_tokens=[*SPECIAL, *pieces],
    initial_alphabet=letters,
    limit_alphabet=len(letters),
    show_progress=False,
  )
  model.train_from_iterator(texts, trainer)
  vocabulary = model.get_vocab()
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
  files.write_atomically(path, "\n".join(tokens) + "\n")
  return path


def check_fit(unknown: int, total: int, vocabulary: object) -> None:
  """Raises a ValueError if too many tokens of a text are unknown."""
  if total and unknown > _MAX_UNKNOWN * total:
    raise ValueError(
      f"vocabulary {str(vocabulary)!r} does not fit the text:"
      f" {unknown:,} of {total:,} tokens are unknown, more than"
      f" {_MAX_UNKNOWN:.0%}; give the vocabulary of this language, cased or"
      " not as --lowercase says"
    )


def check_length(max_length: int) -> None:
  """Raises a ValueError if a window has no room for two texts."""
  if max_length < 8:
    raise ValueError(f"max_length must be >= 8, got {max_length}")


def learnt(
  folder: pathlib.Path,
  texts: Callable[[], Iterable[str]],
  size: int,
  lowercase: bool,
) -> pathlib.Path:
  """Returns the vocabulary learnt from a training set, learning it once."""
  case = "lower" if lowercase else "cased"
  path = folder / f"vocabulary-{size}-{case}.txt"
  if path.exists():
    return path
  return learn_vocabulary(texts(), size, path, lowercase)


def arrays(encoder, encodings, vocabulary) -> dict[str, np.ndarray]:
  """Returns the ids, types and mask [N, L] of encodings."""
  result = {
    "input_ids": np.array([e.ids for e in encodings], np.int32),
    "token_type_ids": np.array([e.type_ids for e in encodings], np.int32),
    "attention_mask": np.array([e.attention_mask for e in encodings], np.int32),
  }
  unknown = result["input_ids"] == encoder.token_to_id("[UNK]")
  check_fit(int(unknown.sum()), int(result["attention_mask"].sum()), vocabulary)
  return result


def _letters(texts: Iterable[str], count: int) -> list[str]:
  """Returns the most frequent characters but spaces, in a fixed order."""
  counts: collections.Counter[str] = collections.Counter()
  for text in texts:
    counts.update(text)
  letters = [letter for letter in counts if not letter.isspace()]
  return sorted(letters, key=lambda letter: (-counts[letter], letter))[:count]


def _read(vocabulary) -> list[str]:
  path = pathlib.Path(vocabulary)
  if not path.is_file():
    raise ValueError(
      f"vocabulary must be a file with one token a line, got {str(path)!r},"
      " which is not there"
    )
  text = path.read_text(encoding="utf-8").rstrip("\n")
  # Not splitlines: a token may be a rarer kind of line break.
  tokens = [token.rstrip("\r") for token in text.split("\n")]
  missing = [token for token in SPECIAL if token not in tokens]
  if missing:
    raise ValueError(
      f"vocabulary {str(path)!r}: expected BERT's special tokens, lacks"
      f" {', '.join(missing)}; give BERT's vocab.txt"
    )
  if len(set(tokens)) != len(tokens):
    twice = next(t for i, t in enumerate(tokens) if t in tokens[:i])
    raise ValueError(
      f"vocabulary {str(path)!r}: expected each token once, got {twice!r}"
      " twice; the file is damaged"
    )
  return tokens


def _pre_process(model, lowercase: bool) -> None:
  import tokenizers  # pylint: disable=g-import-not-at-top

  model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
  model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
