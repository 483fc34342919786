"""The folder of a tuned model, and its card as the Hugging Face hub reads it."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors.torch import save_file

from braintuning.backbone.weights import local_folder
from braintuning.pipeline.recipes import aim_of
from braintuning.results import atomic_path, provenance_of
from braintuning.study import Run, Study
from braintuning.tuning.model import Model, compared, learnt

REGIONS = {"late_language": "late language regions", "primary_auditory": "primary auditory cortex"}
CARD = """---
{facts}
---

# {name}

{weights}, tuned by `braintuning` ({commit}) following Moussa, Klakow & Toneva (2025): condition *{condition}*, \
{participants}.

- dataset: {dataset}
- stories: {train} for training, {validation} for validation
- settings: {settings}
- validation loss: {loss}

`AutoModel.from_pretrained` of this folder gives the encoder; `head.safetensors` holds the linear map to the targets \
from its last layer, averaged over a clip (weights `pooling`, by seconds before its end), `history.csv` the losses \
(epoch 0 before tuning), `provenance.json` all settings, versions and input hashes.
"""


def base_facts(name: str) -> dict[str, str]:
    """What a card says of the model that was tuned: `base_model` if the hub can have it, and under which licence.

    A folder on this machine is nothing that the hub knows, whatever its name; its own card may name a licence.
    """
    if folder := local_folder(name):
        card = folder / "README.md"
        return {"license": (ModelCard.load(card).data.get("license") if card.is_file() else None) or "unknown"}
    try:
        validate_repo_id(name)
    except HFValidationError:
        return {"license": "unknown"}
    link = f"https://huggingface.co/{name}"
    return {"base_model": name, "license": "other", "license_name": "that-of-the-base-model", "license_link": link}


def card_text(carried: dict, history: list[dict], condition: str) -> str:
    """The card of a model, from its provenance and losses; `add_scores` adds its alignment."""
    recipe, base = carried["recipe"], base_facts(carried["recipe"]["backbone"]["name"])
    participants = ", ".join(recipe["participants"])
    facts = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        language="en",
        tags=["brain-tuning", "fmri", "speech"],
        **base,
    )
    local = f"local folder {Path(recipe['backbone']['name']).name}"
    return CARD.format(
        facts=facts.to_yaml(),
        name=recipe["run"],
        weights=carried["weights"] if "base_model" in base else local,
        commit=carried["git_commit"],
        condition=condition,
        participants=f"responses of {participants}" if participants else "no participant's responses",
        dataset=carried.get("dataset", "not named"),
        train=", ".join(recipe["train"]),
        validation=", ".join(recipe["validation"]),
        settings=", ".join(f"{key} {value}" for key, value in recipe["settings"].items()),
        loss=loss_in_words(history, condition),
    )


def loss_in_words(history: list[dict], condition: str) -> str:
    """What tuning made of the loss that epochs are compared by, and whose weights were kept; of `brain_tune`."""
    untuned, *tuned = compared(history)
    aim, mean = aim_of(condition), history[0]["mean_loss"]
    best = max(tuned) if aim == "remove" else min(tuned)
    before = "the untuned model" if condition == "stimulus-tuned" else "predicting the mean"
    if untuned == history[0]["fitted_loss"]:
        before = f"a ridge head on the untuned model, itself {untuned / mean:.2%} of that of predicting the mean"
    found = f"{best:.5g} at epoch {1 + tuned.index(best)} of {len(tuned)}, {best / untuned:.2%} of that of {before}"
    lowest = history[0].get("lowest_loss")
    if lowest is not None and math.isfinite(lowest):
        found += f"; a perfect model would have {lowest:.5g}"
    if aim == "remove" or learnt(history):
        return found
    kept = "that epoch's, as those of a control" if aim == "control" else "the untuned model's"
    return f"{found}: it **did not learn**; the weights are {kept}"


def save_model(
    path: Path, model: Model, columns: np.ndarray, history: list[dict], carried: dict, condition: str
) -> None:
    """Write a tuned model as a folder that plain transformers loads, with head, losses, provenance and card."""
    with atomic_path(path) as folder:
        model.cpu().encoder.save_pretrained(folder)
        head = {name: tensor.detach().contiguous() for name, tensor in model.head.state_dict().items()}
        pooling = {"pooling": model.pooling.kernel.detach()} if hasattr(model, "pooling") else {}
        save_file({**head, **pooling, "voxels": torch.from_numpy(columns)}, folder / "head.safetensors")
        table = pd.DataFrame(history)
        losses = np.array(compared(history))
        table.assign(share_of_untuned=losses / losses[0]).to_csv(folder / "history.csv", index=False)
        (folder / "provenance.json").write_text(json.dumps(carried, indent=1, default=str))
        (folder / "README.md").write_text(card_text(carried, history, condition))


def add_scores(study: Study, run: Run) -> Path:
    """Step: the card of a tuned model with its alignment with each participant in it; the path of the card."""
    from braintuning.figures.tables import read_tables  # matplotlib takes seconds

    folder = study.model_folder(run)
    carried, history = provenance_of(folder), pd.read_csv(folder / "history.csv").to_dict("records")
    table = read_tables(study.scores_file(*one) for one in study.alignments([run]))
    layer = study.figures.layer % (table["layer"].max() + 1)
    chosen = table[(table["layer"] == layer) & table["roi"].isin(REGIONS) & table["alignment"].notna()]
    card = ModelCard(card_text(carried, history, study.base(run.condition)))
    card.data.model_name = run.name
    card.data.eval_results = [
        EvalResult(
            task_type="feature-extraction",
            dataset_type="fmri",
            dataset_name=f"{study.title}, {row.participant}",
            metric_type="alignment",
            metric_name=f"alignment of layer {layer}, {REGIONS[row.roi]}",
            metric_value=round(row.alignment, 4),
        )
        for row in chosen.itertuples()
    ]
    lines = [f"| {row.participant} | {REGIONS[row.roi]} | {row.alignment:.4f} |" for row in chosen.itertuples()]
    head = f"Layer {layer}: correlation on {', '.join(study.stories.test)} over the noise ceiling, mean over voxels."
    card.text += "\n".join(
        ["\n## Alignment\n", head, "", "| participant | region | alignment |", "|---|---|---|", *lines, ""]
    )
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(str(card))
    return folder / "README.md"
