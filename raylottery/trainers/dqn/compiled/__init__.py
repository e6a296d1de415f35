"""The fast engine: DQN in compiled code, at a cost that falls with density.

`loops` is what is compiled, over the kernel; `games` are environments, and `chance` is what they
and the agent draw. The rest readies arrays for that, and gives names to what comes out.
"""

from __future__ import annotations

from raylottery.trainers.dqn.compiled.trainer import CompiledDQN


__all__ = ["CompiledDQN"]
