import copy

import numpy as np
import pytest
import torch
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.families import standardised
from braintuning.errors import InputError
from braintuning.tuning.objectives import (
    OF_UNITS,
    MaskedUnits,
    contrastive_logits,
    draw_negatives,
    masked_pass,
    objective,
    span_mask,
    unit_loss,
)
from braintuning.tuning.units import EncoderUnits, fit_centres, nearest_centre
from tiny import one_sentence
from transformers import (
    Data2VecAudioConfig,
    HubertConfig,
    UniSpeechConfig,
    UniSpeechSatConfig,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WhisperConfig,
)

SIZES = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 8},
    **{"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
}
QUANTISER = {"num_codevectors_per_group": 6, "codevector_dim": 8, "proj_codevector_dim": 8}
WHISPER = {
    **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "vocab_size": 20},
    **{"decoder_layers": 0, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_source_positions": 200},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3, "suppress_tokens": None},
}
CONFIGS = {
    "wav2vec2": Wav2Vec2Config(**SIZES, **QUANTISER),
    "hubert": HubertConfig(**SIZES),
    "wavlm": WavLMConfig(**SIZES),
    "unispeech-sat": UniSpeechSatConfig(**SIZES),
    "whisper": WhisperConfig(**WHISPER),
}
FAMILIES = tuple(CONFIGS)


def encoder(family):
    return SpeechEncoder.from_config(CONFIGS[family], pad_to_30s=family == "whisper", seed=1)


def noise(seed, seconds):
    return np.random.default_rng(seed).standard_normal(round(seconds * 16_000)).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def made():
    sounds = [noise(0, 4.0), noise(1, 3.0)]
    pairs = {}
    for family in FAMILIES:
        model = encoder(family)
        pairs[family] = model, objective(model, sounds, seed=3)
    return pairs


@pytest.mark.parametrize("config", [Data2VecAudioConfig, UniSpeechConfig])
def test_a_family_without_an_objective_here_is_refused(config):
    model = SpeechEncoder.from_config(config(**SIZES | {"num_conv_pos_embeddings": 2}))
    with pytest.raises(InputError) as caught:
        objective(model, [noise(0, 4.0)], seed=0)
    one_sentence(str(caught.value), model.name, f"'{model.family}'", *FAMILIES)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_contrastive_logits_equal_brute_force():
    rng = np.random.default_rng(0)
    predicted, latents = rng.standard_normal((2, 7, 5)).astype(np.float32)
    latents[4] = latents[2]
    torch.manual_seed(5)
    logits = contrastive_logits(torch.from_numpy(predicted), torch.from_numpy(latents), 300).numpy()
    for frame in range(7):
        assert logits[frame, 0] == pytest.approx(cosine(predicted[frame], latents[frame]) / 0.1, abs=1e-4)
        others = [k for k in range(7) if k != frame]
        twin = {2: 4, 4: 2}.get(frame)
        expected = {round(cosine(predicted[frame], latents[k]) / 0.1, 3) for k in others if k != twin}
        finite = logits[frame, 1:][np.isfinite(logits[frame, 1:])]
        found = {min(expected, key=lambda e, v=value: abs(e - v)) for value in finite}
        assert found == expected
        assert max(min(abs(e - value) for e in expected) for value in finite) < 2e-3
        share = np.isinf(logits[frame, 1:]).mean()
        assert share == 0 if twin is None else 0.08 < share < 0.26


def test_contrastive_loss_is_that_of_transformers_on_the_same_masks_and_negatives():
    model = encoder("wav2vec2")
    found = objective(model, [], seed=4).eval()
    whole = Wav2Vec2ForPreTraining(CONFIGS["wav2vec2"]).eval()
    whole.wav2vec2.load_state_dict(model.model.state_dict())
    whole.wav2vec2.masked_spec_embed.data.copy_(found.mask_vector.data)
    whole.quantizer.load_state_dict(found.quantiser.state_dict())
    whole.project_q.load_state_dict(found.project_latent.state_dict())
    whole.project_hid.load_state_dict(found.project_hidden.state_dict())
    audio = torch.from_numpy(np.stack([noise(2, 1.0), noise(3, 1.0)]))
    torch.manual_seed(6)
    loss = found.loss(audio)
    torch.manual_seed(6)
    mask = span_mask(2, model.n_frames(16_000), 0.065)
    negatives = torch.zeros(*mask.shape, 100, dtype=torch.int64)
    for clip, masked in enumerate(mask):
        places = masked.nonzero()[:, 0]
        negatives[clip, places] = clip * mask.shape[1] + places[draw_negatives(len(places), 100)]
    expected = whole(standardised(audio), mask_time_indices=mask, sampled_negative_indices=negatives).loss
    assert loss.item() == pytest.approx((expected / mask.sum()).item(), rel=1e-4)


def test_unit_loss_in_closed_form():
    codes = torch.eye(3)
    predicted = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    right = np.log(1 + 2 * np.exp(-10.0))
    wrong = right + 10
    assert unit_loss(predicted, codes, torch.tensor([0, 2])).item() == pytest.approx(right, abs=1e-6)
    assert unit_loss(predicted, codes, torch.tensor([0, 1])).item() == pytest.approx((right + wrong) / 2, abs=1e-5)


def test_span_mask_is_runs_of_the_span_and_never_empty():
    torch.manual_seed(0)
    mask = span_mask(200, 100, 0.0, span=10).numpy()
    for row in mask:
        edges = np.diff(np.r_[0, row.astype(int), 0])
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        assert len(starts) == 1
        assert ends[0] - starts[0] == 10 or ends[0] == 100
    often = span_mask(400, 500, 0.065, span=10).float()[:, 20:].mean().item()
    assert often == pytest.approx(1 - (1 - 0.065) ** 10, abs=0.01)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "unispeech-sat"])
def test_masked_pass_without_a_mask_is_the_last_layer(family):
    model, audio = encoder(family), torch.from_numpy(np.stack([noise(2, 1.0), noise(3, 1.0)]))
    front = model.front_end(audio)
    with torch.no_grad():
        last, _ = masked_pass(model.model, front, torch.zeros(front.shape[:2], dtype=torch.bool), torch.zeros(16))
        assert torch.allclose(last, model.trunk(front)[-1], atol=1e-5)


def test_only_masked_frames_count():
    model = encoder("hubert")
    audio = torch.from_numpy(noise(4, 1.0))[None]
    frames = model.n_frames(audio.shape[1])

    class Given(torch.nn.Module):
        centres = torch.zeros(5, 1)

        def __init__(self, units):
            super().__init__()
            self.given = units

        def forward(self, audio):
            return self.given

    torch.manual_seed(9)
    mask = span_mask(1, frames, 0.08)
    assert 0 < mask.sum() < frames
    losses = []
    for changed in (torch.zeros_like(mask), ~mask, mask):
        units = torch.where(changed, 3, 0)
        torch.manual_seed(1)
        module = MaskedUnits(model, Given(units))
        torch.manual_seed(9)
        losses.append(module.loss(audio).item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_planted_clusters_come_back_as_units():
    rng = np.random.default_rng(0)
    truth = rng.integers(6, size=3000)
    planted = rng.standard_normal((6, 12)) * 10
    states = (planted[truth] + rng.standard_normal((3000, 12))).astype(np.float32)
    centres = fit_centres(states, 6, seed=0)
    units = nearest_centre(torch.from_numpy(states)[None], centres)[0].numpy()
    pairs = set(zip(truth.tolist(), units.tolist(), strict=True))
    assert len(pairs) == 6
    by_hand = ((states[:50, None] - centres.numpy()[None]) ** 2).sum(-1).argmin(1)
    assert (by_hand == units[:50]).all()


def test_units_are_of_the_encoder_as_it_was():
    model, audio = encoder("hubert"), torch.from_numpy(noise(6, 1.0))[None]
    with torch.no_grad():
        states = model(audio, layers=[1])[0, 0]
    module = EncoderUnits(model, 1, states[:20].clone())
    before = module(audio)
    assert (before[0, :20] == torch.arange(20)).all()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-2)
    assert torch.equal(module(audio), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_objective_owns_heads_only_and_moves_the_trunk(made, family):
    model, module = made[family]
    own = {id(p) for p in module.parameters()}
    assert own.isdisjoint(id(p) for p in model.parameters())
    torch.manual_seed(0)
    loss = module.loss(torch.from_numpy(np.stack([noise(7, 2.0), noise(8, 2.0)])))
    loss.backward()
    assert loss.ndim == 0 and torch.isfinite(loss)
    assert all(p.grad is not None for p in module.parameters())
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    model.zero_grad(set_to_none=True)
    module.zero_grad(set_to_none=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_follows_the_global_generator_and_the_state(made, family):
    _, module = made[family]
    audio = torch.from_numpy(np.stack([noise(7, 2.0), noise(8, 2.0)]))
    state = copy.deepcopy(module.state_dict())
    losses = []
    for seed in (1, 1, 2):
        module.load_state_dict(state)
        torch.manual_seed(seed)
        losses.append(module.loss(audio).item())
    assert losses[0] == losses[1] != losses[2]
    if family in OF_UNITS:
        assert module.state_dict()["units.centres"].shape == (200, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_objective_is_learnt(made, family):
    model, module = made[family]
    audio = torch.from_numpy(np.stack([noise(9, 1.5), noise(10, 1.5)]))
    optimiser = torch.optim.Adam([*model.trainable_parameters(), *module.parameters()], lr=3e-3)
    losses = []
    for step in range(25):
        torch.manual_seed(step % 2)
        loss = module.loss(audio)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:4])


def test_too_few_frames_for_the_units():
    with pytest.raises(InputError, match="expected at least 200"):
        objective(encoder("hubert"), [noise(0, 1.0)], seed=0)
    with pytest.raises(InputError, match=r"none of 0\.1 s"):
        objective(encoder("hubert"), [], seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_lora_only_adapters_and_heads_move(family):
    model = encoder(family).lora(rank=2)
    module = objective(model, [noise(0, 5.0)], seed=3)
    torch.manual_seed(0)
    module.loss(torch.from_numpy(np.stack([noise(7, 2.0), noise(8, 2.0)]))).backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved and all("lora_" in name for name in moved)
    reached = sum(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n in moved and "lora_B" in n)
    assert reached == len(moved) // 2


def test_wav2vec2_goes_on_with_the_heads_of_its_own_pretraining(tmp_path):
    torch.manual_seed(3)
    whole = Wav2Vec2ForPreTraining(CONFIGS["wav2vec2"])
    whole.save_pretrained(tmp_path / "whole")
    found = objective(SpeechEncoder.from_pretrained(tmp_path / "whole"), [], seed=0)
    for mine, its in (
        (found.quantiser, whole.quantizer),
        (found.project_latent, whole.project_q),
        (found.project_hidden, whole.project_hid),
    ):
        assert all(torch.equal(tensor, its.state_dict()[name]) for name, tensor in mine.state_dict().items())
    found.loss(torch.from_numpy(noise(0, 2.0))[None].float())
    assert found.quantiser.temperature == 0.5, "where pretraining left it"


def test_wav2vec2_without_heads_in_its_weights_starts_from_the_seed(tmp_path):
    encoder("wav2vec2").save_pretrained(tmp_path / "bare")
    bare = SpeechEncoder.from_pretrained(tmp_path / "bare")
    first, again, other = (objective(bare, [], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.quantiser.codevectors, again.quantiser.codevectors)
    assert not torch.equal(first.quantiser.codevectors, other.quantiser.codevectors)
    first.loss(torch.from_numpy(noise(0, 2.0))[None].float())
    assert first.quantiser.temperature == 2.0
