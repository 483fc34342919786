"""The site builds offline without a warning, and no link in it, or in the texts that it is made of, leads nowhere."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import braintuning as bt
import measured
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "lib" / "braintuning" / "datasets" / "README.md"]
TEXTS += sorted((ROOT / "docs").glob("*.md"))
SCHEMES = ("http", "https")


class Read(HTMLParser):
    """What a page links to, what it loads, and the names in it that a link may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.loaded, self.names = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe", "source", "audio", "video") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("href") and found.get("rel") in ("stylesheet", "icon", "shortcut icon"):
            self.loaded.append(found["href"])


def broken(pages):
    """A line for each link, or thing loaded, of pages by path that is not there, or not in proper form."""
    read = {path: Read(text) for path, text in pages.items()}
    for path, page in read.items():
        for link in [*page.links, *page.loaded]:
            target = urlsplit(link)
            if target.scheme == "data" and link in page.loaded:
                continue
            if target.scheme or target.netloc:
                if link in page.loaded or target.scheme not in SCHEMES or "." not in target.netloc:
                    yield f"{path.name}: {link[:80]}"
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            names = read[file].names if file in read else None
            if not file.is_file() or (target.fragment and names is not None and unquote(target.fragment) not in names):
                yield f"{path.name}: {link}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the pages, and each page's text by its path."""
    pytest.importorskip("sphinx", reason="needs the packages of requirements-docs.lock; `make test` installs them")
    import make_site

    folder = make_site.build(tmp_path_factory.mktemp("site"))
    return folder, {path: path.read_text() for path in sorted(folder.rglob("*.html"))}


def test_detector_of_broken_links(tmp_path):
    (tmp_path / "there.csv").touch()
    good = '<p id="a"><a href="#a"><a href="two.html#b"><a href="there.csv"><a href="https://a.org"><img src="data:,">'
    bad = '<a href="#c"><a href="two.html#c"><a href="gone.html"><a href="htp://a.org"><a href="https://a">'
    bad += '<script src="https://a.org/b.js"></script><img src="gone.png">'
    (tmp_path / "one.html").touch()
    (tmp_path / "two.html").touch()
    pages = {tmp_path / "one.html": good, tmp_path / "two.html": '<p id="b">'}
    assert not list(broken(pages))
    assert len(list(broken({**pages, tmp_path / "one.html": bad}))) == 7


def test_no_link_leads_nowhere_and_nothing_is_loaded_from_another_host(site):
    folder, pages = site
    assert len(pages) > 50
    found = {line for line in broken({path.resolve(): text for path, text in pages.items()})}
    assert not found, "\n".join(sorted(found))
    styles = "".join(path.read_text() for path in folder.rglob("*.css"))
    assert not re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", styles)


def test_pages_hold_what_they_are_for(site):
    folder, pages = site
    text = {str(path.relative_to(folder)): page for path, page in pages.items()}
    assert not [name for name, page in text.items() if "table: " in page and "&lt;!--" in page]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert "xecuted" in text[f"tutorials/{notebook.stem}.html"]
    for name in bt.__all__:
        assert f'id="braintuning.{name}"' in text["reference/names.html"]
    assert "cosine_and_huber_loss" in text["reference/tuning.html"]
    for study in {path.parent.name for path in (ROOT / "figures").glob("*/*.png")}:
        assert text[f"gallery/{study}.html"].count("<img") >= len(list((ROOT / "figures" / study).glob("*.png")))
    assert "Listeners" in text["adapters.html"] and "mask_by" in text["settings.html"]
    for row in measured.rows_of("demo"):
        assert all(f"<td><p>{value}</p></td>" in text["results.html"] for value in row[1:4])


def test_an_executed_notebook_says_of_which_study_it_is(tmp_path, monkeypatch):
    import make_site

    folder = tmp_path / "results" / "real-brains" / "figures" / "notebooks"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "fig2.ipynb", folder)
    monkeypatch.setattr(make_site, "RESULTS", tmp_path / "results")
    (tmp_path / "pages").mkdir()
    make_site.tutorials(tmp_path / "pages")
    assert "*Executed for the study `real-brains`.*" in (tmp_path / "pages" / "fig2.ipynb").read_text()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        link = urlsplit(target)
        if link.scheme:
            assert link.scheme in SCHEMES and "." in link.netloc, target
        elif not target.startswith(("gallery/", "tutorials/", "reference/", "#")):
            file = (path.parent / link.path).resolve()
            assert file.is_file(), f"{path.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if link.fragment else ()
            slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not link.fragment or link.fragment in slugs, f"{path.name}: {target}"


def test_tables_in_pages_are_ones_that_can_be_made():
    for path in TEXTS:
        for function, study in re.findall(r"<!-- table: (\w+) ?([\w-]*) -->", path.read_text()):
            assert isinstance(getattr(measured, function)(*filter(None, [study])), str), path
    assert re.search(r"<!-- table: ", (ROOT / "docs" / "results.md").read_text())


def write(folder, **tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A study with two participants in figure 2, and one of ten people in `real_brains`."""
    conditions = {"pretrained": 0.2, "brain-tuned": 0.25, "random-brain-tuned": 0.1}
    rows = [
        {"participant": p, "backbone": "a", "condition": c, "layer": layer, "roi": roi, "alignment": v + shift + layer}
        for p, shift in (("P1", -0.01), ("P2", 0.01))
        for c, v in conditions.items()
        for layer in (0, 1)
        for roi in ("late_language", "primary_auditory", "early_auditory")
    ]  # fmt: skip
    change = {"backbone": "a", "reference": "pretrained", "n_participants": 1, "low": -0.5, "high": 0.5, "q": 0.01}
    changes = [
        {**change, "condition": c, "roi": roi, "participant": p, "difference": d}
        for c in ("brain-tuned", "random-brain-tuned")
        for roi in ("late_language", "primary_auditory")
        for p, d in (("P1", 0.04), ("P2", -0.06), ("all", 0.05))
    ]
    write(tmp_path / "two", fig2=rows, fig2_statistics=[{**row, "n_participants": 2} for row in changes])
    joint = {
        "pretrained": 0.1,
        "multi-brain-tuned": 0.3,
        "multi-brain-tuned, 2 seeds": 0.2,
        "multi-random-brain-tuned": 0.05,
    }
    scores = [
        {"participant": f"{people}-{i}", "people": people, "story": "s", "condition": c, "backbone": "a", "layer": 4,
         "region": region, "score": value + (people == "tuned on") + 5 * (region != "all regions")}
        for people in ("tuned on", "held out")
        for i in range(10)
        for c, value in joint.items()
        for region in ("late_language", "all regions")
    ]  # fmt: skip
    over = {"story": "s", "backbone": "a", "condition": "multi-brain-tuned, 2 seeds", "reference": "pretrained"}
    over |= {"region": "all regions", "participant": "all", "n_participants": 10, "low": 0.05, "high": 0.15}
    of_people = [
        {**over, "people": "held out", "difference": 0.1, "q": 0.01},
        {**over, "people": "tuned on", "difference": 7, "q": 0.2},
        {**over, "people": "held out", "difference": 0.15, "q": 0.2, "reference": "multi-random-brain-tuned"},
    ]
    write(tmp_path / "people", real_brains=scores, real_brains_statistics=of_people)
    monkeypatch.setattr(measured, "FIGURES", tmp_path)


def test_few_participants_are_shown_one_by_one_at_the_last_layer(planted):
    first, second = measured.rows_of("two")
    changed = "+0.040 (−0.500 to 0.500)<br>−0.060 (−0.500 to 0.500)"
    assert first == ["alignment, late language regions", "1.200", "1.250", "1.100", changed, "–"]
    assert second[0] == "alignment, primary auditory cortex"


def test_many_people_are_shown_together_by_means_over_seeds(planted):
    tuned, held_out = measured.rows_of("people")
    assert tuned[0] == "r over all regions, s, 10 people tuned on, 2 seeds" and tuned[1] == "1.100"
    assert held_out[0] == "r over all regions, s, 10 people held out, 2 seeds"
    assert held_out[1:4] == ["0.100", "0.200", "0.050"]
    assert held_out[4:] == [r"+0.100 (0.050 to 0.150) \*", "+0.150 (0.050 to 0.150)"] and tuned[5] == "–"


def test_a_study_without_tables_has_no_rows(planted):
    assert measured.rows_of("nobody") == [] and measured.minutes("nobody") == ""
    assert measured.results("nobody") == "*Tables of the study `nobody` are not in the repository yet.*"


def test_a_difference_that_is_not_defined_is_a_dash(planted, tmp_path):
    row = {"backbone": "a", "layer": 1, "roi": "late_language", "feature": "all", "removal": "every lag"}
    rows = [
        {**row, "participant": "P1", "condition": c, "r_percent": r}
        for c, r in (("pretrained", ""), ("brain-tuned", 50.0))
    ]
    change = {**row, "condition": "brain-tuned", "difference": "", "low": "", "high": ""}
    write(tmp_path / "none", fig3=rows, fig3_statistics=[change])
    (shown,) = measured.rows_of("none")
    assert shown == ["low-level impact R (removal: every lag), late language regions, %", "–", "50", "–", "–", "–"]


def test_what_keeping_changes_is_of_people_who_have_both_models_or_share_one(planted, tmp_path):
    people = [f"P{n}" for n in range(6)]
    scores = {"pretrained": 0.5, "brain-tuned": 0.75, "keeping": 1.0}
    of_each = [
        {"participant": p, "backbone": "a", "condition": c, "layer": 1, "roi": roi, "feature": "all",
         "removal": "every lag", "alignment": value + n / 64, "r_percent": 100 * value}
        for n, p in enumerate(people) for c, value in scores.items() for roi in measured.REGIONS
    ]  # fmt: skip
    shared = [row for row in of_each if row["condition"] != "pretrained" or row["participant"] == people[0]]
    shared = [{**row, "participant": "" if row["condition"] == "pretrained" else row["participant"]} for row in shared]
    of_words = [{**row, "preference": scores[row["condition"]]} for row in shared]
    of_tasks = [
        {**row, "task": "intent", "metric": "accuracy", "layer": layer, "validation": layer, "value": value / layer}
        for row in shared for layer in (1, 2) for value in [scores[row["condition"]]]
    ]  # fmt: skip
    write(tmp_path / "near", fig2=of_each, fig3=of_each, fig5=of_words, fig4=of_tasks)
    shown = {row.split(" | ")[0]: row.strip(" |").split(" | ")[1:] for row in measured.keeping("near").splitlines()[2:]}
    rise = "+0.250 (0.250 to 0.250)"
    twice = "+0.500 (0.500 to 0.500)"
    assert shown["| alignment, late language regions"] == shown["| semantic preference"] == [rise, twice, rise]
    assert shown["| low-level impact R, late language regions, %"][0] == "+25.0 (25.0 to 25.0)"
    half = "+0.125 (0.125 to 0.125)"
    assert shown["| intents, accuracy"] == [half, rise, half] and len(shown) == 5


def test_what_removal_leaves_is_of_the_pretrained_models_last_layer(planted, tmp_path):
    row = {"backbone": "a", "roi": "late_language", "feature": "power_spectrum", "removal": "every lag"}
    layers = [("pretrained", 1, 0.25), ("pretrained", 0, 9), ("brain-tuned", 1, 9)]
    columns = {"readout": 0.5, "readout_chance": 0.125}
    rows = [{**row, **columns, "condition": c, "layer": n, "readout_removed": r} for c, n, r in layers]
    write(tmp_path / "left", fig3=rows)
    assert measured.residual("left").splitlines()[2:] == ["| power spectrum | every lag | 0.50 | 0.25 | 0.12 |"]


def test_pretrained_models_and_claims_are_shown_with_their_intervals(planted, tmp_path):
    words = {"backbone": "a", "preference": -0.5, "low": -0.75, "high": -0.25}
    rows = [
        {**words, "condition": "pretrained", "layer": 1},
        {**words, "condition": "pretrained", "layer": 0, "preference": 9},
        {**words, "condition": "brain-tuned", "layer": 1, "preference": 9},
    ]
    claim = {"claim": "it rises", "backbone": "a", "measure": "alignment", "effect": 0.5, "low": -0.25, "high": 1.25}
    write(tmp_path / "both", fig5=rows, fig5_recorded=rows[:1], claims=[{**claim, "q": 0.25, "verdict": "not shown"}])
    spoken = "−0.50 (−0.75 to −0.25)"
    assert measured.untuned("both").splitlines()[2:] == [f"| a | {spoken} | {spoken} |"]
    shown = "| it rises | a | alignment | +0.500 (−0.250 to 1.250) | 0.250 | not shown |"
    assert measured.claims("both").splitlines()[2:] == [shown]


def test_gains_are_by_amount_of_tuning_and_participant(planted, tmp_path):
    way = {"tuning": "clips", "participants": 1, "low": -0.25, "high": 1.25}
    rows = [
        {**way, "participant": p, "over": over, "n_stories": 2, "minutes": minutes, "gain": gain}
        for p, minutes, over, gain in (("P1", 8.0, "pretrained", 0.5), ("P2", 9.0, "pretrained", 0.25))
    ]
    rows.append({**rows[0], "n_stories": 5, "minutes": 20.0, "over": "permuted"})
    expected = [{**way, "over": "pretrained", "minutes": minutes, "gain": minutes / 8} for minutes in (1, 2)]
    write(tmp_path / "dose", figC1=rows, figC1_expected=[*expected, {**expected[0], "participants": 2}])
    either = "+0.500 (−0.250 to 1.250)<br>+0.250 (−0.250 to 1.250)"
    assert measured.gains("dose").splitlines()[2:] == [
        f"| clips | 1 | 8 | {either} | – |",
        "| clips | 1 | 20 | – | +0.500 (−0.250 to 1.250) |",
    ]
    head, _, row = measured.expected_gains("dose").splitlines()
    assert head == "| tuning | over | 1 min | 2 min |"
    assert row == "| clips | pretrained | +0.125 (−0.250 to 1.250) | +0.250 (−0.250 to 1.250) |"


def test_probes_are_of_the_layer_that_validation_chose(tmp_path, monkeypatch):
    row = {"task": "phonemes", "model": "a", "low": 0.25, "high": 0.75, "duration_loudness": 0.125}
    layers = [(0, 0.9, 0.9), (1, 0.5, 0.8), (2, 0.6, 0.7)]
    scores = [{**row, "layer": layer, "value": value, "validation": chosen} for layer, value, chosen in layers]
    difference = {"task": "phonemes", "model": "a", "against": "b", "difference": 0.5, "low": 0.25, "high": 0.75}
    write(tmp_path, probes_scores=scores, probes_differences=[{**difference, "p": 0.001}])
    monkeypatch.setattr(measured, "BENCHMARKS", tmp_path)
    (shown,) = measured.probes().splitlines()[2:]
    assert shown == "| a | 0.50 (0.25 to 0.75) | 0.12 | b: +0.500 (0.250 to 0.750), p = 0.001 |"


def test_speed_is_that_at_the_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "BENCHMARKS", tmp_path)
    rows = [("published", 8, 2.5, 1), ("ours", 8, 2450, 12.25), ("ours", 4, 2000, 10), ("others", 8, "", "")]
    columns = ["variant", "size", "per_second", "over_published"]
    given = {"part": "ridge", "unit": "voxels/s", "peak_gib": 7.04, "device": "a GPU", "note": ""}
    notes = {**given, "part": "precision", "variant": "clips", "note": "within: all is well"}
    write(tmp_path, cuda=[*({**given, **dict(zip(columns, row, strict=True))} for row in rows), notes])
    shown = measured.speed("cuda").splitlines()
    assert shown[0] == "a GPU."
    assert shown[4:] == [
        "| ridge | published | 2.50 voxels/s | 1.0 | 7.0 |",
        "| ridge | ours | 2,450 voxels/s | 12.2 | 7.0 |",
    ]
    assert measured.precision().splitlines()[2:] == ["| clips | within: all is well |"]
