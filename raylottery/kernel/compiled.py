"""How the kernel's functions are compiled, and where the machine code is kept.

`inner` functions become part of those that call them. `entry` functions are compiled for one
signature each, once for a processor and a version of this package, and loaded from a folder from
then on: NUMBA_CACHE_DIR if that is set, else beside the sources, else in the user's cache folder.
Where none of them can be written, each process compiles anew, and says so.

Numba would take a function's own file for all that its code depends on. Here the folder's name is
a digest of the kernel and of the sources beside the function, so that nothing old is ever loaded,
and processes that compile the same function at once write the same file.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import njit, types
from numba.core import caching


KERNEL = Path(__file__).parent
LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
INNER: dict[str, Any] = {
    "forceinline": True,
    "no_cpython_wrapper": True,  # Python cannot call it then, and it is compiled in less time
    "no_cfunc_wrapper": True,
}


def inner(function: Callable) -> Callable[..., Any]:
    """Compiles a function into its callers."""
    return njit(**INNER, **OPTIONS)(function)


def entry(signature: Any) -> Callable[[Callable], Any]:
    """Compiles a function for one signature, when `load` is called."""

    def decorated(function: Callable) -> Any:
        dispatcher: Any = njit(**OPTIONS)(function)
        if cache_folder(sources_of(function)) is not None:
            dispatcher._cache = _Cache(function)
        _WAITING.append((dispatcher, signature))
        return dispatcher

    return decorated


_WAITING: list[tuple[Any, Any]] = []


def load() -> None:
    """Have all entries that were defined so far compiled, or loaded from the folder.

    From then on they take arguments of their signature alone: Numba would otherwise compile, at
    any call, whatever it is called with.
    """
    with _LOCK:
        while _WAITING:
            dispatcher, signature = _WAITING[0]
            dispatcher.compile(signature)
            dispatcher.disable_compile()
            _WAITING.pop(0)


class Handle:
    """An entry, to be handed to another."""

    def __init__(self, dispatcher: Any):
        [signature] = dispatcher.nopython_signatures
        compiled = dispatcher.get_compile_result(signature)
        name = compiled.fndesc.llvm_cfunc_wrapper_name
        self._address = compiled.library.get_pointer_to_function(name)
        self._numba_type_ = types.FunctionType(signature)
        """By which Numba knows it, and need not make a type of it at each call."""

    def __wrapper_address__(self) -> int:
        return self._address


@cache
def handle(dispatcher: Any) -> Handle:
    """What an entry takes where its signature says `types.FunctionType(...)`.

    It takes the other entry itself too. But then Numba looks for the address at each call, which
    takes as long as some updates do.
    """
    load()
    return Handle(dispatcher)


def sources_of(function: Callable) -> Path:
    """The folder that a function's file lies in."""
    return Path(inspect.getfile(function)).parent


@cache
def cache_folder(sources: Path) -> Path | None:
    """Where machine code of these sources is kept; None where nothing can be written."""
    parents = _parents()
    for parent in parents:
        place = parent / f"raylottery-kernel-{digest(sources)}"
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK):
            return place
    LOG.warning(
        "no folder for compiled code can be written (tried %s): each process compiles it anew, "
        "which takes some seconds; name one in NUMBA_CACHE_DIR",
        ", ".join(map(str, parents)),
    )
    return None


def _parents() -> list[Path]:
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(named)]
    parents = [KERNEL / "__pycache__"]
    if own := os.environ.get("XDG_CACHE_HOME"):
        parents.append(Path(own) / "raylottery")
    elif (home := os.path.expanduser("~")) != "~":  # which it stays where a user has no home
        parents.append(Path(home) / ".cache" / "raylottery")
    return parents


def digest(sources: Path) -> str:
    """Of all that the machine code follows from."""
    found = hashlib.sha256()
    for part in (numba.__version__, llvm.get_host_cpu_name(), llvm.get_host_cpu_features()):
        found.update(str(part).encode())
    for folder in sorted({KERNEL, sources}):
        for source in sorted(folder.glob("*.py")):
            found.update(source.read_bytes())
    return found.hexdigest()[:16]


class _Locator(caching._CacheLocator):
    """Tells Numba our folder."""

    def __init__(self, sources: Path):
        self.sources = sources

    @classmethod
    def from_function(cls, py_func: Callable, py_file: str) -> _Locator:
        return cls(sources_of(py_func))

    def get_cache_path(self) -> str:
        return str(cache_folder(self.sources))

    def get_source_stamp(self) -> str:
        return digest(self.sources)

    def get_disambiguator(self) -> str:
        return ""


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 (as Numba declares it)


class _Cache(caching.FunctionCache):
    _impl_class = _Implementation
