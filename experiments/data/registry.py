"""The datasets that every flag called --dataset may name."""

import dataclasses
import difflib


@dataclasses.dataclass(frozen=True)
class Spec:
  """Where a dataset comes from, and what it must hold.

  Attributes:
    name: as in ``--dataset``.
    task: ``"image"``, ``"packets"``, ``"pairs"``, ``"spans"`` or
      ``"characters"``.
    builder: ``module:Class`` of our TFDS builder, or None.
    stock: the name of TFDS's own builder, or None.
    rows: the rows of the training and the test split that a whole copy has.
    num_classes: 0 for spans, and where TFDS's own features say it.
    test_split: TFDS's name of the split that we test on.
    pixel_max: the largest value of a pixel.
    megabytes: size on disk once prepared.
    fetch: how a person gets the files that cannot be downloaded.
    streams: too large for the memory of the device.
    digest: of a text that ships with Python, as our results have it.
  """

  name: str
  task: str
  builder: str | None
  stock: str | None
  rows: tuple[int, int]
  num_classes: int
  test_split: str = "test"
  pixel_max: int = 255
  megabytes: int = 1
  fetch: str = ""
  streams: bool = False
  digest: str = ""


_IMAGES = "experiments.data.builders.images"

_SPECS = (
  Spec(
    "digits",
    "image",
    "experiments.data.builders.digits:Digits",
    None,
    (1_500, 297),
    10,
    pixel_max=16,
  ),
  Spec(
    "letters",
    "image",
    "experiments.data.builders.letters:Letters",
    None,
    (10_000, 10_000),
    26,
    megabytes=18,
  ),
  Spec(
    "mnist",
    "image",
    f"{_IMAGES}:LocalMnist",
    "mnist",
    (60_000, 10_000),
    10,
    megabytes=60,
  ),
  Spec(
    "fashion_mnist",
    "image",
    f"{_IMAGES}:LocalFashionMnist",
    "fashion_mnist",
    (60_000, 10_000),
    10,
    megabytes=60,
  ),
  Spec(
    "cifar10",
    "image",
    "experiments.data.builders.cifar:LocalCifar10",
    "cifar10",
    (50_000, 10_000),
    10,
    megabytes=190,
  ),
  Spec(
    "cifar100",
    "image",
    "experiments.data.builders.cifar:LocalCifar100",
    "cifar100",
    (50_000, 10_000),
    100,
    megabytes=190,
  ),
  Spec(
    "svhn_cropped",
    "image",
    "experiments.data.builders.svhn:LocalSvhnCropped",
    "svhn_cropped",
    (73_257, 26_032),
    10,
    megabytes=320,
  ),
  Spec(
    "tiny_imagenet",
    "image",
    "experiments.data.builders.tiny_imagenet:TinyImagenet",
    None,
    (100_000, 10_000),
    200,
    test_split="validation",
    megabytes=240,
  ),
  Spec(
    "imagenet2012",
    "image",
    None,
    "imagenet2012",
    (1_281_167, 50_000),
    1000,
    test_split="validation",
    megabytes=148_000,
    fetch=(
      "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from"
      " https://image-net.org after registration"
    ),
    streams=True,
  ),
  Spec(
    "nsl_kdd",
    "packets",
    "experiments.data.builders.kdd:NslKdd",
    None,
    (125_973, 22_544),
    5,
    megabytes=80,
    fetch=(
      "KDDTrain+.txt, KDDTest+.txt and KDDTest-21.txt, from"
      " https://www.unb.ca/cic/datasets/nsl.html after a form"
    ),
  ),
  Spec(
    "unsw_nb15",
    "packets",
    "experiments.data.builders.unsw_nb15:UnswNb15",
    None,
    (175_341, 82_332),
    10,
    megabytes=60,
    fetch=(
      "UNSW_NB15_training-set.csv (and UNSW_NB15_testing-set.csv), from"
      " https://research.unsw.edu.au/projects/unsw-nb15-dataset"
    ),
  ),
  Spec(
    "kddcup99",
    "packets",
    "experiments.data.builders.kdd:KddCup1999",
    None,
    (494_021, 311_029),
    5,
    megabytes=80,
  ),
  Spec(
    "glue/mrpc",
    "pairs",
    "experiments.data.builders.mrpc:LocalMrpc",
    "glue/mrpc",
    (3_668, 1_725),
    2,
    megabytes=2,
    fetch="train.tsv, dev.tsv and msr_paraphrase_test.txt of GLUE's MRPC",
  ),
  Spec(
    "squad",
    "spans",
    "experiments.data.builders.squad:LocalSquad",
    "squad",
    (87_599, 10_570),
    0,
    test_split="validation",
    megabytes=100,
    fetch="train-v1.1.json and dev-v1.1.json of SQuAD",
  ),
  Spec(
    "pydoc_topics",
    "characters",
    "experiments.data.builders.topics:PydocTopics",
    None,
    (5_500, 500),
    128,
    digest=(  # Of Python 3.12.1.
      "sha256:5930290cd1fe4027ffb10b7ecae4f4a2677533d6c2e057250e4d411fc1ca534e"
    ),
  ),
)

_BY_NAME = {spec.name: spec for spec in _SPECS}
_ALIASES = {"mrpc": "glue/mrpc", "kddcup": "kddcup99"}


def names() -> tuple[str, ...]:
  """Returns the names of all datasets, in the order of the documents."""
  return tuple(_BY_NAME)


def foreign(name: str) -> Spec:
  """Returns the `Spec` of a TFDS dataset of images that is not in our list."""
  return Spec(name, "image", None, name, (0, 0), 0)


def get(name: str) -> Spec:
  """Returns the `Spec` of a dataset.

  Raises:
    ValueError: no dataset has this name; the message has the nearest ones.
  """
  name = _ALIASES.get(name, name)
  if name in _BY_NAME:
    return _BY_NAME[name]
  near = difflib.get_close_matches(name, [*_BY_NAME, *_ALIASES], 3, 0.5)
  hint = f"; did you mean {' or '.join(near)}?" if near else ""
  raise ValueError(
    f"dataset must be one of {', '.join(_BY_NAME)}, got {name!r}{hint}"
  )
