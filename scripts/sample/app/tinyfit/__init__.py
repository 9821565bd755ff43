"""Least squares in plain Python: enough of a machine-learning library for a sample."""

from collections.abc import Sequence

__all__ = ["fit", "predict"]


def fit(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """The weights (the last one is the constant) with the smallest squared error."""
    inputs = [[*row, 1.0] for row in rows]
    size = len(inputs[0])
    # The normal equations, as one matrix with the right-hand side in its last column.
    matrix = [
        [sum(row[i] * row[j] for row in inputs) for j in range(size)]
        + [sum(row[i] * target for row, target in zip(inputs, targets, strict=True))]
        for i in range(size)
    ]
    return _solve(matrix)


def predict(weights: Sequence[float], row: Sequence[float]) -> float:
    """What the model says for one row."""
    return sum(weight * value for weight, value in zip(weights, [*row, 1.0], strict=True))


def _solve(matrix: list[list[float]]) -> list[float]:
    size = len(matrix)
    for column in range(size):
        best = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[best] = matrix[best], matrix[column]
        pivot = matrix[column][column]
        matrix[column] = [value / pivot for value in matrix[column]]
        for row in range(size):
            if row != column:
                factor = matrix[row][column]
                matrix[row] = [
                    a - factor * b for a, b in zip(matrix[row], matrix[column], strict=True)
                ]
    return [row[-1] for row in matrix]
