import pytest

from benchmarks.peers.floor import Sizes, forward_flops, search_flops, training_flops

SMALL = Sizes(1, vocabulary=5, embedding=2, encoder_units=1, units=3, source_length=2, steps=1)


def test_a_sentence_worked_by_hand():
    # Multiplications. An encoder token: two ways, four gates of 1, from 2 + 1; its key, 2 to 3.
    source = 2 * 4 * 1 * (2 + 1) + 2 * 3
    # Two bridges from four states of 1 to 3.
    bridges = 2 * 4 * 3
    # Four gates of 3 from 2 + 3 + 3; two logits of 3; two contexts' terms of 2; 5 to 3; 3 to 5.
    target = 4 * 3 * 8 + 2 * 3 + 2 * 2 + 5 * 3 + 3 * 5
    assert (2 * source, bridges, target) == (60, 24, 136)
    assert forward_flops(SMALL, 2, 1) == 2 * (60 + 24 + 136)
    assert forward_flops(SMALL, 2, 4, beams=5) == 2 * (60 + 24 + 4 * 5 * 136)


def test_without_attention_worked_by_hand():
    # No key; four gates of 3 from 2 + 3, and 3 to 5.
    assert forward_flops(SMALL, 2, 1, attention=False) == 2 * (2 * 24 + 24 + 4 * 3 * 5 + 3 * 5)


def test_a_batch():
    sizes = Sizes(7, vocabulary=5, embedding=2, encoder_units=1, units=3, source_length=2, steps=1)
    assert training_flops(sizes) == 3 * 7 * 440
    assert search_flops(sizes, beams=5) == 7 * 2 * (60 + 24 + 5 * 136)


def test_the_common_work_takes_99_billion():
    assert training_flops(Sizes(64)) / 1e9 == pytest.approx(99, abs=0.5)
