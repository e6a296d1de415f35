"""The loops that benchmarks/dqn.py is measured against, each in a file of its own.

All learn CartPole-v1 with two hidden layers of 128, batches of 64, Adam, gradients clipped to a
norm of 10 and a target network that is copied every 500 updates. Each has `train(updates)`, which
goes on from where it was and says how many updates it made: some loops cannot stop anywhere.
"""

EPSILON_STEPS = 4000
"""Environment steps, after the random ones, over which exploration falls from 1 to 0.05."""
RANDOM_STEPS = 1000
BUFFER = 100_000
BATCH = 64
HIDDEN = 128
LR = 5e-4
GAMMA = 0.99
CLIP = 10.0
SYNC = 500
