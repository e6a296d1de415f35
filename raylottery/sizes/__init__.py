"""What follows from the shapes of a network alone: names and whole numbers, without a tensor.

So a plan is told in a moment, and what it foretells is what pruning does: both count here.
"""
