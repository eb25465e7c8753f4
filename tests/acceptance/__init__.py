"""The node beside real peers."""
