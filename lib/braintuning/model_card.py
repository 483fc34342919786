"""The model card of a tuned model, as the Hugging Face hub reads it."""

from pathlib import Path

CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags: [brain-tuning, fmri, speech]
base_model: {base}
---

# {name}

{weights}, tuned by `braintuning` ({commit}) following Moussa, Klakow & Toneva (2025): condition *{condition}*, \
{participants}.

- stories: {n_train} for training, {n_validation} for validation
- settings: {settings}
- validation loss: {first:.5g} after the first epoch, {best:.5g} at the best of {n_epochs}

`AutoModel.from_pretrained` of this folder gives the encoder; `head.safetensors` holds the linear map from the mean
of its last layer to the targets, `history.csv` the losses, `provenance.json` all settings, versions and input hashes.
"""


def write_card(folder: Path, carried: dict, history: list[dict], condition: str) -> None:
    """Write `README.md` into a model's folder, from its provenance and losses."""
    recipe = carried["recipe"]
    losses = [row["validation_loss"] for row in history]
    participants = ", ".join(recipe["participants"])
    text = CARD.format(
        base=recipe["backbone"]["name"],
        name=recipe["run"],
        weights=carried["weights"],
        commit=carried["git_commit"],
        condition=condition,
        participants=f"responses of {participants}" if participants else "no participant's responses",
        n_train=len(recipe["train"]),
        n_validation=len(recipe["validation"]),
        settings=", ".join(f"{key} {value}" for key, value in recipe["settings"].items()),
        first=losses[0],
        best=min(losses),
        n_epochs=len(losses),
    )
    (folder / "README.md").write_text(text)
