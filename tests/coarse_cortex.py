"""The simulation on a cortex of few vertices, so that tests of it are quick."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from braintuning.cortex import subject as cortex
from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.demo import dataset as simulated
from braintuning.demo import listeners, noise, stories
from braintuning.demo.voices import speak
from scipy.spatial import ConvexHull, cKDTree

VERTICES_PER_HEMISPHERE, DEGREES = 700, 8.0


def fibonacci_sphere(n):
    """Points spread evenly over a sphere of 100 mm, and the triangles between them."""
    height = 1 - (2 * np.arange(n) + 1) / n
    turn = np.pi * (1 + np.sqrt(5)) * np.arange(n)
    points = np.stack([np.cos(turn), np.sin(turn), np.zeros(n)], axis=1) * np.sqrt(1 - height**2)[:, None]
    points = 100 * (points + np.outer(height, [0, 0, 1]))
    return points, ConvexHull(points).simplices.astype(np.int64)


def coarse_surface():
    """A sphere a hemisphere, of few vertices, each with the region of the fs_LR vertex nearest to it."""
    points, faces = fibonacci_sphere(VERTICES_PER_HEMISPHERE)
    full, labels, off_the_wall = fs_lr(), [], []
    for hemisphere in ("left", "right"):
        nearest = cKDTree(full.sphere[hemisphere]).query(points)[1]
        labels.append(hcp_mmp_labels()[full.vertices(hemisphere)][nearest])
        off_the_wall.append(full.cortex[full.vertices(hemisphere)][nearest])
    n = VERTICES_PER_HEMISPHERE
    sides = {h: (points, faces) for h in ("left", "right")}
    spheres = dict.fromkeys(("left", "right"), points)
    surface = Surface("coarse", (n, n), sides, spheres, np.zeros(2 * n), np.concatenate(off_the_wall))
    return surface, np.concatenate(labels)


spoken_once = cache(speak)


@contextmanager
def simulated_on_it() -> Iterator[Surface]:
    """The simulation on a surface of 1,400 vertices and borders that move by more than a vertex.

    A story is spoken once by a voice, however many listeners hear it.
    """
    surface, labels = coarse_surface()
    with pytest.MonkeyPatch.context() as patch:
        for module in (listeners, noise, simulated, cortex):
            patch.setattr(module, "fs_lr", lambda: surface)
        for module in (listeners, cortex):
            patch.setattr(module, "hcp_mmp_labels", lambda: labels)
        patch.setattr(simulated, "speak", spoken_once)
        patch.setattr(noise, "middle_surface", surface.inflated.__getitem__)
        patch.setattr(listeners, "BORDER_SHIFT_DEGREES", DEGREES)
        caches = listeners._neighbour_average, stories.word_vectors, cortex.fs_lr_cortex_of_vertices
        caches += (cortex.fs_lr_cortex_of_points, noise.smoothing)
        for cached in caches:
            cached.cache_clear()
        yield surface
    for cached in caches:
        cached.cache_clear()
