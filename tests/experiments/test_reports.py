"""Reports: the table as CSV, pages for phones, and what the live progress shows while a program is compiled."""

import contextlib
import csv
import functools
import io
from unittest import mock

import pytest

from experiments.reports import page, plots, searches, tables
from experiments.reports.progress import Progress, Rows
from experiments.runs.records import LevelRecord

ROWS = [("0", "1.0000", "97.50 ±  0.25"), ("1", "0.8000", "97.00 ±    –")]
COLUMNS = ("level", "density", "ticket")


def test_means_and_intervals_are_columns_of_the_csv():
    lines = list(csv.reader(io.StringIO(tables.comma_separated(COLUMNS, ROWS))))
    assert lines[0] == ["level", "density", "ticket", "ticket ±"]
    assert lines[1:] == [["0", "1.0000", "97.50", "0.25"], ["1", "0.8000", "97.00", ""]]


def test_other_cells_are_quoted():
    lines = list(csv.reader(io.StringIO(tables.comma_separated(("a, b", "c"), [('say "x"', "1,000")]))))
    assert lines == [["a, b", "c"], ['say "x"', "1,000"]]


def test_a_table_is_published_with_its_csv_and_a_page_for_phones(tmp_path):
    points = [plots.Point(1.0, 0.9, 0.01), plots.Point(0.5, 0.8, 0.01)]
    plots.accuracy({"ticket": points}, tmp_path / "accuracy.png", title="a title", dense=points[0])
    tables.publish(
        tmp_path,
        text="a table",
        results=[],
        columns=COLUMNS,
        rows=ROWS,
        warnings="",
        page=functools.partial(page.page, "a title", config={}, command=["python"]),
        others="nothing else",
    )
    assert (tmp_path / "table.csv").read_text() == tables.comma_separated(COLUMNS, ROWS)
    text = (tmp_path / "report.html").read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "97.50 ±  0.25" in text


@pytest.mark.parametrize(("densities", "names"), [((1.0, 0.8), ["ticket", "dense"]), ((0.8, 0.5), ["ticket"])])
def test_the_dense_level_of_a_search_is_a_line_of_its_plot(densities, names, tmp_path, monkeypatch):
    drawn = []
    original = plots.figure

    @contextlib.contextmanager
    def figure(*args, **options):
        with original(*args, **options) as axes:
            yield axes
            drawn.extend(line.get_label() for line in axes.get_lines())

    monkeypatch.setattr(plots, "figure", figure)
    accuracies = {"test_accuracy": 0.9, "validation_accuracy": 0.9}
    records = [
        LevelRecord(accuracies, replicate, level, "ticket", density, [])
        for level, density in enumerate(densities)
        for replicate in range(2)
    ]
    searches.write(tmp_path, records, ["ticket"], title="a title", config={}, command=["python"])
    assert drawn == names


@pytest.fixture
def progress():
    with Progress(2, Rows(lambda record: record, 1, lambda row: "a row")) as shown:
        yield shown


def test_compiling_is_said_once_before_the_first_step(progress, capsys):
    progress.compiling()
    progress.compiling("rigl")  # the same program, by its name
    assert capsys.readouterr().out.splitlines() == ["compiling …"]
    progress.step(1, 0.5)
    progress.compiling("gradual")
    assert "compiling gradual …" in capsys.readouterr().out.splitlines()


def test_compiling_is_shown_in_the_bar(progress, monkeypatch):
    progress._bar, progress._task = mock.Mock(), None
    progress.compiling("rigl")
    progress.step(10, 0.5)
    shown = [call.kwargs["description"] for call in progress._bar.update.call_args_list]
    assert shown == ["compiling rigl", "step 10, loss 0.5000"]
