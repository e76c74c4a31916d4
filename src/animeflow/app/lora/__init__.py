"""From a folder of pictures to a LoRA: look, choose, tell, train. It writes the words that scripts use and runs their verbs."""
