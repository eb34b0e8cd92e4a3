"""Ids that every vocabulary of this package keeps for itself."""

from typing import Final

PADDING_ID: Final = 0
UNKNOWN_ID: Final = 1
START_ID: Final = 2
END_ID: Final = 3
