"""Floor 2: families (backbone, codec, text tower) and what learns. The door to diffusers, transformers and peft."""
