import argparse

import pytest

from benchmarks.kept import Kept
from benchmarks.run import Job, jobs, run


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "results.jsonl")


def job(calls, name="one", section="growth", error=None):
    def measure(batch):
        calls.append(name)
        if error:
            raise SystemExit(error)
        return {"batch": batch}

    return Job(section, name, measure, {"batch": 3})


def test_a_run_that_was_ended_goes_on_where_it_was(kept):
    calls = []
    results, failed = run([job(calls)], kept, only=["growth"], fresh=False)
    assert (results["one"]["found"], failed, calls) == ({"batch": 3}, [], ["one"])
    results, _ = run([job(calls), job(calls, "two")], kept, only=["growth"], fresh=False)
    assert (list(results), calls) == (["one", "two"], ["one", "two"])


def test_fresh_measures_what_is_kept(kept):
    calls = []
    for fresh in (False, True):
        run([job(calls)], kept, only=["growth"], fresh=fresh)
    assert calls == ["one", "one"]


def test_what_is_not_asked_for_is_read_and_not_measured(kept):
    calls = []
    found = [job(calls), job(calls, "two", "search")]
    assert list(run(found, kept, only=["search"], fresh=False)[0]) == ["two"]
    run(found[:1], kept, only=["growth"], fresh=False)
    assert list(run(found, kept, only=["search"], fresh=True)[0]) == ["one", "two"]
    assert calls == ["two", "one", "two"]


def test_a_job_that_fails_costs_the_others_nothing(kept, capsys):
    found = [job([], "bad", error="no memory"), job([])]
    results, failed = run(found, kept, only=["growth"], fresh=False)
    assert (list(results), failed) == (["one"], ["bad"])
    assert "bad: no memory" in capsys.readouterr().err


def test_full_runs_all_that_the_default_does_and_four_points_a_curve(tmp_path):
    def names(full):
        options = argparse.Namespace(full=full, tiny=False, multi30k=tmp_path)
        return {(one.name, str(one.arguments)) for one in jobs(options)}

    assert names(False) < names(True)
    grown = [name for name, _ in names(True) if name.startswith("training, ")]
    assert len(grown) == 4 * 3  # and the common work's own point
