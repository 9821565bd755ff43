"""The floor: the same builds by hand, as a person would script them."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.sample.engine import Engine

_SCRIPT = """
set -eu
git -C mirror fetch --quiet --no-tags "$URL" "+refs/pull/$N/head:refs/heads/pr-$N"
mkdir "src-$N"
git -C mirror -c tar.umask=0022 archive "pr-$N" | tar -x -C "src-$N"
docker buildx build --quiet --provenance=false --push --tag "$IMAGE:pr-$N" "src-$N" >/dev/null
rm -r "src-$N"
"""


@dataclass(frozen=True)
class Floor:
    """One shell script per build, so many at once."""

    engine: Engine
    folder: Path
    url: str
    image: str
    slots: int

    def prepare(self) -> None:
        """Make the mirror that both sides keep."""
        mirror = str(self.folder / "mirror")
        subprocess.run(["git", "init", "--quiet", "--bare", mirror], check=True)
        subprocess.run(["git", "-C", mirror, "fetch", "--quiet", self.url, "main"], check=True)

    def build(self, numbers: list[int]) -> None:
        """Build these pull requests, and return when all are in the registry."""
        with ThreadPoolExecutor(self.slots) as slots:
            list(slots.map(self._one, numbers))

    def _one(self, number: int) -> None:
        environment = self.engine.env | {"URL": self.url, "N": str(number), "IMAGE": self.image}
        subprocess.run(["sh", "-c", _SCRIPT], cwd=self.folder, env=environment, check=True)
