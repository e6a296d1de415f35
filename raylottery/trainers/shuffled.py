"""Studies with shuffled data, as in shuffled-pixels and shuffled-labels controls."""

from __future__ import annotations

from raylottery.spec import Round, Sweep, derive_seed


def shuffled(study: Sweep, round: Round) -> Sweep:
    """The study with its data shuffled as the control of a round has them."""
    seed = derive_seed("shuffle", round.seed, round.index, round.draw)
    update = {"shuffle": round.shuffles, "shuffle_seed": seed}
    trainer = study.trainer.model_copy(update=update)
    return study.model_copy(update={"trainer": trainer})
