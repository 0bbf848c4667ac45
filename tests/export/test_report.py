"""The page of a ticket beside its dense network."""

import html.parser
import time
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import export, structure
from jaxticket.errors import InputError
from tests.export._networks import GROUPS, KEPT, PARAMS, RUN, SMALLER, X, apply

DENSE, TICKET = (apply, PARAMS), (RUN, SMALLER)


def test_the_numbers_and_the_page(tmp_path):
    path = tmp_path / "new" / "report.html"
    report = export.write_report(path, GROUPS, KEPT, X, dense=DENSE, ticket=TICKET, rounds=3)
    assert report.dense.parameters == sum(x.size for x in jax.tree.leaves(PARAMS)) == 126
    assert report.ticket.parameters == sum(x.size for x in jax.tree.leaves(SMALLER))
    assert report.ticket.bytes == 4 * report.ticket.parameters
    assert report.dense.flops == 2 * 5 * (8 * 12 + 6 * 3)
    assert report.ticket.flops == 2 * 5 * (8 * 8 + 4 * 3)
    assert report.rounds == 3
    assert all(0 < c.quartiles[0] <= c.seconds <= c.quartiles[1] for c in (report.dense, report.ticket))
    text = path.read_text()
    assert GROUPS.svg(KEPT) in text
    for number in (report.dense.flops, report.ticket.flops, report.dense.bytes, report.ticket.parameters):
        assert f"<td>{number:,}</td>" in text


class Resources(html.parser.HTMLParser):
    """Collects the attributes that may fetch something, and the tags that are open."""

    def __init__(self):
        super().__init__()
        self.fetched, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "data", "srcset", "action", "style")]


def test_the_page_fetches_nothing_and_escapes_names(tmp_path):
    params = {"<script>alert(1)</script>": jnp.ones((4, 6)), "b": jnp.ones((6, 2))}
    run = lambda p, x: x @ p["<script>alert(1)</script>"] @ p["b"]
    x = jnp.ones((1, 4))
    groups = structure.trace(run, params, x)
    kept = {groups[0].name: np.arange(6) > 2}
    smaller = structure.shrink(params, kept, groups)
    path = tmp_path / "report.html"
    export.write_report(path, groups, kept, x, dense=(run, params), ticket=(run, smaller), title="<b>&", rounds=1)
    text = path.read_text()
    parser = Resources()
    parser.feed(text)
    assert parser.fetched == []
    assert not parser.tags & {"script", "link", "img", "iframe", "object", "b"}
    assert "url(" not in text
    assert "@import" not in text
    assert "<h1>&lt;b&gt;&amp;</h1>" in text
    picture = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    (label, _) = picture.iter("{http://www.w3.org/2000/svg}text")
    assert label.text == groups[0].name
    assert float(label.get("x")) > 6 * len(label.text)  # the name ends there, and begins inside the picture


def test_latency_is_that_of_the_whole_network(tmp_path):
    """A call back to the host makes one of the two slower by a known time, whichever it is."""

    def slow(params, x):
        wait = jax.pure_callback(lambda: (time.sleep(0.05), np.float32(0))[1], jax.ShapeDtypeStruct((), "float32"))
        return apply(params, x) + wait

    report = export.write_report(tmp_path / "r", GROUPS, KEPT, X, dense=(slow, PARAMS), ticket=TICKET, rounds=5)
    assert report.dense.seconds >= 0.05
    assert report.speedup > 1
    assert report.ticket.seconds < 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dense": TICKET}, "dense: 'first/bias' has shape"),
        ({"ticket": DENSE}, "ticket: 'first/bias' has shape"),
        ({"ticket": (RUN, {"first": SMALLER["first"]})}, "ticket: 'head/kernel' is missing"),
        ({"ticket": (RUN, {**SMALLER, "more": jnp.ones(1)})}, "ticket: 'more' has shape .*no such leaf"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_bad_input(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        export.write_report(
            tmp_path / "r", GROUPS, KEPT, X, **{"dense": DENSE, "ticket": TICKET, "rounds": 1, **change}
        )
    assert not list(tmp_path.iterdir())
