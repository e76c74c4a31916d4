"""Floor 5: how fast it is. A part of the house against a limit of the machine or a peer, interleaved in one run. Knows all rooms
below; knows no config file."""
