"""Refuses a model that is wrong by too much: python3 check.py MODEL.json DATA.csv."""

import csv
import json
import sys
from pathlib import Path

from serve import answer
from tinyfit import predict

LIMIT = 15.0


def main() -> None:
    model, data = (Path(argument) for argument in sys.argv[1:3])
    weights = json.loads(model.read_text())["weights"]
    with data.open(newline="") as file:
        flats = [[float(value) for value in flat.values()] for flat in csv.DictReader(file)]
    worst = max(abs(predict(weights, flat[:-1]) - flat[-1]) for flat in flats)
    sys.stdout.write(f"worst error {worst:.1f}, limit {LIMIT}\n")
    sys.stdout.write(f"serves: {answer(weights, [62, 3, 2])}\n")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
