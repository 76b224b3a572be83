"""The tiny scale and its store, as the k-dropout experiments' tests have."""

from tests.experiments.k_dropout.conftest import store as store
from tests.experiments.k_dropout.conftest import tiny as tiny
from tests.experiments.k_dropout.conftest import workdir as workdir
