"""`play`: the episodes behind a score again, from a store that is made by hand."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe

from raylottery.cli import main
from raylottery.driver.play import play
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import DQNTrainer, dump_sweep, lineages, parse_sweep
from raylottery.store import Store, layout
from raylottery.store.tickets import pack
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn import envs, nets, video
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds, greedy


AGENT = """
name: agent
trainer: {kind: dqn, env: CartPole-v1, hidden: [16], length: 2000ts}
prune: {fraction: 0.5, rounds: 1}
eval: {final: 7}
seeds: [0]
controls: [reinit]
"""
CLASSIFIER = """
name: classifier
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
ZERO = ("score_at_stop", "score_best", "score_late", "score_area", "train_score", "loss")
COUNTS = ("prunable", "kept", "total_params", "steps", "env_steps", "revived")
RESULT = {
    **dict.fromkeys(ZERO, 0.0),
    **dict.fromkeys(COUNTS, 0),
    "density": 1.0,
    "metric": "return",
    "supermask_score": None,
    "stopped_by": "length",
    "stop_step": None,
    "digests": {},
}


def weights_of(spec: DQNTrainer, seed: int) -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.build(spec, envs.spaces(spec)).state_dict()


def score_of(spec: DQNTrainer, weights: Weights, count: int) -> float:
    """As a trainer takes it: all episodes side by side."""
    net = nets.build(spec, envs.spaces(spec))
    net.load_state_dict(dict(weights))
    with closing(Arena(spec, evaluation_seeds(count))) as arena:
        return math.fsum(episode.total for episode in arena.play(greedy(net))) / count


@pytest.fixture
def made(tmp_path) -> Callable[..., Store]:
    """Makes a store that holds the dense round, as if it had been trained."""

    def make(text: str = AGENT, score: float | None = None, **stopped: Weights) -> Store:
        store = Store.open(tmp_path / "store")
        sweep = parse_sweep(text)
        store.files.write(layout.sweep_file(sweep.name), dump_sweep(sweep).encode())
        [line] = lineages(sweep)
        sections: dict[str, Weights] = dict(stopped)
        if isinstance(sweep.trainer, DQNTrainer):
            sections["trained"] = weights_of(sweep.trainer, 0)
            if score is None:
                score = score_of(sweep.trainer, sections["trained"], sweep.eval.final)
        now = datetime.now(UTC)
        store.commit(
            line.rounds[0],
            files={"ticket.safetensors": pack(sections)},
            result={**RESULT, "score": 0.0 if score is None else score},
            sweep=sweep.name,
            attempt=1,
            seconds=1.0,
            started_at=now,
            finished_at=now,
            device="cpu",
        )
        return store

    return make


def test_all_episodes_come_to_the_recorded_score_to_the_bit(made):
    found = play("agent", "", 0, "ticket", made())
    assert [episode.seed for episode in found.episodes] == evaluation_seeds(7)
    assert len({episode.total for episode in found.episodes}) > 1
    assert found.whole
    assert found.mean == found.score


def test_the_first_episodes_are_those_of_all(made):
    store = made()
    every = play("agent", "", 0, "ticket", store).episodes
    for count in (1, 3):
        found = play("agent", "", 0, "ticket", store, episodes=count)
        assert found.episodes == every[:count]
        assert not found.whole


def test_the_trained_weights_are_played_and_not_those_at_a_stop(made):
    spec = parse_sweep(AGENT).trainer
    assert isinstance(spec, DQNTrainer)
    stopped = weights_of(spec, 2)
    assert score_of(spec, stopped, 7) != score_of(spec, weights_of(spec, 0), 7)
    found = play("agent", "", 0, "ticket", made(stopped=stopped))
    assert found.mean == found.score


def told(capsys, store: Store, *words: object, code: int = 0) -> str:
    """What the command says, on stdout or, where it refuses, on stderr."""
    capsys.readouterr()
    asked = ["play", "agent", "", "0", *map(str, words), "--store", store.uri]
    assert main(asked) == code
    out, err = capsys.readouterr()
    assert (err if code == 0 else out) == ""
    return err if code else out


def test_the_command_prints_each_episode_and_that_the_score_is_the_same(made, capsys):
    store = made()
    found = play("agent", "", 0, "ticket", store)
    head, *rows, last = told(capsys, store).splitlines()
    assert head.split() == ["episode", "seed", "return", "steps"]
    assert [row.split() for row in rows] == [
        [str(number), str(episode.seed), f"{episode.total:g}", str(episode.steps)]
        for number, episode in enumerate(found.episodes, start=1)
    ]
    assert last == f"mean: {found.mean:.10g}, the same as recorded"


def test_the_command_says_where_the_score_is_another(made, capsys):
    said = told(capsys, made(score=123.5)).splitlines()[-1]
    assert "it differs from the recorded score, 123.5, which raylottery" in said


def test_the_command_compares_no_mean_of_some_with_the_score_of_all(made, capsys):
    store = made()
    *rows, last = told(capsys, store, "--episodes", 2).splitlines()
    assert len(rows) == 3
    score = play("agent", "", 0, "ticket", store).score
    assert last.endswith(f"; the recorded score, {score:.10g}, is the mean of all 7 episodes")


def test_playing_loads_no_ray(made):
    asked = ["play", "agent", "", "0", "--episodes", "1", "--store", made().uri]
    script = f"""
import sys
from raylottery.cli import main
assert main({asked!r}) == 0
assert "torch" in sys.modules and "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


# What is refused


def test_a_classifier_plays_no_episodes(made):
    with pytest.raises(UsageError, match="trains a classifier, which plays no episodes"):
        play("classifier", "", 0, "ticket", made(CLASSIFIER))


@pytest.mark.parametrize("count", [0, -1, 8])
def test_other_episodes_than_the_scores_are_refused(made, count):
    with pytest.raises(UsageError, match=r"mean of 7 episodes .* say 1 to 7"):
        play("agent", "", 0, "ticket", made(), episodes=count)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("agnet", "", 0, "ticket"), "Did you mean 'agent'"),
        (("agent", "zz", 0, "ticket"), "no lineage begins with 'zz'"),
        (("agent", "", 2, "ticket"), "no round 2"),
        (("agent", "", 1, "reinitt"), "Did you mean 'reinit'"),
        (("agent", "", 1, "reinit"), "not trained yet"),
    ],
)
def test_a_round_that_is_not_there_is_named(made, where, said):
    with pytest.raises(NotFoundError, match=said):
        play(*where, made())


# Videos


def frames(file: Path) -> list[np.ndarray]:
    """All of a video, by ffmpeg itself: moviepy's reader may leave its pipes open."""
    about = subprocess.run(
        [get_ffmpeg_exe(), "-i", str(file)], capture_output=True, text=True, check=False
    ).stderr
    width, height = map(int, re.search(r" (\d{2,})x(\d{2,})", about).groups())  # ty: ignore
    words = ["-v", "error", "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run([get_ffmpeg_exe(), *words], capture_output=True, check=True).stdout
    return list(np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3))


def pictures(seed: int) -> list[np.ndarray]:
    """What a greedy episode looks like."""
    spec = parse_sweep(AGENT).trainer
    assert isinstance(spec, DQNTrainer)
    net = nets.build(spec, envs.spaces(spec))
    net.load_state_dict(dict(weights_of(spec, 0)))
    env = envs.make(spec, render="rgb_array")
    obs, over, drawn = env.reset(seed=seed)[0], False, []
    while not over:
        drawn.append(env.render())
        action = int(net(torch.from_numpy(obs[None])).argmax())
        obs, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    drawn.append(env.render())
    env.close()
    return drawn


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """How far two pictures are from each other, of 255, in the pixels that are not white."""
    drawn = (a.min(axis=2) < 200) | (b.min(axis=2) < 200)
    return float(np.abs(a.astype(float) - b.astype(float))[drawn].mean())


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_shows_the_episodes_one_after_the_other(made, weird_path, capsys, suffix):
    store, file = made(), weird_path / f"film{suffix}"
    file.write_text("an older one")
    said = told(capsys, store, "--episodes", 2, "--video", file)
    assert said.splitlines()[:3] == told(capsys, store, "--episodes", 2).splitlines()[:3]
    assert said.splitlines()[-1].startswith(f"wrote {file} (")
    assert list(weird_path.iterdir()) == [file]

    shown = frames(file)
    episodes = [pictures(seed) for seed in evaluation_seeds(2)]
    expected = [frame for episode in episodes for frame in episode]
    # The recorder lets go of a last frame now and then.
    assert len(expected) - 4 <= len(shown) <= len(expected)
    assert apart(shown[0], expected[0]) < 30 < apart(shown[0], expected[len(episodes[0]) - 1])
    middle = len(episodes[0]) // 2
    assert apart(shown[middle], expected[middle]) < 30


def test_small_pictures_of_fractions_are_made_visible():
    spec = DQNTrainer.model_validate(
        {"kind": "dqn", "env": "MinAtar/Breakout-v1", "model": "minatar", "length": "1it"}
    )
    with closing(video.Visible(envs.make(spec, render="rgb_array"))) as env:
        env.reset(seed=0)
        frame = env.render()
    assert (frame.dtype, frame.shape) == (np.uint8, (160, 160, 3))
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 2
    assert frame.max() > 100
    assert (frame[:16, :16] == frame[0, 0]).all(), "whole pixels"


@pytest.fixture
def refused(made, tmp_path) -> Callable[..., str]:
    """Asks for a video that is refused, and leaves nothing behind; what it says."""

    def ask(to: Path, env: str = "CartPole-v1") -> str:
        store = made(AGENT.replace("CartPole-v1", env))
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UsageError) as caught:
            play("agent", "", 0, "ticket", store, episodes=1, video=to)
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return ask


def test_a_video_that_cannot_be_written_is_refused(refused, tmp_path):
    assert "ends in .mp4 or .gif" in refused(tmp_path / "film.avi")
    assert "ends in .mp4 or .gif" in refused(tmp_path / "film")
    assert "a folder that exists" in refused(tmp_path / "no" / "film.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert "Is a directory" in refused(tmp_path / "folder.mp4")


def test_a_video_is_whole_or_not_there(refused, tmp_path, monkeypatch):
    before = tmp_path / "film.mp4"
    before.write_text("an older one")
    monkeypatch.setitem(video.FORMATS, ".mp4", ["-nonsense"])
    assert "ffmpeg says" in refused(before)
    assert before.read_text() == "an older one"


@pytest.mark.parametrize("module", ["moviepy", "pygame"])
def test_a_video_without_its_packages_is_refused_with_the_mend(
    refused, tmp_path, monkeypatch, module
):
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(tmp_path / "film.mp4")
    assert module in said
    assert "pip install 'raylottery[video]'" in said


def test_an_environment_that_draws_no_pictures_is_refused(refused, tmp_path, monkeypatch):
    assert "draws no pictures" in refused(tmp_path / "film.mp4", env="tests.games:ladder")
    deaf = SimpleNamespace(cartpole=lambda: gymnasium.make("CartPole-v1"))
    monkeypatch.setitem(sys.modules, "deaf", deaf)
    assert "takes no render_mode" in refused(tmp_path / "film.mp4", env="deaf:cartpole")
