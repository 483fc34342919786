import base64
import gzip
import json
import re

import chromium
import numpy as np
import pytest
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr, mesh_adjacency
from braintuning.cortex.viewer import coloured, name_places, write_viewer
from braintuning.errors import InputError

N = 64984
LEFT = np.arange(N) < 32492
TYPES = {"f4": np.float32, "i4": np.int32, "u1": np.uint8}


def planted():
    """0.9 in the late language regions of the left hemisphere, NaN in A1, 0.05 elsewhere."""
    found = np.where(members(hcp_mmp_labels(), "late_language") & LEFT, 0.9, 0.05)
    return np.where(hcp_mmp_labels() == "A1", np.nan, found)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a study") / "viewer"
    folder.mkdir()
    (folder / "old.txt").write_text("left over")
    maps = {("P1", "pretrained", 0): 0.3 * planted(), ("P1", "brain-tuned", 0): planted()}
    maps |= {("P1", "brain-tuned", 1): np.full(N, 0.02), ("P2", "brain-tuned", 0): np.full(N, np.nan)}
    opacity = {"P1": np.where(LEFT, 1.0, 0.0), "P2": np.ones(N)}
    look = {"title": "Planted </script> & <b>, ARRAYS", "unit": "alignment", "note": "small print"}
    return write_viewer(folder, maps, **look, opacity=opacity, first=("P1", "brain-tuned", 0))


@pytest.fixture(scope="module")
def content(page):
    """What the page holds: facts, and arrays by name."""
    text = page.read_text()
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])
    packed = re.search(r'id="arrays">(.*?)</script>', text, re.DOTALL)[1]
    whole = gzip.decompress(base64.b64decode(packed))
    arrays = {n: np.frombuffer(whole, TYPES[t], size, start) for n, (t, start, size) in facts["arrays"].items()}
    return facts, arrays


def test_the_page_is_alone_and_asks_for_nothing(page):
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    text = page.read_text()
    assert "<title>Planted &lt;/script&gt; &amp; &lt;b&gt;, ARRAYS</title>" in text
    assert page.stat().st_size < 6_000_000
    assert not re.search(r"https?://|<link[^>]*href=\"(?!data:)|\bsrc=", text)


def test_the_maps_are_there_to_half_a_step(content):
    facts, arrays = content
    assert [menu["options"] for menu in facts["menus"]] == [["P1", "P2"], ["pretrained", "brain-tuned"], [0, 1]]
    assert [menu["first"] for menu in facts["menus"]] == ["P1", "brain-tuned", 0]
    low, high = facts["range"]
    stored = arrays[facts["maps"]["P1|brain-tuned|0"]]
    np.testing.assert_array_equal(stored == 0, np.isnan(planted()))
    read = low + (stored - 1.0) / 254 * (high - low)
    known = ~np.isnan(planted())
    np.testing.assert_allclose(read[known], planted()[known], atol=(high - low) / 500)
    assert not arrays[facts["maps"]["P2|brain-tuned|0"]].any()
    np.testing.assert_array_equal(arrays[facts["opacity"]["P1"]], np.where(LEFT, 255, 0))


def test_the_meshes_are_those_of_the_surface(content):
    _, arrays = content
    faces = arrays["faces"].reshape(-1, 3)
    np.testing.assert_array_equal(faces[: len(fs_lr().inflated["left"][1])], fs_lr().inflated["left"][1])
    np.testing.assert_array_equal(faces[-1], fs_lr().inflated["right"][1][-1] + 32492)
    np.testing.assert_array_equal(arrays["flat_faces"].reshape(-1, 3), fs_lr().flat_faces)
    flat, inflated = arrays["flat"].reshape(-1, 3), arrays["inflated"].reshape(-1, 3)
    on_flat = np.unique(fs_lr().flat_faces)
    np.testing.assert_allclose(
        np.ptp(flat[on_flat], axis=0)[[0, 2]], np.ptp(fs_lr().flat_coordinates[on_flat], axis=0), atol=0.02
    )
    assert inflated[LEFT, 0].max() + 5.9 < inflated[~LEFT, 0].min()


def test_an_outline_lies_where_a_region_ends(content):
    _, arrays = content
    masks = np.concatenate([arrays["masksA"].reshape(N, 4), arrays["masksB"].reshape(N, 4)], axis=1) / 255
    named = np.isin(hcp_mmp_labels(), GROUPS["late_language"] + GROUPS["early_auditory"])
    faces = np.concatenate([fs_lr().inflated["left"][1], fs_lr().inflated["right"][1] + 32492])
    others = mesh_adjacency(faces, N) @ (~named).astype(float) > 0
    deep = named & ~others
    assert (masks.max(axis=1)[deep] > 0.5).mean() > 0.97
    far = ~named & (mesh_adjacency(faces, N) @ named.astype(float) == 0)
    assert masks[far].max() < 0.5


def test_neighbouring_regions_have_different_channels():
    labels, regions = hcp_mmp_labels(), [*GROUPS["late_language"], *GROUPS["early_auditory"]]
    channel = dict(zip(regions, coloured(fs_lr(), labels, regions), strict=True))
    faces = np.concatenate([fs_lr().inflated["left"][1], fs_lr().inflated["right"][1] + 32492])
    pairs = {(a, b) for face in labels[faces] for a in face for b in face if a != b and a in channel and b in channel}
    assert len(pairs) > 40
    assert all(channel[a] != channel[b] for a, b in pairs)


def test_names_stand_in_their_regions():
    found = name_places(fs_lr())
    assert all(hcp_mmp_labels()[vertex] == region for region, vertex in found)
    assert len(found) == 2 * len({*GROUPS["late_language"], *GROUPS["early_auditory"]})


def test_bad_maps_are_named(tmp_path):
    look = {"title": "t", "unit": "r"}
    with pytest.raises(InputError, match="found no map, expected at least one of 64984 vertices"):
        write_viewer(tmp_path / "viewer", {}, **look)
    with pytest.raises(
        InputError, match=r"map P1 pretrained 0 on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"
    ):
        write_viewer(tmp_path / "viewer", {("P1", "pretrained", 0): np.zeros(59412)}, **look)
    with pytest.raises(InputError, match="all values of its maps are NaN"):
        write_viewer(tmp_path / "viewer", {("P1", "pretrained", 0): np.full(N, np.nan)}, **look)
    assert not list(tmp_path.iterdir())


def warm(page):
    """Pixels of the brain with a warm colour, as values of .9 have."""
    image = page.screenshot().astype(int)[110:-70]
    return (image[..., 0] - image[..., 2] > 60) & (image[..., 0] > 160)


def still(page):
    return page.evaluate("state.shape === state.wanted && !pending && drawn")


def test_a_browser_shows_colours_where_the_data_are_and_reads_a_value(page, tmp_path):
    """As a file, without a server."""
    with chromium.page(tmp_path) as shown:
        shown.open(page.as_uri())
        chromium.wait_for(lambda: shown.evaluate("window.ready"), 90)
        assert "Planted </script> & <b>: P1, brain-tuned, layer 0" == shown.evaluate("$('title').textContent")
        shown.evaluate("state.names = false; document.querySelectorAll('[data-group=shape]')[2].click()")
        chromium.wait_for(lambda: still(shown), 60)
        flat = warm(shown)
        middle = flat.shape[1] // 2
        assert flat[:, :middle].sum() > 1000 and flat[:, middle:].sum() < 0.02 * flat.sum()
        vertex = int(np.flatnonzero((hcp_mmp_labels() == "PGi") & LEFT)[100])
        place = "{clientX: x / devicePixelRatio, clientY: y / devicePixelRatio}"
        script = f"const [x, y] = position({vertex}); read({place}); return $('found').textContent"
        said = shown.evaluate(f"(() => {{ {script} }})()")
        assert re.fullmatch(r"\w+ \(left\): 0\.9\d\d|PG\w \(left\): 0\.89\d", said), said
        shown.evaluate("$('layer').value = '1'; $('layer').onchange()")
        chromium.wait_for(lambda: still(shown), 60)
        assert warm(shown).sum() < 0.1 * flat.sum()
        shown.evaluate(
            "$('layer').value = '0'; $('layer').onchange(); $('minus').value = 'pretrained'; $('minus').onchange()"
        )
        assert shown.evaluate("$('label').textContent") == "alignment, brain-tuned minus pretrained"
        shown.evaluate("$('layer').value = '1'; $('layer').onchange()")
        assert shown.evaluate("$('note').textContent") == "this combination was not measured"
        asked = "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:'))"
        assert shown.evaluate(f"{asked}.length") == 0
