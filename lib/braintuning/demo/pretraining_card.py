"""Cards of the small models: what they heard, how they learnt, what they know of phones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from braintuning.demo.pretraining import Pretraining
from braintuning.results import atomic_path

LOG_ROWS = 100
LEARNT = {
    "hubert": "masked prediction of k-means units (Hsu et al. 2021), first of MFCCs, then of its layer {unit_layer}",
    "wav2vec2": "a first round of masked MFCC units, the same as HuBERT's and run once for both, that shapes the "
    "convolutions, then, on these, its own contrastive prediction of quantised latents (Baevski et al. 2020) in masked "
    "spans of {contrast_span} frames, 10 in the paper",
}
CARD = """---
license: mit
library_name: transformers
pipeline_tag: feature-extraction
language: en
tags: [speech, {family}, self-supervised]
---

# {name}

A {family} model of {millions:.1f} M parameters ({layers} blocks of {dim} channels, frames of 20 ms, 16 kHz), pretrained
from random weights by `braintuning` (notebook `pretrain_small`) for demonstrations without a network. It is far smaller
and has heard far less than the published models of its family: use those for science.

- Objective: {learnt}. Of a loss on units, {seen:.0%} is on frames that are not masked.
- Data: {data}
- Heard: {heard:.1f} h of sound in clips, in {minutes:.0f} min of training steps on the machine that made it.
- Weights: half precision; load them in float32.

| round | steps | first loss | last loss |
|---|---|---|---|
{rounds}

## What it knows of phones

Share of single frames that a linear probe (multinomial logistic regression on standardised states) names rightly, out
of the 39 phones of English, in speakers that neither the model nor the probe heard. Real speech: LibriSpeech (Panayotov
et al. 2015, CC BY 4.0), its phone times from forced alignment, not checked by hand. Synthesised speech: a held-out
voice telling a held-out story, its phone times exact. Layer 0 is what enters the first block. Random weights: the same
architecture, untrained.

{heading}
{rule}
{scores}

Settings: `{settings}`
"""


def write_card(
    folder: Path, settings: Pretraining, log: Sequence[Mapping[str, float]], probe: pd.DataFrame, data: str
) -> None:
    """Write `README.md`, `probe.csv` and `log.csv` beside the weights of a small model.

    Parameters
    ----------
    folder : Path
        What `save_small` wrote.
    settings : Pretraining
    log : sequence of mapping
        round, step, loss, seconds, as `pretrain` keeps them.
    probe : DataFrame
        Of `probe_table`, with a column `speech`.
    data : str
        What it was pretrained on, in a sentence.
    """
    folder, losses = Path(folder), pd.DataFrame(log)
    thin = losses.iloc[:: max(len(losses) // LOG_ROWS, 1)]
    n_parameters = sum(value.numel() for value in load_file(folder / "model.safetensors").values())
    heard = sum(settings.steps) * settings.batch_size * settings.clip_seconds / 3600
    rounds = [
        f"| {number} | {last.step:.0f} | {first.loss:.2f} | {last.loss:.2f} |"
        for number, entries in losses.groupby("round")
        for first, last in [(entries.iloc[0], entries.iloc[-1])]
    ]
    ways = probe.assign(percent=(100 * probe.accuracy).round(1)).pivot_table(
        index=["features", "layer"], columns="speech", values="percent", sort=False
    )
    heading = "| " + " | ".join(["features", "layer", *(f"{speech} speech, %" for speech in ways.columns)]) + " |"
    scores = [
        "| " + " | ".join([name, "" if layer < 0 else str(layer), *map(str, row)]) + " |"
        for (name, layer), row in zip(ways.index, ways.values.tolist(), strict=True)
    ]
    text = CARD.format(
        name=folder.name, family=settings.family, layers=settings.layers, dim=settings.dim, data=data,
        millions=n_parameters / 1e6, heard=heard, minutes=losses.seconds.sum() / 60,
        settings=json.dumps(asdict(settings)),
        rounds="\n".join(rounds), heading=heading, rule="|---" * (len(ways.columns) + 2) + "|",
        scores="\n".join(scores), learnt=LEARNT[settings.family].format(**asdict(settings)),
        seen=settings.unmasked_weight,
    )  # fmt: skip
    for file, content in {
        "README.md": text,
        "probe.csv": probe.to_csv(index=False, float_format="%.4f"),
        "log.csv": thin.to_csv(index=False),
    }.items():
        with atomic_path(folder / file) as temporary:
            temporary.write_text(content, encoding="utf-8")
