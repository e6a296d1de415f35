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

import gc
import hashlib
import inspect
import logging
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import njit, types
from numba.core import caching
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import typeof_impl


KERNEL = Path(__file__).parent
LOG = logging.getLogger(__name__)
_LOCK = threading.RLock()  # as an entry may call others
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,  # nothing here allocates, and to count no references takes less time to compile
}
INNER: dict[str, Any] = {
    "forceinline": True,
    "no_cpython_wrapper": True,  # Python cannot call it then, and it is compiled in less time
    "no_cfunc_wrapper": True,
}


def inner(function: Callable) -> Callable[..., Any]:
    """Compiles a function into its callers."""
    return njit(pipeline_class=_PartCompiler, **INNER, **OPTIONS)(function)


def entry(
    signature: Any, *, called: bool = True, handed: bool = False
) -> Callable[[Callable], Entry]:
    """Compiles a function for one signature, when it is first needed.

    Args:
        called: whether Python calls it.
        handed: whether others are handed it; see `Entry.handle`.
    """
    return lambda function: Entry(function, signature, called, handed)


class Entry:
    """A function that Python calls, and compiled code by its name or by a handle."""

    def __init__(self, function: Callable, signature: Any, called: bool, handed: bool):
        self.signature = signature
        # A wrapper for Python, which looks at each argument, is often more than what it wraps.
        self.dispatcher: Any = njit(
            pipeline_class=_WholeCompiler,
            no_cpython_wrapper=not called,
            no_cfunc_wrapper=not handed,
            **OPTIONS,
        )(function)
        if cache_folder(sources_of(function)) is not None:
            self.dispatcher._cache = _Cache(function)

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)

    @cached_property
    def compiled(self) -> Any:
        """Compiled, or loaded from the folder.

        From then on it takes arguments of its signature alone: Numba would otherwise compile, at
        any call, whatever it is called with.
        """
        with _LOCK, _collecting_nothing():
            if not self.dispatcher.signatures:  # or a thread that was here first has compiled it
                with_room_below(self.dispatcher.compile, self.signature)
            self.dispatcher.disable_compile()
        return self.dispatcher

    @cached_property
    def handle(self) -> Handle:
        """What another takes where its signature says `types.FunctionType(...)`.

        It takes the dispatcher too. But then Numba looks for the address at each call, which takes
        as long as some updates do.
        """
        return Handle(self.compiled, self.signature)


def make_ready(*entries: Entry) -> None:
    """Compile them now, before someone looks at a clock."""
    for found in entries:
        _ = found.compiled


@contextmanager
def _collecting_nothing() -> Generator[None]:
    """Numba makes objects by the million, which Python would look through for garbage many times
    over."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def with_room_below(function: Callable, argument: Any) -> Any:
    """Call a function whose own calls, however deep, find memory for their frames.

    CPython holds frames in chunks of 16 KiB, and gives a chunk back to the system when the first
    frame in it returns. A loop whose calls happen to begin a chunk then asks for one each time,
    and Numba has such loops by the hundred. A frame that claims a stack of 1 MiB gets one of 2.
    """
    return function(argument)


with_room_below.__code__ = with_room_below.__code__.replace(co_stacksize=1 << 17)


@typeof_impl.register(Entry)
def _type_of(found: Entry, context: Any) -> types.Dispatcher:
    return types.Dispatcher(found.compiled)


class Handle:
    """The address of a compiled function."""

    def __init__(self, dispatcher: Any, signature: Any):
        compiled = dispatcher.get_compile_result(signature)
        name = compiled.fndesc.llvm_cfunc_wrapper_name
        self._address = compiled.library.get_pointer_to_function(name)
        assert self._address, f"say that {dispatcher.__name__} is handed"
        self._numba_type_ = types.FunctionType(signature)
        """By which Numba knows it, and need not make a type of it at each call."""

    def __wrapper_address__(self) -> int:
        return self._address


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


class _Whole(JITCodeLibrary):
    """Code that LLVM optimizes once, when all its parts are there. Numba would do it before as
    well, function by function and module by module, to prune references."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Part(_Whole):
    """Code that is a part of others alone. Numba would have LLVM optimize it, and make machine
    code of it, in each function that it passes through on its way to an entry."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    @property
    def codegen(self) -> Any:
        return self  # whom Numba tells where Python's objects are, which are none

    def set_env(self, name: str, env: Any) -> None:
        assert not env.consts


class _WholeCompiler(Compiler):
    library: type[JITCodeLibrary] = _Whole

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()


class _PartCompiler(_WholeCompiler):
    library = _Part


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
