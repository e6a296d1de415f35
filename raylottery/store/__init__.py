"""Where results live: finished rounds under their keys, and the tables derived from them."""

from raylottery.store.record import Failure as Failure
from raylottery.store.record import Record as Record
from raylottery.store.rounds import Store as Store
