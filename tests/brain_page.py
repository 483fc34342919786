"""The front of `explore` on a page of its own, with a model that holds traits in place of a kernel."""

import base64
import json
import shutil
from pathlib import Path

from braintuning.explore import widget

PAGE = """<!doctype html><meta charset="utf-8"><title>brain</title>
<link rel="stylesheet" href="brain.css"><div id="el"></div>
<script type="module">
import brain from "./brain.js";
const state = await (await fetch("traits.json")).json(), heard = {};
for (const name of ["image", "sound"]) {
  const bytes = Uint8Array.from(atob(state[name]), (c) => c.charCodeAt(0));
  state[name] = new DataView(bytes.buffer);
}
window.model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; (heard["change:" + name] || []).forEach((f) => f()); },
  on: (event, f) => { (heard[event] ||= []).push(f); },
  save_changes: () => { window.saved = state.clicked; },
};
brain.render({ model: window.model, el: document.getElementById("el") });
window.ready = true;
</script>"""


def write_page(folder: Path, brain: "widget.Brain") -> Path:
    """Write the page with what a widget shows; it needs a web server, since modules are not loaded from files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("brain.js", "brain.css"):
        shutil.copy(Path(widget.__file__).with_name(name), folder)
    names = ("title", "image", "outlines", "chosen", "scale", "scores", "course", "sound", "note", "clicked")
    traits = {name: getattr(brain, name) for name in names}
    traits |= {name: base64.b64encode(traits[name]).decode() for name in ("image", "sound")}
    (folder / "traits.json").write_text(json.dumps(traits))
    (folder / "index.html").write_text(PAGE)
    return folder / "index.html"
