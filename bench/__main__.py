"""``make bench``: every measurement, one after the other, with the arguments given."""

from __future__ import annotations

from bench import receive


def main() -> None:
    """Run all measurements with the arguments given."""
    receive.main()


if __name__ == "__main__":
    main()
