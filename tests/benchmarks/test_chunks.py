import pytest

from benchmarks.peers.chunks import Chunks


def test_a_training_goes_on_by_what_is_asked_for():
    done = []

    def train(chunks):
        while True:
            chunks.before_update()
            done.append(len(done))

    chunks = Chunks(train)
    chunks.start()
    assert done == []
    assert chunks.updates(3) > 0
    assert len(done) == 3
    chunks.updates(2)
    assert len(done) == 5


def test_an_error_of_the_training_reaches_who_waits():
    def train(chunks):
        chunks.before_update()
        raise ValueError("diverged")

    chunks = Chunks(train)
    chunks.start()
    with pytest.raises(ValueError, match="diverged"):
        chunks.updates(1)


def test_a_training_that_ends_too_early_says_so():
    chunks = Chunks(lambda chunks: chunks.before_update())
    chunks.start()
    with pytest.raises(RuntimeError, match="ended before"):
        chunks.updates(2)
