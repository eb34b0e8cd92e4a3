"""What decides about the trainings of `benchmarks/table4`: clock, rate, readings, and the table."""

import itertools
import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from benchmarks.kept import ROOT
from benchmarks.table4 import clock, readings, report
from benchmarks.table4.cells import CELLS, HEADLINE, UPDATES, Cell
from benchmarks.table4.clock import Clock, Timetable, rate
from benchmarks.table4.joey import validations
from benchmarks.table4.readings import Readings
from benchmarks.table4.record import Record
from keras_luong.training import TrainingCheckpoint


def test_nine_cells_and_two_more_seeds():
    assert len({cell.name for cell in CELLS}) == len(CELLS) == 11
    assert sum(cell.seed == 1 for cell in CELLS) == 9
    assert [cell.seed for cell in CELLS if cell.name.startswith(HEADLINE.name + "-seed")] == [2, 3]


def test_steps_that_compile_count_as_usual_ones():
    times = Clock()
    for seconds in [30.0, 2.0, 20.0, *[2.0] * 47]:
        times.add(seconds)
    assert times.seconds == 50 * 2.0
    times.add(19.0)  # a long batch
    times.add(21.0)  # compiles
    assert times.seconds == 50 * 2.0 + 19.0 + 2.0
    times.start(7.0)
    times.add(3.0)
    assert times.seconds == 10.0


def test_the_rate_follows_the_time():
    assert [rate(share) for share in (0.0, 1.0, 1.5)] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(rate(0.04), 0.5 * (1 + math.cos(0.04 * math.pi)) / 2)
    np.testing.assert_allclose(rate(0.5), 0.5)


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.at:
            raise Killed


class Rates(keras.callbacks.Callback):
    """Notes the rate of every step."""

    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


class Training:
    """A line in epochs of 2 steps, each of a second, for 7 seconds."""

    def __init__(self, folder, monkeypatch):
        seconds = itertools.count(0.0)
        monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
        monkeypatch.setattr(readings, "perplexity", lambda translator, pairs: 2.0)
        monkeypatch.setattr(readings, "bleu", lambda translator, pairs: self.weight())
        keras.utils.set_random_seed(1)
        self.model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        self.model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.5), "mse")
        self.model.set_weights([np.zeros((1, 1))])
        self.clock, self.folder = Clock(), folder
        folder.mkdir(exist_ok=True)
        self.rates = []

    def weight(self):
        return float(self.model.get_weights()[0].item())

    def run(self, *callbacks):
        checkpoint = TrainingCheckpoint(self.folder, steps_per_epoch=2)
        position = checkpoint.restore(self.model)
        rates = Rates(self.rates)
        self.readings = Readings(self.folder / "readings.json", None, self.clock, [])
        self.model.fit(
            ((np.ones((1, 1)), np.ones((1, 1))) for _ in itertools.count()),
            steps_per_epoch=2,
            epochs=99,
            initial_epoch=position.epoch,
            callbacks=[
                *(Timetable(self.clock, 7.0, 0.1), self.readings, rates, *callbacks, checkpoint)
            ],
            verbose=0,
        )
        return self


def test_a_training_that_was_killed_ends_as_if_it_was_not(tmp_path, monkeypatch):
    whole = Training(tmp_path / "whole", monkeypatch).run()
    assert [row["updates"] for row in whole.readings.rows] == [2, 4, 6, 7]
    assert [row["seconds"] for row in whole.readings.rows] == [2.0, 4.0, 6.0, 7.0]
    # What is read is the average, with a momentum of a half, and it ends in the model.
    assert whole.readings.rows[-1]["bleu"] == pytest.approx(whole.weight(), abs=1e-6)
    expected = [0.1 * rate(step / 7) for step in range(7)]
    np.testing.assert_allclose(whole.rates, expected, atol=1e-8)

    with pytest.raises(Killed):
        Training(tmp_path / "cut", monkeypatch).run(Kill(5))
    # As if it had read the third epoch, and was killed before its checkpoint.
    path = tmp_path / "cut" / "readings.json"
    found = json.loads(path.read_text())
    found["rows"].append({"updates": 6, "seconds": 99.0})
    found["times"]["6"] = 99.0
    path.write_text(json.dumps(found))
    rest = Training(tmp_path / "cut", monkeypatch).run()
    assert rest.rates == whole.rates[4:]
    assert rest.readings.rows == whole.readings.rows


def test_what_joey_validated():
    log = "Steps: 500\tloss: 3.7\tbleu: 3.5\tLR: 0.001\t*\nSteps: 1000\tloss: 2.9\tbleu: 9.25\n"
    assert validations(log) == [{"updates": 500, "bleu": 3.5}, {"updates": 1000, "bleu": 9.25}]


def result(cell, bleu, **row):
    rows = [
        {"updates": 3000, "seconds": 60.0, "perplexity": 9.0, "bleu": bleu - 1, **row},
        {"updates": 5000, "seconds": 90.0, "perplexity": 8.126, "bleu": bleu},
    ]
    return {
        "cell": vars(cell),
        "minutes": 1.5,
        "updates": 5000,
        "parameters": 3_000_000,
        "rows": rows,
        "test": {"greedy": 30.0, "beam": 31.0},
        **dict.fromkeys(("signature", "date", "commit", "machine", "versions"), "one"),
    }


def test_the_table_and_the_plot(tmp_path):
    both = [
        result(HEADLINE, 32.0, test={"greedy": 28.5, "beam": 29.5}),
        result(Cell("dot", "local_p", False, 2), 33.0),
    ]
    joey = {
        "updates": 3000,
        "rows": [{"updates": 2500, "bleu": 1.0}, {"updates": 3000, "bleu": 27.0}],
        "test": {"greedy": 26.0, "beam": 27.5},
        "versions": "Joey NMT 2.3.0",
    }
    lines = report.table(both, joey).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert rows[2:4] == [
        ["dot", "local_p", "no", "2", "5,000", "3,000,000", "8.13", "33.00", "30.00", "31.00"],
        ["general", "global", "yes", "1", "5,000", "3,000,000", "8.13", "32.00", "30.00", "31.00"],
    ]
    assert rows[-2:] == [
        ["Joey NMT", "3,000", "27.00", "26.00", "27.50"],
        ["ours", "3,000", "31.00", "28.50", "29.50"],
    ]
    assert len(rows[0]) == len(rows[2])
    report.plot(both, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_the_record(tmp_path):
    path = tmp_path / "page.jsonl"
    local, joey = Cell("dot", "local_p"), {"updates": 3000, "rows": []}
    record = Record(path)
    for one in (result(local, 33.0), joey, result(HEADLINE, 32.0)):
        assert record.add(one) is one
    record.add({**result(HEADLINE, 30.0), "minutes": 1.0})
    again = Record(path)
    assert [one["cell"] for one in again.cells(1.5)] == [vars(HEADLINE), vars(local)]
    assert again.cell(HEADLINE, 1.5) == result(HEADLINE, 32.0)
    assert again.cell(HEADLINE, 1.0)["rows"][-1]["bleu"] == 30.0
    assert again.cell(Cell("dot"), 1.5) is None
    assert (again.joey(3000), again.joey(2000)) == (joey, None)
    assert [one.name for one in tmp_path.iterdir()] == ["page.jsonl"]


def test_the_page_is_of_its_record():
    record = Record(ROOT / "docs" / "table4.jsonl")
    page = (ROOT / "docs" / "table4.md").read_text(encoding="utf-8")
    assert report.table(record.cells(15.0), record.joey(UPDATES)) in page
