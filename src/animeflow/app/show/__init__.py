"""What a file or folder is, in words."""
