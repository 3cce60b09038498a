"""``python -m knetc``: the command line."""

from knetc.cli import main

raise SystemExit(main())
