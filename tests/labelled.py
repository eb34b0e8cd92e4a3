"""A column of a table, as data frames have them: indexed by label, not by place."""


class Labelled:
    """Iterates over values, and finds the one at place n under the label n + 5 only."""

    dtype, ndim = "object", 1

    def __init__(self, values):
        self._values = list(values)
        self.shape = (len(self._values),)

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, label):
        if not 5 <= label < 5 + len(self._values):
            raise KeyError(label)
        return self._values[label - 5]

    def __bool__(self):
        raise ValueError("the truth of a Series is ambiguous")

    def to_numpy(self):
        import numpy as np

        array = np.empty(len(self._values), object)
        array[:] = self._values
        return array
