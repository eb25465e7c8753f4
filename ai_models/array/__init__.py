"""Pure array functions on volumes: numpy and scipy only, no torch, no pydicom."""
