"""The compiled kernel's protocol, which enters the keys of all that it trains."""

KERNEL_PROTOCOL = 1
"""`raylottery.kernel.PROTOCOL`, told here again: a spec loads no Numba."""
