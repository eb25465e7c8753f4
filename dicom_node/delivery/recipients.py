"""Which peer a destination means: a peer by its name, or the one that sent the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.config import SENDER, Config, PeerSettings

if TYPE_CHECKING:
    from dicom_node.ledger.replanning import Recipient


def lane_of(config: Config, destination: str, sender_ae_title: str) -> str:
    """The name of the peer that a destination means; the destination itself where none is known."""
    if destination != SENDER or not sender_ae_title:
        return destination
    for name, peer in config.peers.items():
        if peer.ae_title == sender_ae_title:
            return name
    return destination


def recipient_of(config: Config, peer: PeerSettings) -> Recipient:
    """A peer as the ledger has to know it, to find what waits for it under either name."""
    # The command line asks whom `sender` means, and starts without a database library.
    from dicom_node.ledger.replanning import Recipient

    is_sender = lane_of(config, SENDER, peer.ae_title) == peer.name
    return Recipient(peer.name, peer.ae_title if is_sender else "")
