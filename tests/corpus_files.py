"""Corpora of a few sounds with the names and annotations of the real ones."""

import json
from itertools import product

import numpy as np
import soundfile
from braintuning.probes.corpora import crema_d, ravdess, slurp, speech_commands
from braintuning.probes.utterance import Utterance

RATE = 16_000


def tone(seconds=0.2, hertz=300.0):
    return (0.1 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write_sound(path, samples=None, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone() if samples is None else samples, rate)
    return path


def noise_utterances(folder, lengths, rate=RATE):
    """Noise of so many samples each, by two speakers in turn."""
    made = []
    for number, length in enumerate(lengths):
        file = write_sound(folder / f"{number}.wav", 0.1 * np.random.default_rng(number).standard_normal(length), rate)
        made.append(Utterance(f"s{number % 2}", str(number), file))
    return made


def write_sphere(path, samples):
    """NIST SPHERE as in TIMIT: a header of 1,024 bytes in text, then little-endian 16-bit samples."""
    fields = [
        f"sample_count -i {len(samples)}", "sample_n_bytes -i 2", "channel_count -i 1", "sample_byte_format -s2 01",
        "sample_rate -i 16000", "sample_coding -s3 pcm", "end_head",
    ]  # fmt: skip
    header = ("NIST_1A\n   1024\n" + "\n".join(fields) + "\n").encode().ljust(1024)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + np.round(samples * 32767).astype("<i2").tobytes())


def write_timit(root, n_train=12, n_test=4):
    """Ten sentences a speaker as in TIMIT: all say SA1 and SA2, four in one part the same five SX; SI are one's own."""
    for number in range(n_train + n_test):
        part, speaker = ("TRAIN", f"FCJ{number:02d}") if number < n_train else ("TEST", f"MBC{number:02d}")
        own = [f"SX{number // 4 + 90 * place}" for place in range(5)] + [
            f"SI{3 * number + place}" for place in range(3)
        ]
        for prompt in ("SA1", "SA2", *own):
            stem = root / part / f"DR{1 + number % 8}" / speaker / prompt
            write_sphere(stem.with_suffix(".WAV"), tone())
            stem.with_suffix(".PHN").write_text("0 800 h#\n800 1600 sh\n1600 2400 ix\n2400 3000 dcl\n3000 3200 d\n")
            stem.with_suffix(".TXT").write_text("0 3200 She had.\n")
            stem.with_suffix(".WRD").write_text("800 3200 she\n")
    return root


def write_speech_commands(root, speakers=("aaa", "bbb", "ccc", "ddd"), hertz_apart=0.0, noise=0.0):
    """Speaker bbb is in the validation part and ccc in the test part; every word is a tone of its own, or all one."""
    rng = np.random.default_rng(0)
    for (number, word), speaker in product(enumerate(speech_commands.WORDS), speakers):
        heard = tone(0.2, 300.0 + hertz_apart * number)
        noisy = heard + noise * rng.standard_normal(len(heard))
        write_sound(root / word / f"{speaker}_nohash_0.wav", noisy)
    (root / "validation_list.txt").write_text("\n".join(f"{word}/bbb_nohash_0.wav" for word in speech_commands.WORDS))
    (root / "testing_list.txt").write_text("\n".join(f"{word}/ccc_nohash_0.wav" for word in speech_commands.WORDS))
    return root


def write_crema_d(root, actors=range(1001, 1013), sentences=("DFA", "IEO", "TIE", "IOM")):
    for actor, sentence, emotion in product(actors, sentences, crema_d.EMOTIONS):
        write_sound(root / "AudioWAV" / f"{actor}_{sentence}_{emotion}_XX.wav", tone(0.05))
    return root


def write_ravdess(root, actors=range(1, 13), folders="Actor_{:02d}"):
    """Actors in folders of their own, or with an empty name all in one; odd actors' files are FLAC."""
    for actor, emotion, sentence in product(actors, (*ravdess.EMOTIONS, *ravdess.OTHERS), ravdess.SENTENCES):
        name = f"03-01-{emotion}-01-{sentence}-01-{actor:02d}{'.flac' if actor % 2 else '.wav'}"
        write_sound(root / folders.format(actor) / name, tone(0.05))
    return root


def write_librispeech(root, n_speakers=12):
    """The official layout, two sentences a speaker; without phones."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "SPEAKERS.TXT").write_text("; ID | SEX | SUBSET | MINUTES | NAME\n")
    for number in range(100, 100 + n_speakers):
        folder = root / ("train-clean-100" if number % 3 else "test-clean") / str(number) / "1240"
        names = [f"{number}-1240-{place:04d}" for place in range(2)]
        for name in names:
            write_sound(folder / f"{name}.flac")
        lines = [f"{name} SO LONG AND {name[-1]} THANKS {number}" for name in names]
        (folder / f"{number}-1240.trans.txt").write_text("\n".join(lines) + "\n")
    return root


def write_slurp(root, n_speakers=20, actions=("set", "query", "remove")):
    """As in SLURP, divided by text: every speaker is in every part."""
    metadata = {}
    (root / "dataset" / "slurp").mkdir(parents=True, exist_ok=True)
    for part, name in slurp.FILES.items():
        lines = []
        for action in actions:
            files = [f"audio-{part}-{action}-{speaker}.flac" for speaker in range(n_speakers)]
            for file in files:
                write_sound(root / "audio" / "slurp_real" / file, tone(0.05))
            entry = {"slurp_id": f"{part}{action}", "sentence": "wake me", "scenario": "alarm", "action": action}
            lines.append(json.dumps({**entry, "recordings": [{"file": file, "wer": 0.0} for file in files]}))
            heard = {file: {"usrid": f"FO-{speaker}"} for speaker, file in enumerate(files)}
            metadata[f"{part}{action}"] = {"recordings": heard}
        (root / "dataset" / "slurp" / name).write_text("\n".join(lines))
    (root / "dataset" / "slurp" / "metadata.json").write_text(json.dumps(metadata))
    return root


def write_aligned(root, n_speakers=12):
    lines = []
    for number in range(n_speakers):
        write_sound(root / f"{number}.flac")
        phones = [["SIL", 0.0, 0.05], ["AH0", 0.05, 0.1], ["T", 0.1, 0.2]]
        said = {"text": f"text {number}", "phones": phones, "label": "odd" if number % 2 else "even"}
        lines.append({"file": f"{number}.flac", "speaker": f"s{number}", **said})
    (root / "alignments.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root
