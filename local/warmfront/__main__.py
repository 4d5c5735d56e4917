"""`python -m warmfront`: the same as the `warmfront` command."""

import sys

from warmfront.cli.main import main

sys.exit(main())
