"""A small corpus, spoken once for all tests of this folder."""

import pytest
import torch

from tokenkl.tts.corpus import Corpus, CorpusConfig, load_corpus

# With two threads the last bits depend on their number, and small layers gain nothing.
torch.set_num_threads(1)

TINY = CorpusConfig(train=20, valid=4, test=8, combinations=6)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(TINY, folder=tmp_path_factory.mktemp("corpora"))
