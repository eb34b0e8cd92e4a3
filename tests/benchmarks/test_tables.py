import pytest

from benchmarks import tables

PROSE = """Before.

<!-- bench: one -->
old
<!-- end -->

Between.

<!-- bench: two -->
<!-- end -->
"""


def test_a_block_is_replaced_and_the_prose_stays(tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text(PROSE)
    tables.write({"one": r"| new \1 |"}, path)
    assert path.read_text() == PROSE.replace("\nold\n", "\n\n| new \\1 |\n\n")
    tables.write({"one": "newer"}, path)
    assert path.read_text() == PROSE.replace("\nold\n", "\n\nnewer\n\n")


def test_a_block_without_a_place_is_told_and_lost_nowhere_else(tmp_path, capsys):
    path = tmp_path / "RESULTS.md"
    path.write_text(PROSE)
    tables.write({"three": "new"}, path)
    assert path.read_text() == PROSE
    assert "'three'" in capsys.readouterr().err


def test_every_section_has_a_place_in_the_results():
    from benchmarks import run

    text = run.RESULTS.read_text()
    for name in run.SECTIONS:
        assert f"<!-- bench: {name} -->" in text


def test_the_ratio_is_the_median_of_the_rounds():
    # 2 twice as slow, once as fast, once four times as fast.
    assert tables.ratio([4, 2, 1], [2, 2, 4]) == "1.00 (0.25-2.00)"


def test_the_share_of_the_products():
    # 3 GFLOP at 6 GFLOP/s are half a second, a fifth of 2.5.
    assert tables.share(3e9, 2.5, [5.0, 6.0, 9.0]) == "0.20"


@pytest.mark.parametrize("results", [{}, {"unknown": {}}])
def test_what_was_not_measured_has_no_block(results):
    assert tables.blocks(results) == {}
