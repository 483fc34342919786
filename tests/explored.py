"""The panel of `explore` used as a person would, in JupyterLab: choose, click, and see the picture change."""

import chromium
import numpy as np
from braintuning.cortex.raster import view_image
from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.cortex.surface import fs_lr

WATCH = """(() => {
  const image = document.querySelector('.bt-map img');
  window.changed = null;
  const began = performance.now();
  const watcher = new MutationObserver(() => { window.changed = performance.now() - began; watcher.disconnect(); });
  watcher.observe(image, { attributes: true, attributeFilter: ['src'] });
  watcher.observe(document.querySelector('.bt-map .chosen'), { attributes: true });
})()"""
SELECT = """[...document.querySelectorAll('.jupyter-widgets')].find(
  (one) => one.querySelector('label')?.textContent === '{}').querySelector('select')"""


def box(page, name):
    """Left, top, width and height of an element, once it has been brought into view."""
    script = f"const e = document.querySelector({name!r}); e.scrollIntoView({{block: 'center'}})"
    script += "; const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    return page.evaluate(f"(() => {{ {script} }})()")


def pixel_of(region):
    """Where a region of the left hemisphere lies on the flat map of fs_LR, from its left and top, as shares of it."""
    image = view_image(fs_lr())
    inside = (image.vertex >= 0) & (hcp_mmp_labels() == region)[image.vertex] & (image.vertex < 32492)
    rows, columns = np.nonzero(inside)
    k = (np.abs(rows - rows.mean()) + np.abs(columns - columns.mean())).argmin()
    return (columns[k] + 0.5) / inside.shape[1], 1 - (rows[k] + 0.5) / inside.shape[0]


def menu(page, name):
    """What a menu of the panel offers."""
    return page.evaluate(f"[...{SELECT.format(name)}.options].map((one) => one.value)")


def choose(page, name, option):
    """Choose from a menu; seconds until the picture has changed."""
    page.evaluate(WATCH)
    script = f"const s = {SELECT.format(name)}; s.value = {option!r}"
    page.evaluate(f"(() => {{ {script}; s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()")
    return chromium.wait_for(lambda: page.evaluate("window.changed"), 120) / 1000


def click_map(page, across, down):
    """Click the map at shares of its width and height; seconds until the place there has been marked."""
    left, top, width, height = box(page, ".bt-map img")
    page.evaluate(WATCH)
    page.click(left + across * width, top + down * height)
    return chromium.wait_for(lambda: page.evaluate("window.changed"), 120) / 1000


def text(page, name):
    """What stands in an element."""
    return page.evaluate(f"document.querySelector({name!r})?.textContent")


def settled(page):
    """Wait until the panel says that it has drawn everything."""
    return chromium.wait_for(lambda: (text(page, ".bt-note") or "").startswith(("drawn in", "Groups of")), 300)


PIXELS = """(() => {
  const image = document.querySelector('.bt-map img'), pen = document.createElement('canvas').getContext('2d');
  if (!image.complete) return null;
  pen.drawImage(image, 0, 0, 300, 150);
  return [...pen.getImageData(0, 0, 300, 150).data];
})()"""


def shown(page):
    """Pixels of the map, (rows, columns, 4), once it has been decoded."""
    return np.array(chromium.wait_for(lambda: page.evaluate(PIXELS), 60)).reshape(150, 300, 4)


def try_everything(page, expected_conditions):
    """Choose, click, listen and choose another study; seconds of each change of the picture."""
    chromium.wait_for(lambda: page.evaluate("document.querySelector('.bt-map img')?.naturalWidth"), 600)
    settled(page)
    assert menu(page, "condition") == expected_conditions
    first, seconds = shown(page), []
    assert "brain-tuned" in text(page, ".bt-head")
    for condition in ("random-brain-tuned", "brain-tuned", "random-brain-tuned"):
        seconds.append(choose(page, "condition", condition))
        settled(page)
    assert (shown(page) != first).any(axis=-1).mean() > 0.001
    assert ", random-brain-tuned," in text(page, ".bt-head")
    seconds.append(choose(page, "minus", "brain-tuned"))
    settled(page)
    assert "random-brain-tuned minus brain-tuned" in text(page, ".bt-scale")
    before = page.evaluate("document.querySelector('.bt-map .chosen').getAttribute('d')")
    seconds.append(click_map(page, *pixel_of("A1")))
    settled(page)
    assert page.evaluate("document.querySelector('.bt-map .chosen').getAttribute('d')") != before
    named = text(page, ".bt-side text")
    assert named == "alignment of A1 (left)"
    assert page.evaluate("document.querySelectorAll('.bt-course polyline').length") == 3 + 4
    left, top, width, _ = box(page, ".bt-course svg")
    page.click(left + 0.5 * width, top + 20)
    chromium.wait_for(lambda: page.evaluate("document.querySelector('.bt-sound audio').currentTime > 1"), 60)
    assert page.evaluate("document.querySelectorAll('.bt-words text').length") > 3
    page.evaluate("document.querySelector('.bt-sound audio').pause()")
    seconds.append(choose(page, "study", "demo-full"))
    settled(page)
    assert "lm-tuned" in menu(page, "condition") and text(page, ".bt-note").startswith("Groups of regions")
    return np.array(seconds)
