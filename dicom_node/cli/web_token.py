"""``dicom-node web-token NAME``: let somebody look at the web page, or act on it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dicom_node.cli.opened import open_config
from dicom_node.errors import ConfigurationError


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("web-token", help="a token with which to sign in to the web page")
    parser.add_argument("name", metavar="NAME", help="whose token it is; a former one ends")
    parser.add_argument("--role", choices=["viewer", "operator"], default="viewer",
                        help="viewer looks (default), operator also acts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write a line to ``web.tokens_file`` and print the token, which is shown this once only."""
    from dicom_node.operations.web.tokens import KEY_PATH, Role, add_token

    path = open_config(arguments).web.tokens_file
    if path is None:
        raise ConfigurationError(
            "found nothing, expected the file to write to, such as /etc/dicom-node/web-tokens",
            key_path=KEY_PATH,
        )
    print(add_token(path, arguments.name, Role(arguments.role)))
    print(f"dicom-node: {arguments.name} is {arguments.role} from now on; only a digest of the "
          f"token is kept, in {path}", file=sys.stderr)
    return 0
