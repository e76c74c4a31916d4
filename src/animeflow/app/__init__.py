"""Floor 5: wiring. The only room that knows Hydra and the command line: config in, objects of the other rooms out."""
