"""The toy sequence of the specification (E.4): six frames, two objects, four result tracks."""

import numpy as np

from tupelo.evaluation import Tracks

ROWS = [(t, 1, 10 + 2 * t, 10) for t in range(1, 7)] + [(t, 2, 60 - 2 * t, 12) for t in range(1, 6)]
FOUND = [
    *((1, 1, 12, 10), (1, 2, 58, 12), (2, 1, 14, 10), (2, 2, 57, 12), (3, 1, 16, 11)),
    *((4, 1, 18, 10), (4, 3, 52, 12), (5, 1, 20, 10), (5, 3, 50, 12), (5, 4, 200, 100)),
    (6, 3, 22, 10),
]


def tracks(rows: list[tuple[int, int, int, int]]) -> Tracks:
    """Boxes of 10 by 20."""
    table = np.array(rows, np.int64).reshape(-1, 4)
    boxes = np.concatenate([table[:, 2:], np.full((len(table), 2), [10, 20])], axis=1)
    return Tracks(table[:, 0], table[:, 1], boxes.astype(np.float64))


TRUTH, RESULT = tracks(ROWS), tracks(FOUND)
