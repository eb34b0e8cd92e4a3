"""What is done: a line of JSON for each result, in a file beside the page that is written of it.

It stands in the tree, unlike the trainings: the page can be written anew on another machine, and
what was measured once is not lost with the machine that measured it.
"""

import json
import os
from pathlib import Path

from benchmarks.table4.cells import CELLS, Cell


class Record:
    """Results of cells, and of Joey NMT, which have no `"cell"`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self._results = [json.loads(line) for line in text.splitlines()]

    def cell(self, cell: Cell, minutes: float) -> dict | None:
        """The result of a cell after so many minutes, if there is one."""
        return next((one for one in self.cells(minutes) if one["cell"] == vars(cell)), None)

    def cells(self, minutes: float) -> list[dict]:
        """All results of trainings of so many minutes, in the order of the cells."""
        names = [cell.name for cell in CELLS]
        found = [one for one in self._results if "cell" in one and one["minutes"] == minutes]
        return sorted(found, key=lambda one: names.index(Cell(**one["cell"]).name))

    def joey(self, updates: int) -> dict | None:
        """The result of Joey NMT after so many updates, if there is one."""
        found = (one for one in self._results if "cell" not in one and one["updates"] == updates)
        return next(found, None)

    def add(self, result: dict) -> dict:
        """Writes a result down; the file is the old or the new one, whenever this is killed."""
        self._results.append(result)
        unfinished = self.path.with_suffix(".unfinished")
        lines = (json.dumps(one) + "\n" for one in self._results)
        unfinished.write_text("".join(lines), encoding="utf-8")
        os.replace(unfinished, self.path)
        return result
