"""What is trained: the cells of the table, and what all of them share."""

import dataclasses
from typing import Any

VOCABULARY = 6000  # joint subwords
UNITS = 256
BATCH = 64
DROPOUT = 0.4
MAX_LENGTH = 80
PEAK_RATE = 2e-3
UPDATES = 3000  # of Joey NMT's, where the headline is read too


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training. Its name is its folder's."""

    score_mode: str = "general"
    window: str = "global"
    input_feeding: bool = True
    seed: int = 1

    @property
    def name(self) -> str:
        feeding = "" if self.input_feeding else "-no-feeding"
        seed = "" if self.seed == 1 else f"-seed-{self.seed}"
        return f"{self.score_mode}-{self.window}{feeding}{seed}"

    def options(self) -> dict[str, Any]:
        """Arguments of `luong_seq2seq`. The window reaches 10 to each side, as in the paper."""
        has_length = self.score_mode == "location"
        return {
            "score_mode": self.score_mode,
            "window": self.window,
            "max_source_length": MAX_LENGTH + 1 if has_length else None,  # the end token is read
            "input_feeding": self.input_feeding,
        }


HEADLINE = Cell()
# The most wanted first: a run that is ended early has them.
CELLS = (
    HEADLINE,
    Cell(input_feeding=False),
    Cell("dot"),
    Cell("general", "local_p"),
    Cell("location"),
    Cell("concat"),
    Cell("general", "local_m"),
    Cell("dot", "local_p"),
    Cell("dot", "local_m"),
    Cell(seed=2),
    Cell(seed=3),
)
