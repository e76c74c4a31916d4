"""The table of posts: what was found, taken, refused and why; and readers of other people's folders.

Knows files and facts; knows no tensor and no shard.
"""
