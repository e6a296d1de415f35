"""Machine code is compiled once, kept, and never older than its sources."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raylottery.kernel import Network, compiled, optimizers
from tests.unit.kernel.samples import layers


MIX = """
import logging; logging.basicConfig(level="WARNING")
import numpy as np
from raylottery.kernel import optimizers
a, b = np.zeros(16, np.float32), np.ones(16, np.float32)
optimizers.mix(a, b, 0.5)
print(a.sum(), sum(optimizers.mix.compiled.stats.cache_hits.values()))
"""


def mixed(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MIX],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )


def test_the_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    assert mixed(tmp_path).stdout == "8.0 0\n"
    second = mixed(tmp_path)
    assert second.stdout == "8.0 1\n"
    assert not second.stderr


def test_without_a_folder_each_process_compiles_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = mixed(tmp_path / "file")
    assert found.stdout == "8.0 0\n"
    assert "NUMBA_CACHE_DIR" in found.stderr
    assert found.stderr.count("WARNING") == 1


def test_changed_sources_are_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, loops = tmp_path / "kernel", tmp_path / "loops"
    shutil.copytree(compiled.KERNEL, kernel, ignore=shutil.ignore_patterns("__pycache__"))
    loops.mkdir()
    monkeypatch.setattr(compiled, "KERNEL", kernel)

    def digests() -> list[str]:
        return [compiled.digest(folder) for folder in (kernel, loops)]

    before = digests()
    (loops / "loop.py").write_text("# a loop")
    with_loop = digests()
    assert [a == b for a, b in zip(before, with_loop, strict=True)] == [True, False]
    (kernel / "simd.py").write_text("# other vectors")
    assert not set(digests()) & set(with_loop)


def test_nothing_is_compiled_for_other_arguments() -> None:
    net = Network.of(layers((3, 4, 2), 1.0, seed=0))
    for _ in range(2):
        with pytest.raises(TypeError):
            optimizers.mix(net.values.astype(np.float64), net.values, 0.5)
    assert len(optimizers.mix.compiled.signatures) == 1


def test_a_second_thread_finds_what_the_first_compiled() -> None:
    """As where both saw that it was not compiled, and one had to wait."""
    compile_it = compiled.Entry.compiled.func
    assert compile_it(optimizers.mix) is compile_it(optimizers.mix)


def test_there_is_no_handle_of_what_is_not_said_to_be_handed() -> None:
    with pytest.raises(AssertionError, match="mix is handed"):
        _ = optimizers.mix.handle


def test_calls_while_compiling_find_memory_for_their_frames() -> None:
    """However deep a loop lies, its calls need no new memory each."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            for _ in range(100):
                abs_of(-1)

    def abs_of(number: int) -> int:
        return abs(number)

    def every_depth(_: None) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for depth in range(400):
            deep(depth)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert compiled.with_room_below(every_depth, None) < 400
