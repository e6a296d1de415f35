"""DQN agents: the training, the networks, the environments, the replay."""
