"""Readers of what people have about tags: dumps of a booru, lists for completion, translations, tables of one's own."""
