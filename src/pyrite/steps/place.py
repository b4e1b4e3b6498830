"""Which store a path or a URL is."""

from pathlib import Path

from pyrite.io.urls import local_path, url_of
from pyrite.steps.remote_store import RemoteStore
from pyrite.steps.store import Store, default_store


def open_store(place: str | Path | None = None) -> Store:
    """The store at a place: a folder, or a URL of an object store (`s3://bucket/prefix`); by default the user's.

    Raises:
        UserError: nobody knows the URL's protocol, or the package that speaks it is not installed.
    """
    place = place or default_store()
    url = url_of(place)
    if url is None:
        return Store(Path(place))
    if (folder := local_path(url)) is not None:
        return Store(folder)
    return RemoteStore(url)
