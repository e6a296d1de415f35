"""Episodes on film: gymnasium's own recorder, and one file for all that it recorded."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import RecordVideo

from raylottery.errors import UsageError
from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn import envs


FORMATS = {
    ".mp4": ["-c", "copy"],
    # A palette for each frame: one for all would have all frames in memory to choose it by.
    ".gif": ["-vf", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"],
}
"""The files that can be written, and what ffmpeg is told to make of the recordings."""

MEND = "pip install 'raylottery[video]'"

SMALLEST = 160
"""Pixels a side that the pictures of a video are enlarged to, if they have fewer."""

HEADLESS = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
"""Pictures are drawn without a screen, and pygame looks for loudspeakers in vain, and aloud."""


@contextmanager
def filming(spec: DQNTrainer, to: Path) -> Generator[Path]:
    """A folder to record episodes in, of which one file is made at the end; whole, or none."""
    if to.suffix not in FORMATS:
        raise UsageError(
            f"cannot write {to}: a video is a file that ends in {' or '.join(FORMATS)}"
        )
    for name, value in HEADLESS.items():
        os.environ.setdefault(name, value)
    refuse_unfilmed(spec)
    try:
        folder = tempfile.TemporaryDirectory(dir=to.parent, prefix=".film-")
    except OSError as error:
        raise unwritable(to, error) from error
    with folder:
        yield Path(folder.name)
        film = joined(Path(folder.name), to.suffix)
        try:
            os.replace(film, to)
        except OSError as error:
            raise unwritable(to, error) from error


def unwritable(to: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {to}: {error.strerror}. Name a file in a folder that exists and can be "
        f"written"
    )


def refuse_unfilmed(spec: DQNTrainer) -> None:
    """Refuse what cannot be recorded here, before anything is played."""
    try:
        import moviepy  # noqa: F401 (the recorder wants it, and would say so after an episode)
    except ImportError as error:
        raise UsageError(f"a video needs packages that are not here ({error}): {MEND}") from error
    plain = envs.make(spec)
    plain.close()
    modes = plain.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UsageError(
            f"{spec.env} draws no pictures for a video: its render modes are {list(modes)}, and "
            f"rgb_array is not among them. Play it without one"
        )
    try:
        env = envs.make(spec, render="rgb_array")
    except UsageError as error:
        raise UsageError(
            f"{spec.env} takes no render_mode: {error.__cause__}. Let it hand that on to the "
            f"environment it makes, or play without a video"
        ) from error
    try:
        env.reset(seed=0)
        frame = env.render()
    except (ImportError, DependencyNotInstalled) as error:
        raise UsageError(f"{spec.env} cannot be drawn here: {error}. Or: {MEND}") from error
    finally:
        env.close()
    if not isinstance(frame, np.ndarray):
        raise UsageError(
            f"{spec.env} draws {type(frame).__name__} where its render_mode is rgb_array, and a "
            f"video takes numpy arrays. Play it without one"
        )


def recorded(spec: DQNTrainer, folder: Path) -> gymnasium.Env:
    """An environment whose episode is a file in a folder of its own, once it is closed."""
    env = Visible(envs.make(spec, render="rgb_array"))
    return RecordVideo(env, str(folder), episode_trigger=lambda episode: True, gc_trigger=None)


class Visible(gymnasium.Wrapper):
    """Pictures of bytes, and of a size: MinAtar's have ten pixels a side, of fractions of 1."""

    def render(self):
        frame = np.asarray(self.env.render())
        if frame.dtype.kind == "f":
            frame = (255 * frame).round().astype(np.uint8)
        times = max(1, SMALLEST // min(frame.shape[:2]))
        return frame.repeat(times, axis=0).repeat(times, axis=1)


def joined(film: Path, suffix: str) -> Path:
    """One file of all recordings below a folder, in the order of their folders' numbers."""
    from imageio_ffmpeg import get_ffmpeg_exe

    parts = sorted(film.glob("*/*.mp4"), key=lambda part: int(part.parent.name))
    listed = [f"file '{part.relative_to(film).as_posix()}'\n" for part in parts]
    (film / "parts").write_text("".join(listed))
    whole = film / f"whole{suffix}"
    # From within the folder, as ffmpeg reads more into a path than its letters.
    words = ["-v", "error", "-f", "concat", "-i", "parts", *FORMATS[suffix], whole.name]
    done = subprocess.run(
        [get_ffmpeg_exe(), *words], cwd=film, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UsageError(f"the video could not be made: ffmpeg says {done.stderr.strip()}")
    return whole
