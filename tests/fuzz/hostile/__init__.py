"""Hostile files, made by number: seeds drawn by program, changes to them, the doors they are brought to, and who watches."""
