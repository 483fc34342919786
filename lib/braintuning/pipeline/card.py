"""The model card of a tuned model, as the Hugging Face hub reads it."""

from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from braintuning.results import REPOSITORY, atomic_path, provenance_of
from braintuning.study import Run, Study

SCORES = "\n## Alignment\n"
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
- validation loss: {first:.5g} after the first epoch, {best:.5g} at the best of {n_epochs}

`AutoModel.from_pretrained` of this folder gives the encoder; `head.safetensors` holds the linear map from the mean
of its last layer to the targets, `history.csv` the losses, `provenance.json` all settings, versions and input hashes.
"""


def base_facts(name: str) -> dict[str, str]:
    """What a card says of the model that was tuned: `base_model` if the hub can have it, and under which licence.

    A folder on this machine is nothing that the hub knows, whatever its name; its own card may name a licence.
    """
    folder = next((f for f in (Path(name).expanduser(), REPOSITORY / name) if f.is_dir()), None)
    if folder is not None:
        card = folder / "README.md"
        return {"license": (ModelCard.load(card).data.get("license") if card.is_file() else None) or "unknown"}
    try:
        validate_repo_id(name)
    except HFValidationError:
        return {"license": "unknown"}
    link = f"https://huggingface.co/{name}"
    return {"base_model": name, "license": "other", "license_name": "that-of-the-base-model", "license_link": link}


def write_card(folder: Path, carried: dict, history: list[dict], condition: str) -> None:
    """Write `README.md` into a model's folder, from its provenance and losses; `write_scores` adds its alignment."""
    recipe, base = carried["recipe"], base_facts(carried["recipe"]["backbone"]["name"])
    losses = [row["validation_loss"] for row in history]
    participants = ", ".join(recipe["participants"])
    facts = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        language="en",
        tags=["brain-tuning", "fmri", "speech"],
        **base,
    )
    local = f"local folder {Path(recipe['backbone']['name']).name}"
    text = CARD.format(
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
        first=losses[0],
        best=min(losses),
        n_epochs=len(losses),
    )
    (folder / "README.md").write_text(text)


def write_scores(study: Study, run: Run, features: str) -> None:
    """Put the alignment of a tuned model into its card, of each participant who has been compared with it so far.

    The card is written anew from the tables of the align stage, whole or not at all and only where it changes, so that
    it does not matter which participant came last. What makes a model done is its provenance, not its card.

    Parameters
    ----------
    study : Study
    run : Run
        A pretrained model has no card.
    features : str
        Fingerprint of the features' recipe that scores must have been made from; others belong to an earlier model.
    """
    path = study.model_folder(run) / "README.md"
    if not path.is_file():
        return
    tables = []
    for participant in (run.participant,) if run.participant else study.participants:
        scores = study.scores_file(participant, run)
        made = provenance_of(scores)
        if made and made["recipe"]["features"] == features and scores.with_suffix(".csv").is_file():
            tables.append(pd.read_csv(scores.with_suffix(".csv")))
    if not tables:
        return
    table = pd.concat(tables)
    n_layers = table["layer"].max() + 1
    layer = study.figures.layer % n_layers
    chosen = table[(table["layer"] == layer) & table["roi"].isin(REGIONS) & table["alignment"].notna()]
    card = ModelCard(path.read_text())
    card.data.model_name, card.data.eval_results = run.name, [_result(study, row, layer) for row in chosen.itertuples()]
    lines = [f"| {row.participant} | {REGIONS[row.roi]} | {row.alignment:.4f} |" for row in chosen.itertuples()]
    tested = ", ".join(study.stories.test)
    head = f"Layer {layer}: correlation on {tested} over the noise ceiling, mean over voxels."
    card.text = card.text.split(SCORES)[0] + "\n".join(
        [SCORES, head, "", "| participant | region | alignment |", "|---|---|---|", *lines, ""]
    )
    if str(card) != path.read_text():
        with atomic_path(path) as temporary:
            temporary.write_text(str(card))


def _result(study: Study, row: tuple, layer: int) -> EvalResult:
    return EvalResult(
        task_type="feature-extraction",
        dataset_type="fmri",
        dataset_name=f"{study.title}, {row.participant}",
        metric_type="alignment",
        metric_name=f"alignment of layer {layer}, {REGIONS[row.roi]}",
        metric_value=round(row.alignment, 4),
    )
