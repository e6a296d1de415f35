"""The compiled engine: dense layers in machine code, at a cost that falls with density."""

from raylottery.trainers.classifier.compiled.trainer import CompiledClassifier


__all__ = ["CompiledClassifier"]
