"""Tags and captions: strings in, strings out. Knows boorus' names and categories; knows no picture, file or tokenizer."""
