"""One data set in place under `<home>/data`, built only where it is not there already.

Standard library only until something has to be built, so a second run costs milliseconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from features.progress import Step, silent
from training.data.manifest import MAX_REJECTED_SHARE, DataError, Manifest
from training.data.remote import Remote, copied, look, redacted

SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class World:
    """Size and seed of a synthetic data set."""

    users: int = 1_000
    items: int = 1_000
    interactions: int = 50_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """Which data is wanted: that at `path` (a folder, a zip, or the URL of one) if given, else the one called
    `dataset`."""

    dataset: str = "ml-100k"
    path: Path | str | None = None
    world: World = World()

    @property
    def remote(self) -> Remote | None:
        """What is at the URL now; None where the path is none.

        Raises:
            DataError: it cannot be looked at.
        """
        return look(self.path) if isinstance(self.path, str) else None

    def identity(self) -> dict[str, object]:
        """JSON values that are equal where the data would be.

        For a folder these are the size and change time of its files: hashing gigabytes at every start would
        cost more than it tells.
        """
        if (remote := self.remote) is not None:
            return remote.identity()
        if isinstance(self.path, Path):
            return {"path": str(self.path.resolve()), "files": _listing(self.path)}
        if self.dataset == SYNTHETIC:
            return {"dataset": SYNTHETIC, **asdict(self.world)}
        return {"dataset": self.dataset}


def data_directory(home: Path) -> Path:
    """Where the tables of `home` live."""
    return home / "data"


def prepare(
    request: Request,
    home: Path,
    max_rejected_share: float = MAX_REJECTED_SHARE,
    force: bool = False,
    progress: Step = silent,
) -> tuple[Manifest, bool]:
    """The data set's manifest, and whether it was already there.

    Raises:
        DataError: the data cannot be had or is refused; what was there before stays.
    """
    directory, identity = data_directory(home), request.identity()
    if not force and (found := _reusable(directory, identity, max_rejected_share)):
        return found, True
    from training.data.movielens import load  # Arrow and pandas: only where there is work for them
    from training.data.synthetic import synthesize

    if request.path is None and request.dataset == SYNTHETIC:
        world = request.world
        tables = synthesize(world.users, world.items, world.interactions, world.seed)
    else:
        given, cache = request.path, home / "cache"
        url = given if isinstance(given, str) else None
        path = copied(look(url), cache, progress) if url is not None else Path(given) if given else None
        source = None if url is None else redacted(url)
        tables = load(request.dataset, path, cache, progress, max_rejected_share, source)
    progress("writing tables", 0, None)
    try:
        return tables.write(directory, identity), False
    except OSError as error:
        raise DataError(f"{directory} cannot be written ({error}): choose another --home") from error


def _reusable(directory: Path, identity: dict[str, object], max_rejected_share: float) -> Manifest | None:
    try:
        manifest = Manifest.read(directory)
    except DataError:
        return None
    strict = all(report.rejected_share <= max_rejected_share for report in manifest.about.inputs)
    return manifest if strict and manifest.request == identity else None


def _listing(path: Path) -> list[list[object]]:
    """Name, bytes and change time (nanoseconds) of a zip, or of the files in a folder and its folders."""
    files = [path] if path.is_file() else [entry for level in ("*", "*/*") for entry in path.glob(level)]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return sorted([str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns] for file, stat in found)
