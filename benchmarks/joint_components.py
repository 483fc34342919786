"""Which components of several listeners' responses a joint model should learn, on listeners who are in no figure.

    python benchmarks/joint_components.py [--folder data/cache/joint_components]

Three ways to targets that all listeners share, each found in the training stories: principal components of all
responses on the common cortex, the same map for everybody; the shared response model (Chen et al. 2015), an orthogonal
map for each listener; generalised canonical analysis (MAXVAR, Kettenring 1971), time courses that each listener's
principal components agree on. Through each, a ridge head on the untuned model predicts every listener's own responses
to the validation stories, its penalty chosen there. `share` is the squared error as a share of predicting the mean.
Writes `benchmarks/results/joint_components.csv` and `.md`.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from braintuning.backbone.precision import autocast
from braintuning.datasets import open_dataset
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.check import make_listeners
from braintuning.pipeline.steps import pretrained
from braintuning.pipeline.tune import learning_material
from braintuning.results import save_table
from braintuning.study import Study, load_study
from braintuning.tuning.batches import CLIPS_AT_ONCE, loader, samples_of
from braintuning.tuning.components import principal_components, shared_components
from braintuning.tuning.heads import ridge_head
from braintuning.tuning.model import TunedModel
from measuring import RESULTS, save_page
from torch.utils.data import BatchSampler

NUMBERS = (5, 10, 20, 40)
ROUNDS = 20
Maps = list[np.ndarray]
"""Of each listener, (components, points): shared time courses to responses."""


def by_principal_components(responses: list[np.ndarray], n: int) -> tuple[np.ndarray, Maps]:
    """Mean time courses, (TRs, n), of components of all listeners, and their map."""
    maps = principal_components(np.concatenate(responses), n).maps
    return np.mean([of_one @ maps.T for of_one in responses], axis=0), [maps] * len(responses)


def by_shared_responses(responses: list[np.ndarray], n: int) -> tuple[np.ndarray, Maps]:
    """Deterministic shared response model: alternates between orthogonal maps and their mean time courses."""
    shared, _ = by_principal_components(responses, n)
    for _ in range(ROUNDS):
        maps = []
        for of_one in responses:
            left, _, right = np.linalg.svd(shared.T @ of_one, full_matrices=False)
            maps.append(left @ right)
        shared = np.mean([of_one @ of_map.T for of_one, of_map in zip(responses, maps, strict=True)], axis=0)
    return shared, maps


def by_canonical_analysis(responses: list[np.ndarray], n: int) -> tuple[np.ndarray, Maps]:
    """Mean scores of the components that joint tuning learns, and each listener's map."""
    onto = shared_components(responses, n).onto
    scores = [of_one @ of_map for of_one, of_map in zip(responses, onto, strict=True)]
    return np.mean(scores, axis=0), [np.linalg.pinv(of_map) for of_map in onto]


WAYS = {
    "principal components": by_principal_components,
    "shared responses": by_shared_responses,
    "canonical analysis": by_canonical_analysis,
}


def study_of(folder: Path) -> Study:
    """Three listeners of the kind that the demo has."""
    folder.mkdir(parents=True, exist_ok=True)
    simulation = {"seed": 12, "points_per_hemisphere": 3000}
    together = ["SIM41", "SIM42", "SIM43"]
    changes = {
        "name": "joint-components",
        "extends": "choose-tuning",
        "dataset": {"root": str(folder.absolute() / "listeners"), "simulation": simulation},
        "participants": together,
        "tuned_together": together,
        "conditions": ["pretrained", "multi-brain-tuned"],
    }
    path = folder / "joint-components.yaml"
    path.write_text(yaml.safe_dump(changes))
    return load_study(path)


def states_and_responses(study: Study) -> list[tuple[torch.Tensor, list[np.ndarray]]]:
    """Of the training and of the validation stories: pooled states, (TRs, dim), and each listener's responses."""
    run = next(run for run in study.runs() if run.condition == "multi-brain-tuned")
    model, settings, found = None, study.tuning, []
    for stories in learning_material(study, run, open_dataset(study)):
        of_each = [np.concatenate(parts) for parts in zip(*(story.of_each for story in stories.values()), strict=True)]
        model = model or TunedModel(pretrained(study, run), of_each[0].shape[1], settings).eval()
        load = loader(model, stories, settings)
        with torch.no_grad(), autocast("cpu"):
            batches = BatchSampler(samples_of(stories, settings), CLIPS_AT_ONCE, drop_last=False)
            found.append((torch.cat([model.pooled(load(batch)[0]).float() for batch in batches]), of_each))
    return found


def main() -> None:
    """Measure every way and number of components."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data/cache/joint_components"))
    given = parser.parse_args()
    os.environ["BRAINTUNING_RESULTS"] = str(given.folder.absolute() / "results")
    study = study_of(given.folder)
    make_listeners(study)
    for participant in study.participants:
        measure_ceiling(study, participant)
    (states, train), (held_out_states, held_out) = states_and_responses(study)
    rows = []
    for way, find in WAYS.items():
        for n in NUMBERS:
            shared, maps = find(train, n)
            for participant, of_map, truth in zip(study.participants, maps, held_out, strict=True):
                rows.append((way, n, participant, share(states, shared, held_out_states, of_map, truth)))
    table = pd.DataFrame(rows, columns=["way", "components", "participant", "share"])
    save_table(RESULTS / "joint_components.csv", table.round(5))
    wide = table.pivot_table(index="way", columns="components", values="share", sort=False).round(4).reset_index()
    about = (
        "Squared error of held-out responses as a share of predicting the mean, averaged over three simulated listeners"
    )
    save_page(RESULTS / "joint_components.md", about, wide.columns, wide.itertuples(index=False))
    print(wide.to_string(index=False))


def share(
    states: torch.Tensor, shared: np.ndarray, held_out_states: torch.Tensor, of_map: np.ndarray, truth: np.ndarray
) -> float:
    """Error of a listener's held-out responses predicted through shared time courses, as a share of the mean's."""
    onto = truth @ np.linalg.pinv(of_map)
    head = ridge_head(states, torch.from_numpy(shared), held_out_states, torch.from_numpy(onto))
    predicted = (held_out_states @ head.weight.T + head.bias).numpy() @ of_map
    return float(np.square(truth - predicted).mean() / np.square(truth).mean())


if __name__ == "__main__":
    main()
