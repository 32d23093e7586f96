"""Several shards, one of which is killed again and again while traces come in."""

from contextlib import ExitStack
from pathlib import Path
from threading import Event

from tests.support.crashes import TRACES_PER_KILL, Crashes
from tests.support.real import Exporter, Mlflow

EXPERIMENTS = 12


class Shards(Crashes):
    """Kills one of ``count`` shards after another. The sums are those over all of them."""

    def __init__(self, mlflow: Mlflow, directory: Path, seed: int, count: int = 3) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(mlflow, directory, seed, EXPERIMENTS, ledger={"path": str(directory / "ledger.db")})
        self._shards = [self._shard(directory / f"{index}", f"{index}/{count}") for index in range(1, count + 1)]

    def _shard(self, directory: Path, shard: str) -> Exporter:
        directory.mkdir()
        return Exporter(directory, self._config, "--log.level=warn", f"--shard={shard}")

    def run(self, kills: int) -> None:
        with ExitStack() as running:
            with self._traffic():
                for each in self._shards:
                    running.enter_context(each.running())
                while self.kills < kills or self.logged < TRACES_PER_KILL * kills:
                    Event().wait(self._dice.uniform(0, 0.7))
                    self._scrape()
                    self._kill(self._dice.choice(self._shards), running)
            self._count_all()

    def _kill(self, shard: Exporter, running: ExitStack) -> None:
        shard.process.kill()
        shard.process.wait()
        self.kills += 1
        running.enter_context(shard.running())

    def _scrape(self) -> None:
        for each in self._shards:
            self._scrape_one(each)
