"""What the columns of a plan mean: one row of whole numbers for each layer.

All numbers of a network lie in one flat array, and so do its gradients and moments, in the same
places: first the weights of all layers, then their biases. Activations lie neuron by neuron, and
in each neuron example by example: `rows` of `lanes` numbers.
"""

DENSE, SPARSE = 0, 1

PATH = 0
"""DENSE or SPARSE."""
INPUTS = 1
"""Neurons before the layer."""
OUTPUTS = 2
"""Neurons of the layer."""
WEIGHTS = 3
"""Where its weights begin."""
STRIDE = 4
"""Dense: from one neuron's weights to the next one's."""
BIASES = 5
"""Where its biases begin."""
BEFORE = 6
"""Row of activations where its inputs begin."""
AFTER = 7
"""Row of activations where its neurons begin."""
FAN_IN = 8
"""Sparse: where in the index its neurons are listed, then their weights."""
FAN_OUT = 9
"""Sparse: where in the index its inputs are listed, then their weights."""
MASK = 10
"""Dense: where its weights' mask begins; -1 if nothing is pruned."""
BIAS_MASK = 11
"""Where its biases' mask begins; -1 if none is pruned."""

SUM = 12
"""Row of activations where the sums of its neurons and of what they add to begin; -1 if they add
to nothing. Neuron i adds to input i."""

COLUMNS = 13
BLOCK = 16
"""Neurons and numbers of each layer are filled up to a multiple of this; the rest stays zero."""
