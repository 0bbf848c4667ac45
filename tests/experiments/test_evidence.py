"""Claims are stored as they were found, read with care, and shown without loss."""

import collections
import dataclasses
import html
import html.parser
import json
import math
import pathlib
import re
import shutil
import subprocess

import pytest

from docs import methods_table
from experiments import report
from experiments.claims import dashboard, outcomes, store
from experiments.claims.judge import Contest, above, by_seed, points
from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Claim, load, slug
from experiments.runs.records import CellRecord
from experiments.studies.imp.config import Config
from jaxticket.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
STORED = ROOT / "docs" / "evidence"
CLAIM = Claim("Doe & Roe 2020, a <way>", "It works & more.", "+1 point", "+0.50 points", 0.5, None, 1, HOLDS, "said so")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def stored(tmp_path, claims=(CLAIM,), **given):
    """The file that a run stores, and its configuration."""
    config = Config(out=tmp_path / "runs", evidence=tmp_path / "evidence", data_dir=tmp_path, levels=3)
    store.write(config, claims, **given)
    (file,) = config.evidence.glob("*.json")
    return file, config


# Verdicts


@pytest.mark.parametrize(
    ("differences", "least", "verdict"),
    [
        ([1.0, 1.1, 0.9], 0.0, HOLDS),
        ([1.0, 1.1, 0.9], 2.0, FAILS),
        ([1.0, 1.1, 0.9], 1.0, UNDECIDED),
        ([-0.1, -0.2, -0.3], -0.5, HOLDS),  # no worse by half a point, though surely worse
        ([-0.1, -0.2, -0.3], 0.0, UNDECIDED),
        ([-1.0, -1.1, -0.9], 0.0, FAILS),
        ([5.0], 0.0, UNDECIDED),
        ([5.0, math.nan], 0.0, UNDECIDED),
    ],
)
def test_above(differences, least, verdict):
    assert above(differences, least=least).verdict == verdict


def test_above_says_the_numbers():
    """Student's t of two values: 12.706 · s / √2, with s = √2."""
    found = above([1.0, 3.0], unit="points at 5 %")
    assert found.measured == "+2.00 ± 12.71 points at 5 %"
    assert (found.value, found.seeds) == (2.0, 2)
    assert found.half_width == pytest.approx(12.7062, abs=1e-4)
    assert found.why == "the interval over 2 seeds, -10.71 to 14.71 points at 5 %, contains 0"
    assert above([5.0]).why == "one seed has no interval"
    assert above([5.0, math.nan]) == ("–", None, None, 2, UNDECIDED, "a training diverged")


def test_no_differences():
    with pytest.raises(InputError, match="empty"):
        above([])


def test_differences_are_paired_by_seed():
    given = [(1, "a", 0.5), (0, "a", 0.9), (1, "b", 0.4)]
    records = [CellRecord({"test_accuracy": a}, method, 0.1, seed, 0.1, []) for seed, method, a in given]
    first, second = (by_seed(records, method=method) for method in "ab")
    assert points(first, second) == pytest.approx([10.0])
    contest = Contest("P 2020, x", "a is above b.", "+5", "a", "b", 0.1)
    (claim,) = contest.judged(first, second)
    assert (claim.value, claim.seeds, claim.verdict) == (pytest.approx(10.0), 1, UNDECIDED)
    assert contest.judged(first, {}) == []


# Files


def test_what_is_stored_is_read(tmp_path):
    curve = [(1.0, 2.0, math.nan), (2.0, math.nan, 1.0), (3.0, 4.0, 0.5)]
    file, config = stored(tmp_path, series={"curve": curve}, axes=("x", "y"))
    assert file.name == f"imp-{config.hash()}.json"
    assert file.read_text() == (config.folder() / "claims.json").read_text()
    (found,) = load(config.evidence)
    assert found.claims == (CLAIM,)
    assert found.command == "python experiments/imp.py --levels 3"
    assert found.axes == ("x", "y")
    first, last = found.series["curve"]  # what diverged is no point
    assert "   [1.0, 2.0, null],\n" in file.read_text()
    assert first[:2] == (1.0, 2.0)
    assert math.isnan(first[2])
    assert last == (3.0, 4.0, 0.5)


def test_files_without_a_setting_are_read(tmp_path):
    file, config = stored(tmp_path)
    assert load(config.evidence)[0].setting == "lenet_300_100 on mnist5k"
    text = re.sub(r'"setting": "[^"]*",\s*', "", file.read_text())
    file.write_text(text.replace('"version": 2', '"version": 1'))
    assert load(config.evidence)[0].setting == ""


def test_no_path_of_the_machine_is_stored(tmp_path):
    text = stored(tmp_path)[0].read_text()
    assert str(tmp_path) not in text
    words = ["/usr/bin/python", "x.py", "--coordinator", "host:1", "--weights", "/home/me/model", "--levels=3"]
    assert store._shareable(words) == "python x.py --weights model --levels 3"


def test_without_the_flag_only_the_run_has_the_claims(tmp_path):
    config = Config(out=tmp_path)
    store.write(config, [CLAIM])
    assert [path.name for path in tmp_path.rglob("*.json")] == ["claims.json"]


def test_claims_that_could_not_be_read_are_not_stored(tmp_path):
    with pytest.raises(InputError, match="claims of different words"):
        stored(tmp_path, [CLAIM, CLAIM])
    with pytest.raises(InputError, match=r"axes is None, but must be the names of both axes"):
        stored(tmp_path, series={"curve": [(1.0, 2.0, 3.0)]})
    assert not list(tmp_path.rglob("*.json"))


def test_claims_that_go_are_told(tmp_path, capsys):
    file, _ = stored(tmp_path, [CLAIM, dataclasses.replace(CLAIM, claim="Another.")])
    assert not capsys.readouterr().err
    stored(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {file} no longer holds: Another. (")
    file.write_text("damaged")
    stored(tmp_path)
    assert not capsys.readouterr().err


def test_evidence_changes_no_run(tmp_path):
    assert Config(evidence=tmp_path).hash() == Config().hash()
    assert Config(evidence=tmp_path).flags() == []


DAMAGE = {
    "is not JSON": lambda text: text[: len(text) // 2],
    "is not JSON (Expecting value": lambda text: "",
    "the whole is [], but must be an object": lambda text: "[]",
    "has no field commit": lambda text: text.replace('"commit"', '"comit"'),
    "version is 3, but must be 1 or 2": lambda text: text.replace('"version": 2', '"version": 3'),
    "has no field setting": lambda text: text.replace('"setting"', '"seting"'),
    "setting is 1, but must be a text": lambda text: re.sub(r'"setting": "[^"]*"', '"setting": 1', text),
    "has a field claims[0].note": lambda text: text.replace('"why"', '"note": 1, "why"'),
    "has no field claims[0].seeds": lambda text: text.replace('"seeds": 1,', ""),
    "claims[0].seeds is True": lambda text: text.replace('"seeds": 1', '"seeds": true'),
    "claims[0].value is nan": lambda text: text.replace('"value": 0.5', '"value": NaN'),
    "claims[0].value is None": lambda text: text.replace('"value": 0.5', '"value": null'),
    "claims[0].half_width is -1": lambda text: text.replace('"half_width": null', '"half_width": -1'),
    "claims[0].verdict is 'maybe'": lambda text: text.replace('"holds"', '"maybe"'),
    "claims[0].id is 'other', but must be it-works-more": lambda text: text.replace('"it-works-more"', '"other"'),
    "claims[0].paper is ''": lambda text: text.replace(json.dumps(CLAIM.paper), '""'),
    "date is 'today'": lambda text: re.sub(r'"date": "[^"]*"', '"date": "today"', text),
    "series['c'] is [1, 2]": lambda text: text.replace('"series": {}', '"series": {"c": [[1, 2]]}'),
    "name it imp-0.json": lambda text: re.sub(r'"hash": "[^"]*"', '"hash": "0"', text),
}


@pytest.mark.parametrize("says", DAMAGE)
def test_damaged_files_are_named(tmp_path, capsys, says):
    file, config = stored(tmp_path)
    file.write_text(DAMAGE[says](file.read_text()))
    with pytest.raises(InputError) as error:
        load(config.evidence)
    assert str(file) in str(error.value)
    assert says in str(error.value)
    with pytest.raises(SystemExit) as end:
        report.main(["--evidence", str(config.evidence), "--out", str(tmp_path / "page")])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "page").exists()


# The page


class Page(html.parser.HTMLParser):
    """What a page says: its anchors and links, its text, and the cells of the rows that have an anchor."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.rows, self.data, self.kinds = [], [], {}, {}, {}
        self._row = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        if tag in ("tbody", "tr") and "id" in given:
            self.kinds[given["id"]] = set(given["class"].split())  # of claims and papers, for the choice of verdicts
        if tag == "tr":
            self._row = given.get("id")
        elif self._row and tag == "td":
            self.rows.setdefault(self._row, []).append("")
        elif self._row and tag == "data":
            self.data[self._row] = (given["value"], given["data-half-width"])

    def handle_data(self, data):
        if self._row and self.rows.get(self._row):
            self.rows[self._row][-1] += data

    def handle_endtag(self, tag):
        if tag == "tr":
            self._row = None


def expected(found):
    """The cells of every claim's row, from the files themselves."""
    # No stored run has a paper's own setting: see `test_a_failed_claim_fails_only_at_the_papers_own_setting`.
    shown = {HOLDS: "✓ holds", FAILS: "✗ not reproduced at this size", UNDECIDED: "? inconclusive"}
    classes = {HOLDS: "holds", FAILS: "not-reproduced", UNDECIDED: "inconclusive"}
    rows, data, kinds = {}, {}, {}
    for file in sorted(found.glob("*.json")):
        run = json.loads(file.read_text())
        for claim in run["claims"]:
            at = f"{run['experiment']}-{run['hash']}-{claim['id']}"
            verdict = f"{shown[claim['verdict']]}{claim['why']}"
            here = f"{claim['measured']}{run.get('setting', '')}"
            whence = f"{run['experiment']}-{run['hash']}commit {run['commit']}, {run['date']}command{run['command']}"
            rows[at] = [claim["claim"], claim["expected"], here, str(claim["seeds"]), verdict, whence]
            data[at] = (str(claim["value"]), str(claim["half_width"]))
            for part in (at, slug(claim["paper"])):
                kinds.setdefault(part, set()).add(classes[claim["verdict"]])
    return rows, data, kinds


def check(page, found):
    rows, data, kinds = expected(found)
    assert page.rows == rows
    assert page.data == data
    assert page.kinds == kinds
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_page_shows_every_field_of_every_claim(tmp_path):
    file = tmp_path / "index.html"
    said = report.report(report.Config(evidence=STORED, out=tmp_path))
    page, claims = Page(file.read_text()), [claim for run in load(STORED) for claim in run.claims]
    check(page, STORED)
    counts = collections.Counter(claim.verdict for claim in claims)
    assert f": {len(claims)} claims of " in said
    held, failed, undecided = (counts[verdict] for verdict in (HOLDS, FAILS, UNDECIDED))
    assert said.endswith(f"{held} holds, 0 fails, {failed} not reproduced at this size, {undecided} inconclusive")
    intervals = sum(claim.half_width is not None for claim in claims)
    assert f"{intervals} claims rest on a 95 % interval" in file.read_text()
    assert {slug(claim.paper) for claim in claims} <= set(page.ids)
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside
    assert [link for link in outside if not (tmp_path / link).exists()] == []
    assert not re.search(r"<script|https?://(?!www\.w3\.org|purl\.org|creativecommons|matplotlib)", file.read_text())


@pytest.mark.parametrize(
    ("setting", "expected", "words"),
    [
        ("resnet_20 on cifar10", "94.7 %, ResNet-20 on CIFAR-10", "fails"),
        ("lenet_300_100 on mnist5k", "97.4 %, LeNet-300-100 on MNIST", "not reproduced at this size"),
        ("resnet_20 on 2,000 examples of cifar10", "94.7 %, ResNet-20 on CIFAR-10", "not reproduced at this size"),
        ("resnet_20 on cifar10", "94.7 %, ResNet-20 on CIFAR-100", "not reproduced at this size"),
        ("", "94.7 %, ResNet-20 on CIFAR-10", "not reproduced at this size"),
    ],
)
def test_a_failed_claim_fails_only_at_the_papers_own_setting(tmp_path, setting, expected, words):
    stored(tmp_path)
    (run,) = load(tmp_path / "evidence")
    run = dataclasses.replace(run, setting=setting)
    failed = dataclasses.replace(CLAIM, expected=expected, verdict=FAILS)
    assert outcomes.outcome(run, failed).words == words
    assert outcomes.outcome(run, dataclasses.replace(failed, verdict=UNDECIDED)).words == "inconclusive"
    assert outcomes.outcome(run, dataclasses.replace(failed, verdict=HOLDS)).words == "holds"


def test_a_run_is_plotted_in_the_colours_of_the_page(tmp_path):
    _, config = stored(tmp_path, series={"own <curve>": [(1.0, 2.0, 0.5), (3.0, 4.0, 0.5)]}, axes=("x", "y"))
    page = dashboard.page(load(config.evidence), links=[])
    assert page.count("<svg") == 1
    assert "own &lt;curve&gt;" in page
    assert "currentColor" in page
    check(Page(page), config.evidence)


def test_no_claims_at_all(tmp_path):
    (tmp_path / "evidence").mkdir()
    said = report.report(report.Config(evidence=tmp_path / "evidence", out=tmp_path))
    assert said == f"{tmp_path / 'index.html'}: no claims yet"
    assert "No claims are stored yet" in (tmp_path / "index.html").read_text()
    with pytest.raises(InputError, match=r"--evidence is .*nowhere, which is not a folder"):
        report.report(report.Config(evidence=tmp_path / "nowhere"))


# The documentation


def test_tables_link_to_the_claims_of_their_papers():
    pages = {file: (ROOT / "docs" / file).read_text() for file in ("methods.md", "registry.md")}
    for text in pages.values():
        assert methods_table.linked(text) == text, "run python docs/methods_table.py"
    links = {link for text in pages.values() for link in re.findall(r"\(evidence/report\.html#([^)]*)\)", text)}
    papers = {slug(claim.paper) for run in load(STORED) for claim in run.claims}
    assert links == papers, "a paper with claims must be a row of docs/methods.md or of the registry"


def test_stored_claims_name_no_place_of_a_machine():
    for file in STORED.glob("*.json"):
        assert not re.search(r"/(tmp|home|root|work|usr|opt|mnt)/", file.read_text()), file.name


def browse(page, profile):
    """What Chromium makes of a page, and what it says meanwhile."""
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    own = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    return subprocess.run(
        [CHROMIUM, *own, *quiet, "--enable-logging=stderr", "--v=0", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_the_page_without_complaint(tmp_path):
    report.report(report.Config(evidence=STORED, out=tmp_path))
    shown = browse((tmp_path / "index.html").as_uri(), tmp_path / "profile")
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    check(Page(shown.stdout), STORED)
    assert shown.stdout.count("<svg") == sum(bool(run.series) for run in load(STORED))


LOOK = """<script>
window.onload = () => {
  const shown = {};
  for (const choice of document.querySelectorAll("input")) {
    choice.click();
    const parts = [...document.querySelectorAll("tr[id], tbody")];
    shown[choice.id] = parts.filter((part) => part.getClientRects().length).map((part) => part.id);
  }
  document.title = JSON.stringify(shown);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_choice_of_a_verdict_shows_its_claims_and_their_papers(tmp_path):
    report.report(report.Config(evidence=STORED, out=tmp_path))
    page = tmp_path / "index.html"
    page.write_text(page.read_text().replace("</body>", f"{LOOK}</body>"))
    _, _, kinds = expected(STORED)
    linked = next(at for at, verdicts in kinds.items() if verdicts == {"holds"} and at.startswith("imp-"))
    dumped = browse(f"{page.as_uri()}#{linked}", tmp_path / "profile").stdout
    shown = json.loads(html.unescape(re.search("<title>(.*)</title>", dumped)[1]))
    (paper,) = {slug(c.paper) for run in load(STORED) for c in run.claims if linked.endswith(c.id)}
    assert set(shown.pop("show-all")) == set(kinds)
    for choice, parts in shown.items():
        chosen = {part for part, verdicts in kinds.items() if choice.removeprefix("show-") in verdicts}
        assert set(parts) == chosen | {linked, paper}
    assert len(shown) == 4
