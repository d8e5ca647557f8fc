"""Model bundles by name: those that ship with svdraw, and those on a hub of models.

Wherever a folder with a bundle can be named, a name can be given in its place: that of a model that ships, such as
``starter-open``, if there is no folder of that name, or ``hf://organisation/name``, or
``hf://organisation/name@revision``. Files from the hub are kept in the cache of ``huggingface_hub``, so that they are
fetched once, and used from there without a network.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

from training.base.errors import BundleError

__all__ = ["SHIPPED_MODELS", "HubName", "local_bundle"]

SHIPPED_MODELS = tuple(Path(__file__).with_name(name) for name in ("starter", "starter-open"))

_SCHEME = re.compile("hf:/+")  # a Path makes one slash of two
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_EXTRA = 'pip install "svdraw[hub]"'


class HubName(NamedTuple):
    """The name of a repository on the hub, and a revision: a branch, a tag or a commit. None is the main branch."""

    repository: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a name.

        Raises:
            BundleError: if it is not one.
        """
        match = _NAME.fullmatch(_SCHEME.sub("", text, count=1)) if _SCHEME.match(text) else None
        if match is None:
            raise BundleError(f"{text!r} names no model on a hub; it should be like hf://organisation/name@revision")
        return cls(match["repository"], match["revision"])

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def local_bundle(place: Path, *files: str, optional: tuple[str, ...] = ()) -> Path:
    """The folder of a bundle that is named by its folder, or by its name here or on the hub, from where it is fetched.

    Args:
        place: folder, name of a model that ships, or name on the hub.
        files: names of the files of a bundle.
        optional: names of files that it may have.

    Raises:
        BundleError: if the name is wrong, or the bundle is neither to be had nor kept from an earlier time.
    """
    if _SCHEME.match(str(place)):
        return _fetched(HubName.parse(str(place)), files, optional)
    shipped = {folder.name: folder for folder in SHIPPED_MODELS}
    return place if place.exists() else shipped.get(str(place), place)


@cache  # one process uses one version, even if the branch moves on
def _fetched(name: HubName, files: tuple[str, ...], optional: tuple[str, ...]) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError as error:
        raise BundleError(f"{name} is on a hub, and reading from it needs one more package: {_EXTRA}") from error
    try:
        folder = snapshot_download(
            name.repository, revision=name.revision, allow_patterns=[*files, *optional], library_name="svdraw"
        )
    except errors.GatedRepoError as error:
        raise BundleError(f"{name} is open only to those who were granted access; ask for it on its page") from error
    except errors.RepositoryNotFoundError as error:
        raise BundleError(f"the hub has no {name}; check the name, or log in if it is private") from error
    except errors.RevisionNotFoundError as error:
        raise BundleError(f"{name.repository} has no revision {name.revision!r}") from error
    except errors.HFValidationError as error:
        raise BundleError(f"{name} cannot be a name on the hub: {error}") from error
    except Exception as error:  # the hub client raises many kinds of errors, which all mean the same here
        cause = error.__cause__ or error
        raise BundleError(
            f"{name} cannot be fetched ({_first_line(cause)}), and is not kept from an earlier time; check the network"
        ) from error
    if missing := [file for file in files if not (Path(folder) / file).is_file()]:
        raise BundleError(f"{name} is no svdraw model: it has no {missing[0]}")
    return Path(folder)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
