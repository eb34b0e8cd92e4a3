import pytest

from benchmarks import kept
from benchmarks.kept import Kept


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    code = tmp_path / "keras_luong" / "layers"
    code.mkdir(parents=True)
    (code / "one.py").write_text("one = 1\n")
    return tmp_path / "cache" / "results.jsonl"


def test_what_was_measured_is_found_by_the_next_run(path):
    Kept(path).add("growth", {"batch": 1}, {"ms": [1.0]}, 2.0)
    found = Kept(path).find("growth", {"batch": 1})
    assert found["found"] == {"ms": [1.0]}
    assert Kept(path).find("growth", {"batch": 2}) is None
    assert Kept(path).find("other", {"batch": 1}) is None


def test_other_code_is_another_result(path):
    Kept(path).add("growth", {}, 1, 2.0)
    (path.parent.parent / "keras_luong" / "layers" / "one.py").write_text("one = 2\n")
    assert Kept(path).find("growth", {}) is None


def test_a_later_result_counts(path):
    results = Kept(path)
    results.add("growth", {}, 1, 2.0)
    results.add("growth", {}, 2, 2.0)
    assert Kept(path).find("growth", {})["found"] == 2


def test_a_line_that_was_cut_off_costs_that_line_alone(path):
    Kept(path).add("growth", {}, 1, 2.0)
    with path.open("a") as file:
        file.write('{"key": "ab')
    Kept(path).add("search", {}, 2, 2.0)
    assert Kept(path).find("growth", {})["found"] == 1
    assert Kept(path).find("search", {})["found"] == 2
