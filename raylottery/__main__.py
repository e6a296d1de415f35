"""`python -m raylottery`, where the command is not on the path."""

import sys

from raylottery.cli import main


sys.exit(main())
