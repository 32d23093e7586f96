"""Parts of the experiments, each of which another exporter reads. Pure."""

import re
from dataclasses import dataclass
from hashlib import blake2b

MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` parts of the experiments; ``index`` is from 1 to ``count``."""

    index: int = 1
    count: int = 1

    def has(self, experiment_id: str) -> bool:
        """Whether an experiment is in this part. Each is in exactly one, which depends only on its id and ``count``."""
        return _number(experiment_id) % self.count == self.index - 1

    def suffix(self, separator: str) -> str:
        """What names that each part has to itself end with: nothing if there is only one."""
        return "" if self.count == 1 else separator + separator.join((str(self.index), "of", str(self.count)))

    def __str__(self) -> str:
        """As it is written: 1/3."""
        return f"{self.index}/{self.count}"


def _number(experiment_id: str) -> int:
    """MLflow's ids are numbers. Most servers count up, so that the parts have equally many."""
    if re.fullmatch(r"[0-9]{1,30}", experiment_id):
        return int(experiment_id)
    return int.from_bytes(blake2b(experiment_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


THE_WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Parse a part such as 1/3, the first of three. Raises ValueError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text, re.ASCII)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count <= MOST_SHARDS:
        raise ValueError(f"{text!r} is not a shard; the first of three is 1/3")
    return Shard(index, count)
