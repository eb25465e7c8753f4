"""``make bench``: every measurement, one after the other; arguments go to each of them."""

from __future__ import annotations

import sys

from bench import receive


def main() -> None:
    """Run all measurements with the arguments given."""
    sys.exit(receive.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
