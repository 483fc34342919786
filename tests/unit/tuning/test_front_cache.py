import pytest
import tiny
import torch
from braintuning.tuning import front_cache
from braintuning.tuning.front_cache import cached_fronts
from braintuning.tuning.model import TunedModel
from tiny import refused

ROWS = [("one", row) for row in range(5)] + [("two", row) for row in range(3)]
CLIPS = {row: torch.randn(8000, generator=torch.Generator().manual_seed(number)) for number, row in enumerate(ROWS)}


def made(family, file=None, hear=lambda line: None):
    model, heard = TunedModel(tiny.encoder(family), 3), []

    def listen(rows):
        heard.extend(rows)
        return torch.stack([CLIPS[row] for row in rows])

    with tiny.listening(hear):
        return model, cached_fronts(model, ROWS, listen, batch_size=3, file=file), heard


@pytest.mark.parametrize("family", ["hubert", "whisper", "wav2vec2"])
def test_a_prediction_from_the_kept_front_is_that_from_the_sound(family):
    model, fronts, heard = made(family)
    torch.nn.init.normal_(model.head.weight)
    asked, before = [ROWS[6], ROWS[0], ROWS[3]], len(heard)
    expected = model(torch.stack([CLIPS[row] for row in asked]))
    torch.testing.assert_close(model(fronts(asked)), expected, atol=1e-6, rtol=1e-5)
    assert len(heard) == before == len(ROWS) + 1


def test_what_does_not_fit_into_memory_goes_to_a_file_and_is_the_same(tmp_path, monkeypatch):
    _, in_memory, _ = made("hubert")
    monkeypatch.setattr(front_cache, "available_memory", lambda: 0)
    said = []
    _, on_disk, _ = made("hubert", tmp_path / "fronts.bin", said.append)
    assert said == ["front end of 8 clips: 0.00 GiB on disk"]
    assert torch.equal(in_memory(ROWS).hidden, on_disk(ROWS).hidden)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == in_memory(ROWS).hidden.nbytes


@pytest.mark.parametrize("n_processes", [1, 4])
def test_a_share_of_what_is_available_is_taken_in_memory(tmp_path, monkeypatch, n_processes):
    _, fronts, _ = made("hubert")
    n_bytes, said = fronts(ROWS).hidden.nbytes, []
    monkeypatch.setattr(front_cache.processes, "count", lambda: n_processes)
    for available in (n_processes * n_bytes / front_cache.SHARE_OF_MEMORY * share for share in (1.01, 0.99)):
        monkeypatch.setattr(front_cache, "available_memory", lambda available=available: available)
        made("hubert", tmp_path / "fronts.bin", lambda line: said.append(line.split()[-1]))
    assert said == ["memory", "disk"]


def test_available_memory_is_less_than_there_is():
    import psutil

    assert 0 < front_cache.available_memory() < psutil.virtual_memory().total


def test_few_clips_go_through_the_front_end_at_a_time_whatever_the_batch(monkeypatch):
    monkeypatch.setattr(front_cache, "CLIPS_AT_ONCE", 2)
    model, sizes = TunedModel(tiny.encoder("hubert"), 3), []
    plain = model.front

    def noting(sound):
        sizes.append(len(sound))
        return plain(sound)

    monkeypatch.setattr(model, "front", noting)
    fronts = cached_fronts(model, ROWS[:5], lambda rows: torch.stack([CLIPS[r] for r in rows]), batch_size=128)
    assert sizes == [1, 2, 2, 1]
    expected = plain(torch.stack([CLIPS[row] for row in ROWS[:5]])).hidden
    torch.testing.assert_close(fronts(ROWS[:5]).hidden, expected, atol=1e-6, rtol=1e-5)


def test_no_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(front_cache, "available_memory", lambda: 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    refused(lambda: made("hubert", tmp_path / "fronts.bin"), str(tmp_path))
    assert not list(tmp_path.iterdir())
