"""Serves predictions on port 8000: /predict?area_m2=62&rooms=3&floor=2.

With --once it prints one and ends.
"""

import json
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tinyfit import predict

REVISION = "main"


def answer(weights: Sequence[float], row: list[float]) -> dict[str, object]:
    """The prediction, with who made it."""
    return {
        "model": "flats",
        "revision": REVISION,
        "row": row,
        "price": round(predict(weights, row), 1),
    }


class Handler(BaseHTTPRequestHandler):
    features: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        row = [float(query.get(name, ["0"])[0]) for name in self.features]
        body = json.dumps(answer(self.weights, row)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    model = json.loads(Path("model.json").read_text())
    Handler.features, Handler.weights = tuple(model["features"]), tuple(model["weights"])
    if "--once" in sys.argv:
        sys.stdout.write(json.dumps(answer(Handler.weights, [62, 3, 2])) + "\n")
        return
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()


if __name__ == "__main__":
    main()
