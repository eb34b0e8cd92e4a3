"""What the workers of `training.py` answer, whatever trains. Only the standard library."""

import time

import work
from worker import serve


class Steps:
    """A subclass trains one batch, always the same, and describes itself."""

    def train_once(self) -> float:
        """Trains one step; returns its loss, read, so that the step is done."""
        raise NotImplementedError

    def describe(self) -> dict:
        raise NotImplementedError

    def step(self) -> float:
        """Milliseconds."""
        return work.milliseconds(self.train_once)

    def first_step(self) -> tuple[float, float]:
        """Seconds, and the loss."""
        start = time.perf_counter()
        loss = self.train_once()
        return time.perf_counter() - start, loss

    def memory(self) -> tuple[float, float]:
        """Megabytes at the peak of a step above what is held between steps, and what that is."""
        return work.peak_megabytes(self.train_once), work.held_megabytes()


def serve_steps(training: Steps) -> None:
    names = ("describe", "step", "first_step", "memory")
    serve({name: getattr(training, name) for name in names})
