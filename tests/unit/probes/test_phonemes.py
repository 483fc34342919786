import pandas as pd
import pytest
from braintuning.results import REPOSITORY

RANDOM, SMALL, LARGEST = "random HuBERT", ("hubert-small", "wav2vec2-small"), "whisper-tiny.en"
ORDERED = [(RANDOM, LARGEST), *((RANDOM, small) for small in SMALL), *((small, LARGEST) for small in SMALL)]


@pytest.mark.parametrize("pair", ORDERED)
def test_on_an_hour_of_real_speech_better_models_know_more_phonemes(pair):
    """As `benchmarks/probes.py --corpus <LibriSpeech>` measured it: paired over test speakers."""
    table = pd.read_csv(REPOSITORY / "benchmarks" / "results" / "probes_differences.csv")
    worse, better = pair
    table = table[(table["task"] == "phonemes") & (table["against"] == worse) & (table["model"] == better)]
    (row,) = table.itertuples()
    assert row.n_speakers > 60 and row.low > 0 and row.p < 0.05
